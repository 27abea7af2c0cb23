"""README's picture, from the evaluation pictures of three finished runs.

python -m examples.results_picture RUNS docs/results.png

RUNS holds the workdirs unet_digits, maskrcnn_digits and siamese_digits.
"""

import pathlib
import sys

from PIL import Image, ImageDraw, ImageFont

HEIGHT, GAP, TITLE = 300, 12, 22
# Of each run: the picture, the part of it that is shown, and a title.
PARTS = {
  "unet_digits": (
    "eval_0*.png",
    (192, 0, 384, 192),
    "U-Net: image, labels, prediction",
  ),
  "maskrcnn_digits": (
    "eval_0*.png",
    (512, 0, 1024, 512),
    "Mask R-CNN: objects, objects found",
  ),
  "siamese_digits": (
    "eval_embeddings_*.png",
    (0, 0, 560, 560),
    "Siamese network: digits it never saw",
  ),
}


def main(runs: str, target: str) -> None:
  """Writes the picture."""
  panels = []
  for name, (pattern, box, title) in PARTS.items():
    file = max((pathlib.Path(runs) / name / "images").glob(pattern))
    with Image.open(file) as picture:
      part = picture.convert("RGB").crop(box)
    width = HEIGHT * part.width // part.height
    panels.append((part.resize((width, HEIGHT)), title))
  size = sum(part.width + GAP for part, _ in panels) - GAP
  canvas = Image.new("RGB", (size, HEIGHT + TITLE), "white")
  draw, left = ImageDraw.Draw(canvas), 0
  for part, title in panels:
    draw.text((left, 2), title, "black", ImageFont.load_default(14))
    canvas.paste(part, (left, TITLE))
    left += part.width + GAP
  canvas.save(target, optimize=True)


if __name__ == "__main__":
  main(*sys.argv[1:])
