"""Fields of folders of images with masks."""

import ml_collections

from segsiam_jax.fields.base import Fail, Field

FIELDS: dict[str, Field] = {
  "data.image_files": Field(
    "",
    "a folder's images, such as '{split}/images/**/*'; '' looks for the usual "
    "layouts",
  ),
  "data.mask_files": Field(
    "",
    "its masks, such as '{split}/masks/**/*_mask'; the * parts are alike, and "
    "{class} is each class of data.multilabel",
  ),
}


def check(config: ml_collections.ConfigDict, fail: Fail) -> None:
  """What no field can tell alone."""
  data = config.data
  patterns = (data.image_files, data.mask_files)
  if any(patterns) and data.name != "folder":
    fail("data.image_files", "only data.name = 'folder' takes patterns")
  if complaint := _complaint(patterns):
    fail("data.image_files", complaint)


def _complaint(patterns: tuple[str, str]) -> str:
  """What is wrong with a pattern of images and one of masks, or ''."""
  if not any(patterns):
    return ""
  if not all(patterns):
    return "give both image_files and mask_files, or neither"
  for pattern in patterns:
    folders, _, name = pattern.rpartition("/")
    if name.count("*") != 1:
      return f"{pattern!r}: expected one * in the file's name"
    if folders.count("*") != 2 * folders.endswith("**"):
      return f"{pattern!r}: expected no other * but **/ before the file's name"
  if ("{split}" in patterns[0]) != ("{split}" in patterns[1]):
    return "{split} is in only one of image_files and mask_files"
  return ""
