"""Scenes of overlapping handwritten digits on photographs.

Real handwritten digits (see `digits`) are enlarged, rotated, coloured and laid
over each other on crops of scikit-learn's two photographs. A scene knows every
digit's whole mask, its box, its class and which digit lies on top, so that
semantic and instance segmentation can both learn from it, without a download.

Digits and photograph regions of the test split are never seen in train.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import sklearn.datasets
import tensorflow_datasets as tfds
from PIL import Image
from scipy import ndimage

from segsiam_jax.data.builders import digits

# Photograph columns by split, as fractions of the width.
PHOTO_COLUMNS = {
  "train": (0.0, 0.6),
  "validation": (0.6, 0.75),
  "test": (0.75, 1.0),
}
# Every digit keeps at least this share of its pixels visible.
MIN_VISIBLE = 0.3

TRIMAP_CLASSES = ("background", "digit", "border")
DIGIT_CLASSES = ("background", *(str(digit) for digit in range(10)))


class Instance(NamedTuple):
  """One digit of a scene.

  Attributes:
    mask: (H, W) bool, the whole digit, hidden parts included.
    alpha: (H, W) float32 in [0, 1], its opacity.
    digit: its class, 0..9.
  """

  mask: np.ndarray
  alpha: np.ndarray
  digit: int


@dataclasses.dataclass(kw_only=True)
class DigitScenesConfig(tfds.core.BuilderConfig):
  """What a scene looks like.

  Attributes:
    semantic: 'trimap' (0 background, 1 digit, 2 border) or 'classes'
      (0 background, 1..10 the digits 0..9).
    size: height and width of a scene in pixels.
    min_digits: a scene has at least so many digits.
    max_digits: and at most so many.
    digit_size: smallest and largest side of the square that a digit's scan is
      enlarged to, in pixels.
    border: width of the trimap's border in pixels.
    num_scenes: number of scenes by split.
    seed: seed of everything random.
  """

  semantic: str
  size: int = 64
  min_digits: int = 1
  max_digits: int = 5
  digit_size: tuple[float, float] = (20.0, 40.0)
  border: int = 2
  num_scenes: dict[str, int] = dataclasses.field(
    default_factory=lambda: {"train": 2000, "validation": 200, "test": 400}
  )
  seed: int = 0

  @property
  def class_names(self) -> tuple[str, ...]:
    return TRIMAP_CLASSES if self.semantic == "trimap" else DIGIT_CLASSES


@functools.cache
def _photographs() -> tuple[np.ndarray, ...]:
  return tuple(sklearn.datasets.load_sample_images().images)


def _background(rng: np.random.Generator, split: str, size: int) -> np.ndarray:
  """A random square of a photograph, resized: (size, size, 3) float32."""
  photos = _photographs()
  photo = photos[rng.integers(len(photos))]
  height, width = photo.shape[:2]
  left, right = (round(width * part) for part in PHOTO_COLUMNS[split])
  side = rng.integers(min(48, right - left), min(height, right - left) + 1)
  y = rng.integers(height - side + 1)
  x = left + rng.integers(right - left - side + 1)
  crop = Image.fromarray(photo[y : y + side, x : x + side])
  resized = crop.resize((size, size), Image.Resampling.BILINEAR)
  return np.asarray(resized, np.float32)


def _place_digit(
  rng: np.random.Generator, scan: np.ndarray, config: DigitScenesConfig
) -> np.ndarray:
  """Opacity of a digit enlarged, rotated and moved: (size, size) float32."""
  scale = rng.uniform(*config.digit_size) / scan.shape[0]
  angle = np.deg2rad(rng.uniform(-30, 30))
  margin = 0.3 * config.digit_size[0]
  center = rng.uniform(margin, config.size - margin, size=2)
  # PIL maps output (x, y) to input: rotate back about the center, and shrink.
  cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
  padded = np.pad(scan, 2)
  middle = padded.shape[0] / 2
  coefficients = (
    cos,
    sin,
    middle - cos * center[0] - sin * center[1],
    -sin,
    cos,
    middle + sin * center[0] - cos * center[1],
  )
  enlarged = Image.fromarray(padded).transform(
    (config.size, config.size),
    Image.Transform.AFFINE,
    coefficients,
    resample=Image.Resampling.BICUBIC,
  )
  return np.clip((np.asarray(enlarged) - 0.3) / 0.4, 0.0, 1.0)


def _visible(instances: list[Instance]) -> list[np.ndarray]:
  """The part of each mask that no later instance covers."""
  covered = np.zeros_like(instances[0].mask)
  visible = []
  for instance in reversed(instances):
    visible.append(instance.mask & ~covered)
    covered |= instance.mask
  return visible[::-1]


def _draw_instances(
  rng: np.random.Generator, split: str, config: DigitScenesConfig
) -> list[Instance]:
  """Digits from the bottom to the top, none of them mostly hidden."""
  scans, classes = digits.load_digits()
  instances: list[Instance] = []
  for _ in range(rng.integers(config.min_digits, config.max_digits + 1)):
    index = rng.integers(*digits.SPLITS[split])
    # A digit that hides another, or leaves the scene, is placed anew.
    for _ in range(8):
      alpha = _place_digit(rng, scans[index], config)
      new = Instance(alpha > 0.5, alpha, int(classes[index]))
      if new.mask.sum() < 24:
        continue
      candidate = [*instances, new]
      shares = [
        seen.sum() / one.mask.sum()
        for seen, one in zip(_visible(candidate), candidate, strict=True)
      ]
      if min(shares) >= MIN_VISIBLE:
        instances = candidate
        break
  return instances


def _paint(
  rng: np.random.Generator, image: np.ndarray, instance: Instance
) -> np.ndarray:
  """Lays a digit over the image in a colour that differs from what is below."""
  below = image[instance.mask].mean(axis=0)
  contrast = rng.uniform(45, 140)
  brighter = below.mean() + contrast <= 255
  darker = below.mean() - contrast >= 0
  sign = 1.0 if brighter and (not darker or rng.random() < 0.5) else -1.0
  tint = rng.uniform(-40, 40, size=3)
  color = np.clip(below + sign * contrast + tint - tint.mean(), 0, 255)
  alpha = instance.alpha[..., None]
  return image * (1 - alpha) + color * alpha


def trimap(visible: list[np.ndarray], border: int) -> np.ndarray:
  """Digit 1, border 2, background 0: (H, W) uint8.

  The border is a band of `border` pixels around every digit, and where two
  digits touch or overlap, the line between them.

  Args:
    visible: the visible (H, W) bool masks.
    border: the band's width in pixels.
  """
  if not visible:
    raise ValueError("trimap needs at least one mask")
  cross = ndimage.generate_binary_structure(2, 1)
  inside = np.any(visible, axis=0)
  ids = np.zeros(inside.shape, np.int32)
  for number, mask in enumerate(visible, 1):
    ids[mask] = number
  lowest = ndimage.minimum_filter(np.where(ids == 0, 1 << 20, ids), size=3)
  highest = ndimage.maximum_filter(ids, size=3)
  between = inside & (lowest != highest)
  around = ndimage.binary_dilation(inside, cross, iterations=border) & ~inside
  return np.where(between | around, 2, inside).astype(np.uint8)


def make_scene(index: int, split: str, config: DigitScenesConfig) -> dict:
  """Scene number `index` of a split, as the builder's features."""
  seed = (config.seed, sorted(PHOTO_COLUMNS).index(split), index)
  rng = np.random.default_rng(seed)
  image = _background(rng, split, config.size)
  instances: list[Instance] = []
  while not instances:
    instances = _draw_instances(rng, split, config)
  for instance in instances:
    image = _paint(rng, image, instance)
  image += rng.normal(0.0, rng.uniform(0, 6), size=image.shape)

  visible = _visible(instances)
  if config.semantic == "trimap":
    label = trimap(visible, config.border)
  else:
    label = np.zeros(image.shape[:2], np.uint8)
    for instance, mask in zip(instances, visible, strict=True):
      label[mask] = instance.digit + 1
  objects = []
  for order, instance in enumerate(instances):
    ys, xs = np.nonzero(instance.mask)
    y1, x1, y2, x2 = ys.min(), xs.min(), ys.max() + 1, xs.max() + 1
    objects.append(
      {
        "mask": digits.png(instance.mask[y1:y2, x1:x2].astype(np.uint8)),
        "box": np.array([x1, y1, x2, y2], np.float32),
        "label": instance.digit,
        "order": order,
      }
    )
  return {
    "image": digits.png(np.clip(np.rint(image), 0, 255).astype(np.uint8)),
    "segmentation_mask": digits.png(label),
    "objects": objects,
    "id": index,
  }


class DigitScenes(tfds.core.GeneratorBasedBuilder):
  """Scenes with semantic and instance labels.

  Features: `image` (H, W, 3) uint8, `segmentation_mask` (H, W, 1) uint8 by
  builder config, and `objects`, from the bottom to the top: `mask` (h, w, 1)
  uint8 of the whole digit, cropped to its `box` (x1, y1, x2, y2) in pixels,
  `label` its digit and `order` its height in the pile.
  """

  VERSION = tfds.core.Version("1.0.0")
  BUILDER_CONFIGS = (
    DigitScenesConfig(
      name="trimap",
      description="background, digit, border",
      semantic="trimap",
    ),
    DigitScenesConfig(
      name="classes",
      description="background and the ten digits",
      semantic="classes",
    ),
    DigitScenesConfig(
      name="crowds",
      description="background and the ten digits, more of them, and larger",
      semantic="classes",
      size=96,
      min_digits=4,
      max_digits=9,
      digit_size=(20.0, 44.0),
    ),
  )

  def _info(self) -> tfds.core.DatasetInfo:
    config = self.builder_config
    return tfds.core.DatasetInfo(
      builder=self,
      description=__doc__,
      features=tfds.features.FeaturesDict(
        {
          "image": tfds.features.Image(shape=(config.size, config.size, 3)),
          "segmentation_mask": tfds.features.Image(
            shape=(config.size, config.size, 1)
          ),
          "objects": tfds.features.Sequence(
            {
              "mask": tfds.features.Image(shape=(None, None, 1)),
              "box": tfds.features.Tensor(shape=(4,), dtype=np.float32),
              "label": tfds.features.ClassLabel(num_classes=10),
              "order": np.int32,
            }
          ),
          "id": np.int32,
        }
      ),
      citation=digits.CITATION,
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    return {
      split: self._generate_examples(split, count)
      for split, count in self.builder_config.num_scenes.items()
    }

  def _generate_examples(self, split: str, count: int) -> Iterator:
    for index in range(count):
      yield index, make_scene(index, split, self.builder_config)
