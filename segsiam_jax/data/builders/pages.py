"""Pages of documents, drawn: text, headings, lists, tables, forms, figures.

The words are nonsense. Pages of one family share letterhead and layout, so that
only their content tells them apart. The font is Aileron, which ships in Pillow
(CC0). Everything follows from the random generators that are passed in.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# A4 upright.
HEIGHT, WIDTH = 320, 226

_SYLLABLES = [
  first + middle + last
  for first in (*"bdfgklmnrstv", "pr", "st", "tr", "")
  for middle in ("a", "e", "i", "o", "u", "ie", "ou")
  for last in ("", "", "", "n", "r", "s", "t", "nd")
]


class Style(NamedTuple):
  """What pages of a family have in common; lengths in pixels.

  Attributes:
    words: its vocabulary.
    margin: on all sides.
    size: of the text.
    spacing: of lines, in sizes.
    columns: of the text, 1 or 2.
    justified: whether lines end at one edge.
    centered: whether headings stand in the middle.
    ruled: whether headings are underlined.
    ink: grey level of the text.
    letterhead: seed of the letterhead; 0 for none.
    blocks: probability of each sort of block.
  """

  words: tuple[str, ...]
  margin: int
  size: float
  spacing: float
  columns: int
  justified: bool
  centered: bool
  ruled: bool
  ink: int
  letterhead: int
  blocks: np.ndarray


def draw_style(rng: np.random.Generator) -> Style:
  """The layout of a new family."""
  words = [
    "".join(
      _SYLLABLES[place]
      for place in rng.integers(0, len(_SYLLABLES), rng.choice([1, 1, 2, 2, 3]))
    )
    for _ in range(300)
  ]
  return Style(
    words=tuple(words),
    margin=int(rng.integers(12, 28)),
    size=rng.choice([6.0, 6.5, 7.0, 8.0, 9.0]),
    spacing=rng.uniform(1.2, 1.6),
    columns=int(rng.choice([1, 1, 2])),
    justified=bool(rng.random() < 0.5),
    centered=bool(rng.random() < 0.4),
    ruled=bool(rng.random() < 0.3),
    ink=int(rng.integers(0, 70)),
    letterhead=int(rng.integers(1, 2**31)) if rng.random() < 0.7 else 0,
    blocks=rng.dirichlet([6.0, 1.5, 1.5, 1.0, 0.8]),
  )


def draw_page(style: Style, rng: np.random.Generator) -> np.ndarray:
  """A page of a family with text of its own.

  Args:
    style: of the family.
    rng: of the text and of the order of blocks.

  Returns:
    (320, 226) uint8, ink on white paper.
  """
  page = Image.new("L", (WIDTH, HEIGHT), 255)
  draw = ImageDraw.Draw(page)
  top = style.margin
  if style.letterhead:
    top = _letterhead(draw, style)
  pen = _Pen(draw, style, rng, top)
  pen.heading(scale=1.7)
  if rng.random() < 0.5:
    pen.line_of_text(
      f"{pen.word()} {rng.integers(1, 31)}. "
      f"{rng.integers(1, 13)}. {rng.integers(1950, 2030)}"
    )
  blocks: list[Callable[[], None]] = [
    pen.paragraph, pen.bullets, pen.table, pen.form, pen.figure
  ]  # fmt: skip
  # The last page of a letter is not full.
  length = rng.integers(4, 12) if rng.random() < 0.3 else 40
  for _ in range(length):
    if rng.random() < 0.2:
      pen.heading(scale=1.2)
    blocks[rng.choice(len(blocks), p=style.blocks)]()
    if pen.full:
      break
  number = str(rng.integers(1, 200))
  draw.text((WIDTH / 2, HEIGHT - 8), number, style.ink, _font(6.0), anchor="mm")
  return np.asarray(page)


class _Pen:
  """Writes blocks one below another, column by column."""

  def __init__(
    self,
    draw: ImageDraw.ImageDraw,
    style: Style,
    rng: np.random.Generator,
    top: float,
  ):
    self._draw, self._style, self._rng = draw, style, rng
    self._top, self._y, self._column = top, float(top), 0
    self._bottom = HEIGHT - style.margin - 4
    gap = 8
    self._width = (
      WIDTH - 2 * style.margin - gap * (style.columns - 1)
    ) / style.columns
    self._lefts = [
      style.margin + (self._width + gap) * column
      for column in range(style.columns)
    ]

  @property
  def full(self) -> bool:
    return self._column >= len(self._lefts)

  @property
  def _left(self) -> float:
    return self._lefts[min(self._column, len(self._lefts) - 1)]

  def _take(self, height: float) -> float | None:
    """Room for so much, in this column or the next: its top, or None."""
    if self._y + height > self._bottom:
      self._column, self._y = self._column + 1, float(self._top)
    if self.full or self._y + height > self._bottom:
      return None
    self._y += height
    return self._y - height

  def word(self) -> str:
    # As in languages, few words are most of the text.
    place = int(len(self._style.words) * self._rng.random() ** 2.5)
    return self._style.words[place]

  def line_of_text(self, text: str, indent: float = 0.0) -> bool:
    size = self._style.size
    y = self._take(size * self._style.spacing)
    if y is not None:
      self._draw.text(
        (self._left + indent, y), text, self._style.ink, _font(size)
      )
    return y is not None

  def heading(self, scale: float) -> None:
    style = self._style
    size = style.size * scale
    words: list[str] = []
    for _ in range(self._rng.integers(1, 6)):
      longer = [*words, self.word().capitalize()]
      if not words or _length(" ".join(longer), size) < 0.9 * self._width:
        words = longer
    y = self._take(size * 2.0)
    if y is None:
      return
    x, anchor = self._left, "la"
    if style.centered:
      x, anchor = x + self._width / 2, "ma"
    # A stroke makes it bold.
    self._draw.text(
      (x, y + size * 0.3),
      " ".join(words),
      style.ink,
      _font(size),
      anchor=anchor,
      stroke_width=0.3,
    )
    if style.ruled:
      y += size * 1.6
      self._draw.line(
        [(self._left, y), (self._left + self._width, y)], style.ink
      )

  def paragraph(self) -> None:
    style = self._style
    count = int(self._rng.integers(12, 70))
    lines = self._wrap([self.word() for _ in range(count)], self._width)
    for number, line in enumerate(lines):
      last = number == len(lines) - 1
      if style.justified and not last and len(line) > 1:
        if not self._spread(line):
          return
      elif not self.line_of_text(" ".join(line)):
        return
    self._take(style.size * 0.6)

  def _wrap(self, words: list[str], width: float) -> list[list[str]]:
    space = _length(" ", self._style.size)
    lines, used = [[]], 0.0
    for word in words:
      length = _length(word, self._style.size)
      if lines[-1] and used + length > width:
        lines.append([])
        used = 0.0
      lines[-1].append(word)
      used += length + space
    return lines

  def _spread(self, words: list[str]) -> bool:
    size = self._style.size
    y = self._take(size * self._style.spacing)
    if y is None:
      return False
    lengths = [_length(word, size) for word in words]
    gap = (self._width - sum(lengths)) / (len(words) - 1)
    x = self._left
    for word, length in zip(words, lengths, strict=True):
      self._draw.text((x, y), word, self._style.ink, _font(size))
      x += length + gap
    return True

  def bullets(self) -> None:
    indent = self._style.size
    for _ in range(self._rng.integers(2, 6)):
      words = [self.word() for _ in range(self._rng.integers(2, 14))]
      for number, line in enumerate(self._wrap(words, self._width - indent)):
        if not self.line_of_text(" ".join(line), indent):
          return
        if number == 0:
          x, y = self._left + 2, self._y - self._style.size * 0.8
          self._draw.ellipse((x - 1, y - 1, x + 1, y + 1), self._style.ink)
    self._take(self._style.size * 0.6)

  def table(self) -> None:
    style, rng = self._style, self._rng
    rows, columns = int(rng.integers(3, 9)), int(rng.integers(2, 5))
    row = style.size * 1.6
    y = self._take(row * (rows + 0.8))
    if y is None:
      return
    edges = self._left + self._width * np.linspace(0, 1, columns + 1)
    grid = rng.random() < 0.6
    for number in range(rows + 1):
      if grid or number in (0, 1, rows):
        height = y + number * row
        self._draw.line([(edges[0], height), (edges[-1], height)], style.ink)
    for edge in edges if grid else ():
      self._draw.line([(edge, y), (edge, y + rows * row)], style.ink)
    for number in range(rows):
      for column, edge in enumerate(edges[:-1]):
        if number == 0 or column == 0:
          text = self.word()[:10]
        else:
          text = f"{rng.exponential(300):.{rng.integers(0, 3)}f}"
        self._draw.text(
          (edge + 2, y + number * row + 1), text, style.ink, _font(style.size)
        )

  def form(self) -> None:
    style = self._style
    for _ in range(self._rng.integers(2, 6)):
      label = self.word()[:12].title() + ":"
      if not self.line_of_text(label):
        return
      x = self._left + _length(label, style.size) + 3
      right = self._left + self._width
      self._draw.line([(x, self._y - 2), (right, self._y - 2)], style.ink)
      if self._rng.random() < 0.6 and right - x > 24:
        # Filled in by hand.
        count = 12
        xs = np.linspace(x + 2, x + self._rng.uniform(16, right - x - 4), count)
        ys = self._y - 4 + self._rng.normal(0, 2, count)
        self._draw.line(list(zip(xs, ys, strict=True)), style.ink, 1, "curve")
    self._take(style.size * 0.6)

  def figure(self) -> None:
    """A bar chart, or a picture's grey box with a shape."""
    style, rng = self._style, self._rng
    height = rng.uniform(30, 60)
    y = self._take(height + 6)
    if y is None:
      return
    left, right = self._left + 4, self._left + self._width - 4
    if rng.random() < 0.5:
      bars = int(rng.integers(3, 9))
      step = (right - left) / bars
      for bar in range(bars):
        top = y + height * rng.uniform(0.05, 0.9)
        x = left + bar * step
        self._draw.rectangle(
          (x, top, x + step * 0.7, y + height), int(rng.integers(40, 190))
        )
      self._draw.line([(left, y + height), (right, y + height)], style.ink)
    else:
      self._draw.rectangle(
        (left, y, right, y + height), int(rng.integers(120, 220)), style.ink
      )
      for _ in range(rng.integers(1, 4)):
        x1, x2 = np.sort(rng.uniform(left, right, 2))
        y1, y2 = np.sort(rng.uniform(y, y + height, 2))
        shape = (
          self._draw.ellipse if rng.random() < 0.5 else (self._draw.rectangle)
        )
        shape((x1, y1, x2, y2), int(rng.integers(20, 230)))


def _letterhead(draw: ImageDraw.ImageDraw, style: Style) -> float:
  """Logo, name and address, the same on all pages; where they end."""
  rng = np.random.default_rng(style.letterhead)
  left, top, side = style.margin, style.margin * 0.6, rng.uniform(14, 26)
  if rng.random() < 0.3:
    left = WIDTH - style.margin - side
  box = (left, top, left + side, top + side)
  shade = int(rng.integers(0, 160))
  if rng.random() < 0.5:
    draw.ellipse(box, shade)
  else:
    draw.rectangle(box, shade)
  middle = left + side / 2
  draw.polygon(
    [
      (middle + dx * side / 2, top + side / 2 + dy * side / 2)
      for dx, dy in rng.uniform(-0.9, 0.9, (3, 2))
    ],
    255,
  )
  words = list(rng.choice(style.words, 8))
  x, anchor = left + side + 5, "la"
  if left > WIDTH / 2:
    x, anchor = left - 5, "ra"
  name = " ".join(words[:2]).title()
  draw.text(
    (x, top), name, style.ink, _font(10.0), anchor=anchor, stroke_width=0.4
  )
  for number in range(2):
    line = " ".join(words[2 + 3 * number : 5 + 3 * number])
    draw.text(
      (x, top + 12 + 7 * number), line, style.ink, _font(5.5), anchor=anchor
    )
  bottom = top + max(side, 27) + 4
  if rng.random() < 0.5:
    draw.line(
      [(style.margin, bottom), (WIDTH - style.margin, bottom)], style.ink
    )
  return bottom + 6


@functools.lru_cache
def _font(size: float) -> ImageFont.FreeTypeFont:
  return ImageFont.load_default(size)


@functools.lru_cache(1 << 16)
def _length(text: str, size: float) -> float:
  return _font(size).getlength(text)
