import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from segsiam_jax.ops import augment
from segsiam_jax.ops.augment import Augmentation

EVERYTHING = Augmentation(
  flip_left_right=True,
  flip_up_down=True,
  scale=(0.5, 2.0),
  rotate=30.0,
  translate=0.1,
  elastic_sigma=2.0,
  brightness=0.2,
  contrast=(0.5, 1.5),
  noise=0.05,
)


def example(rng, size=(24, 20)):
  label = (rng.random(size) > 0.5).astype(np.uint8)
  image = np.repeat(label[..., None].astype(np.float32), 3, axis=-1)
  return jnp.asarray(image), jnp.asarray(label)


def test_nothing_is_the_identity(rng):
  image, label = example(rng)
  out = augment.augment(jax.random.key(0), image, label, Augmentation())
  np.testing.assert_array_equal(out[0], image)
  np.testing.assert_array_equal(out[1], label)


def test_sampling_equals_scipy(rng):
  image = rng.random((9, 12, 2)).astype(np.float32)
  ys, xs = rng.uniform(-6, 15, (2, 7, 5)).astype(np.float32)
  expected = np.stack(
    [
      ndimage.map_coordinates(image[..., k], [ys, xs], order=1, mode="mirror")
      for k in range(2)
    ],
    axis=-1,
  )
  sampled = jax.jit(augment.sample)(image, ys, xs)
  np.testing.assert_allclose(sampled, expected, atol=1e-5)
  label = rng.integers(0, 9, (9, 12))
  expected = ndimage.map_coordinates(label, [ys, xs], order=0, mode="mirror")
  sampled = jax.jit(augment.sample_nearest)(label, ys, xs)
  np.testing.assert_array_equal(sampled, expected)


def test_separable_sampling_equals_sampling(rng):
  image, label = example(rng)
  ys = jnp.asarray(rng.uniform(-3, 30, 11), jnp.float32)
  xs = jnp.asarray(rng.uniform(-3, 30, 13), jnp.float32)
  grid = jnp.meshgrid(ys, xs, indexing="ij")
  np.testing.assert_allclose(
    augment.sample_separable(image, ys, xs),
    augment.sample(image, *grid),
    atol=1e-6,
  )
  np.testing.assert_array_equal(
    augment.sample_separable_nearest(label, ys, xs),
    augment.sample_nearest(label, *grid),
  )


@pytest.mark.parametrize(
  "settings",
  [
    Augmentation(flip_left_right=True, flip_up_down=True),
    Augmentation(scale=(0.5, 2.0), translate=0.2),
    Augmentation(rotate=45.0, elastic_sigma=3.0, scale=(0.8, 1.25)),
  ],
)
def test_image_and_mask_move_together(rng, settings):
  """A smooth picture and its threshold still belong together."""
  smooth = ndimage.gaussian_filter(rng.normal(size=(48, 40)), 6)
  smooth = (smooth - smooth.min()) / np.ptp(smooth)
  label = jnp.asarray(smooth > 0.5, jnp.int32)
  image = jnp.asarray(smooth[..., None], jnp.float32)
  warp = jax.jit(augment.warp, static_argnums=3)
  moved = False
  for seed in range(4):
    out, out_label = warp(jax.random.key(seed), image, label, settings)
    agree = (out[..., 0] > 0.5) == (out_label == 1)
    assert agree.mean() > 0.96
    moved |= not np.allclose(out, image)
  assert moved


def test_key_decides_everything_and_values_stay_in_range(rng):
  image, label = example(rng)
  run = jax.jit(augment.augment, static_argnums=3)
  first = run(jax.random.key(1), image, label, EVERYTHING)
  again = run(jax.random.key(1), image, label, EVERYTHING)
  other = run(jax.random.key(2), image, label, EVERYTHING)
  np.testing.assert_array_equal(first[0], again[0])
  np.testing.assert_array_equal(first[1], again[1])
  assert not np.array_equal(first[0], other[0])
  assert first[0].min() >= 0 and first[0].max() <= 1
  assert first[1].dtype == label.dtype
  assert set(np.unique(first[1])) <= {0, 1}


def test_elastic_field_has_its_standard_deviation():
  draw = jax.jit(
    lambda key: augment.elastic_field(key, (12, 12), sigma=10.0, grid=12)
  )
  fields = jnp.stack([draw(jax.random.key(seed)) for seed in range(20)])
  assert 9.0 < float(fields.std()) < 11.0


@pytest.mark.slow
@pytest.mark.parametrize("rotate", [0.0, 30.0])
def test_slices_of_a_volume_move_alike(rng, rotate):
  settings = EVERYTHING._replace(
    rotate=rotate, brightness=0.0, contrast=(1.0, 1.0), noise=0.0
  )
  image, label = example(rng)
  volume = jnp.stack([image, 1 - image, image])
  labels = jnp.stack([label, 1 - label, label])
  key = jax.random.key(3)
  moved, moved_labels, _ = augment.augment(key, volume, labels, settings)
  alone, alone_label, _ = augment.augment(key, image, label, settings)
  np.testing.assert_allclose(moved[0], alone, atol=1e-5)
  np.testing.assert_allclose(moved[1], 1 - alone, atol=1e-5)
  np.testing.assert_array_equal(moved_labels[2], alone_label)
  np.testing.assert_array_equal(moved_labels[1], 1 - alone_label)
  assert (alone != image).any()


def test_a_volume_has_one_contrast_and_noise_of_its_own(rng):
  image, label = example(rng)
  volume, labels = jnp.stack([image / 2] * 2), jnp.stack([label] * 2)
  key = jax.random.key(1)
  settings = Augmentation(brightness=0.2, contrast=(0.5, 1.5))
  same, _, _ = augment.augment(key, volume, labels, settings)
  np.testing.assert_array_equal(same[0], same[1])
  assert (same[0] != volume[0]).any()
  noisy, _, weights = augment.augment(
    key, volume, labels, Augmentation(noise=0.3), jnp.ones(labels.shape)
  )
  assert (noisy[0] != noisy[1]).any()
  np.testing.assert_array_equal(weights, 1.0)


def test_a_share_of_images_is_inverted(rng):
  image, _ = example(rng)
  settings = Augmentation(invert=0.25)
  keys = jax.random.split(jax.random.key(0), 400)
  out = jax.vmap(augment.adjust, (0, None, None))(keys, image, settings)
  inverted = np.isclose(out, 1 - image).all((1, 2, 3))
  assert (inverted | np.isclose(out, image).all((1, 2, 3))).all()
  assert 0.18 < inverted.mean() < 0.32
