import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segsiam_jax.ops.distort import Distortion, distort, turn

KEY = jax.random.key(0)


@pytest.fixture
def image(rng):
  return jnp.asarray(rng.uniform(size=(9, 9, 2)), jnp.float32)


def many(image, count=64, **settings):
  """(count, H, W, C) distorted with as many keys."""
  keys = jax.random.split(KEY, count)
  return np.asarray(
    jax.jit(jax.vmap(lambda key: distort(key, image, Distortion(**settings))))(
      keys
    )
  )


def test_nothing_changes_without_strengths(image):
  np.testing.assert_array_equal(distort(KEY, image, Distortion()), image)
  out = distort(KEY, image, Distortion(rotate=30.0, scale=(2, 3), chance=0.0))
  np.testing.assert_allclose(out, image, atol=1e-5)


def test_scale_is_of_rows_and_columns_apart():
  image = jnp.zeros((31, 31, 1)).at[13:18, 13:18].set(1.0)
  out = many(image, scale=(1.5, 2.5), fill="zero")
  heights, widths = out.max(2)[..., 0].sum(1), out.max(1)[..., 0].sum(1)
  for sides in (heights, widths):
    assert 7 < sides.min() < 9
    assert 11 < sides.max() < 13.5
  assert abs(np.corrcoef(heights, widths)[0, 1]) < 0.4


def test_shift_and_fill():
  image = jnp.ones((10, 10, 1))
  out = many(image, translate=0.3, fill="zero")
  rows = (out[..., 0].max(2) > 0.999).sum(1)
  assert rows.min() in (7, 8)
  np.testing.assert_allclose(many(image, translate=0.3), 1.0, rtol=1e-6)


def test_chance_is_of_each_part(image):
  out = many(image, count=200, translate=0.3, chance=0.5)
  still = np.isclose(out, image, atol=1e-6).all((1, 2, 3)).mean()
  assert 0.15 < still < 0.35


def test_rotation_and_shear_are_about_the_middle():
  line = jnp.zeros((21, 21, 1)).at[10].set(1.0)
  for settings in ({"rotate": 45.0}, {"shear": 0.5}):
    out = many(line, fill="zero", **settings)
    assert (out[:, 10, 10, 0] > 0.99).all()
    assert (out.std(0) > 0.1).sum() > 20


def test_flips_half():
  image = jnp.zeros((3, 4, 1)).at[0, 0].set(1.0)
  out = many(image, flip_left_right=True)
  assert set(np.unique(out[:, 0, 0] + out[:, 0, 3])) == {1.0}
  assert 0.3 < out[:, 0, 3].mean() < 0.7


def test_thickness_of_strokes():
  image = jnp.zeros((9, 9, 1)).at[3:6].set(1.0)
  out = many(image, thickness=1.0)
  rows = out[:, :, 4, 0].sum(1)
  assert 1.0 <= rows.min() < 1.3
  assert 4.7 < rows.max() <= 5.0
  assert ((out >= 0) & (out <= 1)).all()


def test_bends(image):
  out = many(image, elastic_sigma=1.0, elastic_grid=3)
  assert (np.abs(out - np.asarray(image)).mean((1, 2, 3)) > 0.02).all()


def test_photometry_stays_in_range(image):
  out = many(image, noise=0.5, brightness=0.4, contrast=(0.5, 2.0))
  assert ((out >= 0) & (out <= 1)).all()


@pytest.mark.parametrize(("mirrors", "count"), [(True, 8), (False, 4)])
def test_turns_are_all_there_and_exact(image, mirrors, count):
  keys = jax.random.split(KEY, 100)
  out = np.asarray(jax.vmap(lambda key: turn(key, image, mirrors))(keys))
  seen = {picture.tobytes() for picture in out}
  expected = {
    np.ascontiguousarray(np.rot90(base, k)).tobytes()
    for base in [np.asarray(image), np.asarray(image[:, ::-1])][: 1 + mirrors]
    for k in range(4)
  }
  assert seen == expected
  assert len(seen) == count
  with pytest.raises(ValueError, match="square"):
    turn(KEY, image[:4])
