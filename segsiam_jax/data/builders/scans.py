"""What a scanner or a camera makes of a page.

Everything follows from the random generators that are passed in.
"""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFilter


def scan(page: np.ndarray, rng: np.random.Generator) -> bytes:
  """What a flatbed scanner or a copier makes of a page.

  Askew by up to three degrees, shifted, with the lid's dark edge, dust,
  streaks, a spread or thinned ink and noise.

  Args:
    page: (H, W) uint8.
    rng: decides on all of it.

  Returns:
    A JPEG file of the same size, grey.
  """
  height, width = page.shape
  image = Image.fromarray(page)
  if rng.random() < 0.5:
    # Ink that ran, or a pale copy.
    kind = (
      ImageFilter.MinFilter if rng.random() < 0.5 else ImageFilter.MaxFilter
    )
    image = Image.blend(image, image.filter(kind(3)), rng.uniform(0.1, 0.5))
  lid = int(rng.choice([0, 60, 235, 255]))
  image = image.rotate(
    rng.uniform(-3, 3),
    Image.Resampling.BICUBIC,
    translate=(rng.uniform(-6, 6), rng.uniform(-8, 8)),
    fillcolor=lid,
  )
  image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.9)))
  pixels = np.asarray(image, np.float32)
  for column in rng.integers(0, width, rng.integers(0, 3)):
    pixels[:, column] -= rng.uniform(10, 60)
  gain, paper = rng.uniform(0.75, 1.3), rng.uniform(225, 255)
  pixels = paper - gain * (255 - pixels)
  pixels += rng.normal(0, rng.uniform(1, 9), (height, width))
  image = _to_image(pixels)
  draw = ImageDraw.Draw(image)
  for x, y in rng.uniform(0, 1, (rng.integers(0, 12), 2)) * (width, height):
    radius = rng.uniform(0.4, 1.2)
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), 60)
  return _jpeg(image, rng)


def photograph(page: np.ndarray, rng: np.random.Generator) -> bytes:
  """What a hand-held camera makes of a page on a table.

  Seen at an angle and turned by up to eight degrees, partly cut off, under
  uneven light with a shadow, with stains, out of focus and with noise.

  Args:
    page: (H, W) uint8.
    rng: decides on all of it.

  Returns:
    A JPEG file of the same size, grey.
  """
  height, width = page.shape
  image = Image.fromarray(page)
  if rng.random() < 0.4:
    image = _stained(image, rng)
  # Where the corners of the page are seen, from upper left to lower left.
  corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) - 0.5
  angle = np.deg2rad(rng.uniform(-8, 8))
  turn = np.array(
    [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
  )
  seen = corners * (width, height) @ turn.T * rng.uniform(0.85, 1.08)
  seen += rng.uniform(-0.05, 0.05, (4, 2)) * (width, height)
  seen += np.array([width, height]) * (0.5 + rng.uniform(-0.04, 0.04, 2))
  source = (corners + 0.5) * (width, height)
  back = _perspective(seen, source)
  table = _table(height, width, rng)
  view = np.asarray(
    image.transform(
      (width, height),
      Image.Transform.PERSPECTIVE,
      back,
      Image.Resampling.BICUBIC,
    ),
    np.float32,
  )
  inside = Image.new("L", image.size, 255).transform(
    (width, height), Image.Transform.PERSPECTIVE, back
  )
  share = np.asarray(inside, np.float32) / 255
  pixels = share * view * rng.uniform(0.8, 0.97) + (1 - share) * table
  pixels *= _light(height, width, rng)
  image = _to_image(pixels)
  image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.3)))
  pixels = np.asarray(image, np.float32)
  pixels += rng.normal(0, rng.uniform(2, 10), (height, width))
  return _jpeg(_to_image(pixels), rng)


def _perspective(seen: np.ndarray, source: np.ndarray) -> list[float]:
  """Pillow's eight coefficients: a seen point -> a point of the page."""
  rows = []
  for (x, y), (u, v) in zip(seen, source, strict=True):
    rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
    rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
  return np.linalg.solve(np.array(rows), source.ravel()).tolist()


def _table(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
  """The ground of a photograph: a grey level with grain along one side."""
  grain = rng.normal(0, rng.uniform(2, 20), (height, 1))
  grain = np.broadcast_to(grain, (height, width))
  return np.clip(rng.uniform(20, 190) + grain, 0, 255)


def _light(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
  """Brightness from one side to the other, with a shadow's soft edge."""
  ys, xs = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
  angle, steep = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.25)
  light = 1 - steep * (np.cos(angle) * xs + np.sin(angle) * ys)
  if rng.random() < 0.5:
    angle, edge = rng.uniform(0, 2 * np.pi), rng.uniform(-0.6, 0.8)
    depth, soft = rng.uniform(0.1, 0.45), rng.uniform(0.03, 0.4)
    beyond = np.cos(angle) * xs + np.sin(angle) * ys - edge
    light = light * (1 - depth / (1 + np.exp(-beyond / soft)))
  return light


def _stained(image: Image.Image, rng: np.random.Generator) -> Image.Image:
  """With the ring of a cup or a blot on it."""
  width, height = image.size
  stain = Image.new("L", image.size, 255)
  draw = ImageDraw.Draw(stain)
  for _ in range(rng.integers(1, 4)):
    x, y = rng.uniform(0, 1, 2) * (width, height)
    radius = rng.uniform(8, 35)
    box = (x - radius, y - radius, x + radius, y + radius)
    shade = int(rng.integers(140, 225))
    if rng.random() < 0.5:
      draw.ellipse(box, None, shade, int(rng.integers(2, 5)))
    else:
      draw.ellipse(box, shade)
  stain = stain.filter(ImageFilter.GaussianBlur(1.5))
  return Image.fromarray(
    (np.asarray(image, np.uint16) * np.asarray(stain) // 255).astype(np.uint8)
  )


def _to_image(pixels: np.ndarray) -> Image.Image:
  return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def _jpeg(image: Image.Image, rng: np.random.Generator) -> bytes:
  buffer = io.BytesIO()
  image.save(buffer, "JPEG", quality=int(rng.integers(25, 90)))
  return buffer.getvalue()
