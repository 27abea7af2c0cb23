"""Fields of augmentation that several tasks have."""

from segsiam_jax.fields.base import Field, pair, within

FLIP_UP_DOWN = Field(False, "flip half of the images vertically")

# Of every task.
COMMON: dict[str, Field] = {
  "augment.flip_left_right": Field(
    False, "flip half of the images horizontally"
  ),
  "augment.brightness": Field(
    0.0, "largest change; 1 is the full range", within(0, 1)
  ),
  "augment.contrast": Field(
    (1.0, 1.0),
    "smallest and largest factor",
    pair("two factors", 0, True, 1000),
  ),
  "augment.noise": Field(
    0.0, "largest sigma; 1 is the full range", within(0, 1)
  ),
}

# Of tasks that warp whole images.
WARP: dict[str, Field] = {
  "augment.rotate": Field(0.0, "largest rotation in degrees", within(0, 180)),
  "augment.translate": Field(
    0.0, "largest shift as a fraction of the size", within(0, 1)
  ),
  "augment.elastic_sigma": Field(
    0.0, "elastic deformation in pixels", within(0, 1e4)
  ),
}
