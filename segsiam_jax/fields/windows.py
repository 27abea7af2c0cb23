"""Fields of prediction in windows, for tasks that label every pixel."""

import ml_collections

from segsiam_jax.fields.base import Fail, Field, one_of, size, within

FIELDS: dict[str, Field] = {
  "predict.window": Field(
    (0, 0), "size of windows; (0, 0) predicts whole images", size(0)
  ),
  "predict.overlap": Field(
    0.5,
    "smallest fraction of a window that overlaps with the next",
    within(0, 0.95),
  ),
  "predict.blend": Field(
    "gaussian",
    "how windows are blended: weighted by a Gaussian with a sigma of an "
    "eighth, averaged, or a pixel from the window with the nearest center",
    one_of("gaussian", "constant", "center"),
  ),
  "predict.flips": Field(
    "",
    "flipped images to average over: '', 'horizontal' or 'all' axes",
    one_of("", "horizontal", "all"),
  ),
  "predict.batch_size": Field(
    4, "windows per batch, over all devices", within(1)
  ),
}


def check(config: ml_collections.ConfigDict, fail: Fail) -> None:
  """What no field can tell alone."""
  window, data = config.predict.window, config.data
  if any(window) and not all(window):
    fail("predict.window", "give every length, or zeros for whole images")
  if any(window) and len(window) != len(data.image_size):
    fail(
      "predict.window",
      f"data.image_size has {len(data.image_size)} numbers, so must this",
    )
  if any(window) and data.fit == "resize":
    fail(
      "predict.window",
      "windows show images at their own scale, but data.fit = 'resize' trains "
      "at another; if both are the same, set --config.data.fit=crop",
    )
