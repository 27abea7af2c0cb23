"""What a split names: 'NAME', 'NAME[a:b]' or 'NAME[part=a:b,part=!a:b]'."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from segsiam_jax.errors import UserError

_BOUNDS = r"!?-?\d{0,18}%?:-?\d{0,18}%?"
_SPLIT = re.compile(
  rf"(?P<name>[^\[\]]+)(?:\[(?P<parts>{_BOUNDS}|"
  rf"\w+={_BOUNDS}(?:,\w+={_BOUNDS})*)\])?"
)


class Split(NamedTuple):
  """A split, taken apart.

  Attributes:
    name: of the whole split.
    parts: 'a:b' by what is counted, '' where the split does not say.
  """

  name: str
  parts: Mapping[str, str]

  def part(self, items: list, of: str = "") -> list:
    """Those of `items` that the split selects; all if it does not say.

    Args:
      items: in the order of the data set.
      of: what they are, as the split calls it.
    """
    if of not in self.parts:
      return items
    start, stop = self.parts[of].removeprefix("!").split(":")

    def bound(text: str, default: int) -> int:
      if not text:
        return default
      if text.endswith("%"):
        return round(len(items) * int(text[:-1]) / 100)
      return int(text)

    chosen = slice(bound(start, 0), bound(stop, len(items)))
    if self.parts[of].startswith("!"):
      left_out = set(range(len(items))[chosen])
      return [item for n, item in enumerate(items) if n not in left_out]
    return items[chosen]


def parse(split: str, parts: tuple[str, ...] = ()) -> Split:
  """Takes a split apart.

  Args:
    split: counts or percentages select, as in TFDS; after '!' they leave out.
    parts: what may be counted; () if a split does not say, as 'train[:80%]'.

  Raises:
    UserError: it is not written so.

  >>> parse("train[20%:]").part(list("abcde"))
  ['b', 'c', 'd', 'e']
  >>> parse("all[people=1:3]", ("people",)).part(list("abcde"), "people")
  ['b', 'c']
  >>> parse("all[!1:3]").part(list("abcde"))
  ['a', 'd', 'e']
  """
  match = _SPLIT.fullmatch(split)
  forms = ["NAME"] + [f"NAME[{name}=a:b]" for name in parts]
  if not parts:
    forms += ["NAME[a:b]", "NAME[a%:b%]"]
  wrong = UserError(
    f"split {split!r}: write it as {', '.join(forms[:-1])} or {forms[-1]}"
  )
  if not match:
    raise wrong
  chosen = {}
  for text in (match["parts"] or "").split(",") if match["parts"] else ():
    name, _, bounds = text.rpartition("=")
    if name in chosen or name not in (parts or ("",)):
      raise wrong
    chosen[name] = bounds
  return Split(match["name"], chosen)
