import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segsiam_jax.models.unet_paper import (
  UNetPaper,
  input_size_for,
  output_size,
)


def shapes(model, size, channels=1):
  images = jax.ShapeDtypeStruct((1, *size, channels), jnp.float32)
  return jax.eval_shape(
    lambda x: model.init_with_output(
      jax.random.key(0), x, capture_intermediates=True
    ),
    images,
  )


def test_sizes_of_every_layer_are_figure_1_s():
  logits, variables = shapes(UNetPaper(2, pad="none"), (572, 572))
  assert logits.shape == (1, 388, 388, 2)
  outputs = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(
    variables["intermediates"]
  ):
    name = "/".join(entry.key for entry in path[:-2])
    if name.endswith(("conv1", "conv2")) or name.startswith("upconv"):
      outputs[name] = leaf.shape[1:]
  expected = {}
  for name, first, second, width in (
    ("down0", 570, 568, 64),
    ("down1", 282, 280, 128),
    ("down2", 138, 136, 256),
    ("down3", 66, 64, 512),
    ("bottom", 30, 28, 1024),
    ("up3", 54, 52, 512),
    ("up2", 102, 100, 256),
    ("up1", 198, 196, 128),
    ("up0", 390, 388, 64),
  ):
    expected[f"{name}/conv1"] = (first, first, width)
    expected[f"{name}/conv2"] = (second, second, width)
  for level, (size, width) in enumerate(
    ((392, 64), (200, 128), (104, 256), (56, 512))
  ):
    expected[f"upconv{level}"] = (size, size, width)
    # The dense layer that it is made of.
    expected[f"upconv{level}/conv"] = (size // 2, size // 2, 4 * width)
  assert outputs == expected


@pytest.mark.parametrize(
  ("channels", "classes", "expected"),
  [(1, 2, 31_030_658), (3, 2, 31_031_810), (3, 21, 31_033_045)],
)
def test_parameter_counts(channels, classes, expected):
  _, variables = shapes(UNetPaper(classes), (188, 188), channels)
  leaves = jax.tree.leaves(variables["params"])
  assert sum(leaf.size for leaf in leaves) == expected


def test_valid_sizes():
  assert output_size(572) == 388
  assert output_size(188) == 4
  valid = [size for size in range(188, 700) if (size - 188) % 16 == 0]
  for size in range(150, 700):
    if size in valid:
      assert output_size(size) == size - 184
    else:
      with pytest.raises(ValueError, match=f"cannot take {size} pixels"):
        output_size(size)
  for size in range(1, 500):
    least = input_size_for(size)
    assert output_size(least) >= size
    assert least == 188 or output_size(least - 16) < size
  with pytest.raises(ValueError, match="cannot take 180 pixels; next is 188"):
    output_size(180)


@pytest.mark.parametrize("size", [(1, 1), (5, 70), (64, 64), (388, 389)])
def test_mirrored_images_have_logits_everywhere(size):
  logits, _ = shapes(UNetPaper(3, base_width=2), size, 3)
  assert logits.shape == (1, *size, 3)
  assert logits.dtype == jnp.float32


@pytest.mark.slow
def test_mirror_is_what_lies_around(rng):
  """Logits of an image are those of its mirror images' middle."""
  image = jnp.asarray(rng.normal(size=(1, 4, 3, 1)), jnp.float32)
  mirrored, valid = UNetPaper(2, 2), UNetPaper(2, 2, pad="none")
  variables = jax.jit(mirrored.init)(jax.random.key(0), image)
  rows = np.abs((np.arange(-92, 96) + 3) % 6 - 3)
  columns = np.abs((np.arange(-92, 96) + 2) % 4 - 2)
  around = image[:, rows][:, :, columns]
  expected = valid.apply(variables, around)
  assert expected.shape == (1, 4, 4, 2)
  np.testing.assert_allclose(
    mirrored.apply(variables, image), expected[:, :, :3], atol=1e-5
  )


def test_initial_weights_have_he_s_variance():
  model = UNetPaper(2, base_width=16)
  x = jnp.zeros((1, 4, 4, 1))
  params = jax.jit(model.init)(jax.random.key(0), x)["params"]
  for kernel in (
    params["down3"]["conv2"]["kernel"],
    params["up3"]["conv1"]["kernel"],
  ):
    fan_in = np.prod(kernel.shape[:3])
    assert np.std(kernel) == pytest.approx(np.sqrt(2 / fan_in), rel=0.02)
    assert np.mean(kernel) == pytest.approx(0, abs=1e-3)


def test_dropout_in_training():
  def dropped(model):
    return str(
      jax.make_jaxpr(
        lambda x, key: model.init_with_output(
          {"params": key, "dropout": key}, x, True
        )[0]
      )(jnp.zeros((1, 4, 4, 1)), jax.random.key(0))
    )

  assert "bernoulli" in dropped(UNetPaper(2, 2))
  assert "bernoulli" not in dropped(UNetPaper(2, 2, dropout=0.0))


def test_unknown_padding_is_named():
  with pytest.raises(ValueError, match="pad 'same' is not one of"):
    shapes(UNetPaper(2, pad="same"), (8, 8))
