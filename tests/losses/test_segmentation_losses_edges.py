"""What all segmentation losses promise: masks, dtypes, jit, devices, errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from segsiam_jax import losses
from segsiam_jax.losses import SEGMENTATION_LOSSES, lovasz

every_loss = pytest.mark.parametrize(
  "loss", SEGMENTATION_LOSSES.values(), ids=SEGMENTATION_LOSSES
)


def example(rng, shape=(2, 4, 6), num_classes=3):
  logits = rng.normal(0, 2, (*shape, num_classes)).astype(np.float32)
  labels = rng.integers(0, num_classes, shape)
  labels[rng.uniform(size=shape) < 0.2] = 255
  return logits, labels.astype(np.uint8)


@functools.cache
def compile_once(loss):
  """`(logits, labels, where) -> (B,) values, gradient of their sum`."""

  def total(logits, labels, where):
    values = loss(logits, labels, where=where)
    return values.sum(), values

  return jax.jit(jax.grad(total, has_aux=True))


def evaluate(loss, logits, labels, where=None):
  """Values and gradient; always with a pixel mask, to compile once."""
  where = np.ones(labels.shape, bool) if where is None else where
  return compile_once(loss)(logits, labels, where)[::-1]


@every_loss
def test_nothing_valid(loss, rng):
  logits, labels = example(rng)
  labels[0] = 255
  logits[0, 0, 0] = (np.nan, np.inf, -np.inf)
  values, gradients = evaluate(loss, logits, labels)
  assert values[0] == 0 and np.isfinite(values[1]) and values[1] != 0
  assert not gradients[0].any() and gradients[1].any()


@every_loss
def test_where_is_like_ignore_label(loss, rng):
  logits, labels = example(rng)
  where = labels != 255
  expected, expected_gradient = evaluate(loss, logits, labels)
  kept = np.where(where, labels, 0).astype(np.uint8)
  values, gradient = evaluate(loss, logits, kept, where)
  np.testing.assert_allclose(values, expected, rtol=1e-6)
  np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-6)


def test_other_ignore_labels(rng):
  logits, labels = example(rng)
  loss = losses.softmax_cross_entropy
  expected, _ = evaluate(loss, logits, labels)
  signed = np.where(labels == 255, -1, labels.astype(np.int32))
  np.testing.assert_allclose(
    loss(logits, signed, ignore_label=-1), expected, rtol=1e-6
  )
  # Without an ignore label 255 is a class like any other.
  many = rng.normal(size=(1, 4, 256)).astype(np.float32)
  value = loss(many, np.full((1, 4), 255, np.uint8), ignore_label=None)
  np.testing.assert_allclose(
    value, -jax.nn.log_softmax(many)[..., 255].mean(1), rtol=1e-6
  )


@every_loss
def test_eager_bfloat16_and_example_mask(loss, rng):
  logits, labels = example(rng)
  rounded = jnp.asarray(logits, jnp.bfloat16)
  values = loss(rounded, labels, where=np.float32([0, 1]))
  assert values.dtype == jnp.float32
  where = np.ones(labels.shape, bool)
  where[0] = False
  expected, _ = evaluate(loss, np.float32(rounded), labels, where)
  assert values[0] == 0
  np.testing.assert_allclose(values, expected, rtol=1e-5)


@every_loss
def test_extreme_logits_have_finite_gradients(loss, rng):
  logits, labels = example(rng)
  right = 1e4 * (labels[..., None] == np.arange(3)).astype(np.float32)
  one_class = np.zeros_like(labels)
  for x, y in (
    (0 * logits, labels),
    (1e4 * logits, labels),
    (right, labels),
    (-right, labels),
    (logits, one_class),
    (-1e4 * np.abs(logits), one_class),
  ):
    values, gradients = evaluate(loss, x, y)
    assert np.isfinite(values).all() and np.isfinite(gradients).all()


@every_loss
def test_unknown_label_is_nan(loss, rng):
  logits, labels = example(rng)
  labels[1, 0, 0] = 3
  values, _ = evaluate(loss, logits, labels)
  assert np.isfinite(values[0]) and np.isnan(values[1])


@every_loss
def test_wrong_inputs(loss, rng):
  logits, labels = example(rng)
  with pytest.raises(ValueError, match="labels have shape"):
    loss(logits, labels[:, :2])
  with pytest.raises(TypeError, match="give integers"):
    loss(logits, labels.astype(np.float32))
  with pytest.raises(ValueError, match="one for each of the 3 classes"):
    loss(logits, labels, class_weights=(1.0, 2.0))
  with pytest.raises(ValueError, match="more axes"):
    loss(logits, labels, where=np.ones((2, 4, 6, 3, 1)))


def test_ruled_out_class():
  logits = np.array([[[0.0, 1.0, -np.inf]]], np.float32)
  labels = np.array([[0]])
  value, gradient = evaluate(losses.softmax_cross_entropy, logits, labels)
  np.testing.assert_allclose(value, [np.log(1 + np.e)], rtol=1e-6)
  assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
  "loss",
  [
    losses.sigmoid_cross_entropy,
    functools.partial(losses.focal_loss, activation="sigmoid", alpha=0.25),
    functools.partial(losses.dice_loss, activation="sigmoid"),
  ],
  ids=["sigmoid_cross_entropy", "focal_loss", "dice_loss"],
)
def test_binary_and_multilabel(loss, rng):
  logits, labels = example(rng, num_classes=1)
  binary = rng.integers(0, 2, labels.shape)
  np.testing.assert_allclose(
    loss(logits, binary[..., None]), loss(logits, binary == 1), rtol=1e-6
  )
  # Multilabel of one-hot labels is one class against the rest.
  logits, labels = example(rng)
  one_hot = np.eye(3, dtype=np.uint8)[np.minimum(labels, 2)]
  one_hot[labels == 255] = 255
  values, _ = evaluate(loss, logits, one_hot)
  np.testing.assert_allclose(values, loss(logits, labels), rtol=1e-5)
  # Every class may have its own ignored pixels.
  one_hot[0, ..., 1] = 255
  values, gradient = evaluate(loss, logits, one_hot)
  assert np.isfinite(values).all() and not gradient[0, ..., 1].any()


def test_one_class_needs_sigmoid(rng):
  logits, labels = example(rng, num_classes=1)
  with pytest.raises(ValueError, match="activation='sigmoid'"):
    losses.dice_loss(logits, labels)
  with pytest.raises(ValueError, match="leave include_background"):
    losses.dice_loss(
      logits, labels, activation="sigmoid", include_background=False
    )


@pytest.mark.parametrize(
  ("options", "loss"),
  [
    ({"activation": "tanh"}, losses.dice_loss),
    ({"absent": "zero"}, losses.dice_loss),
    ({"axis_name": "data"}, losses.dice_loss),
    ({"normalize": "mean"}, losses.softmax_cross_entropy),
    ({"hardest_fraction": 0.0}, losses.softmax_cross_entropy),
    ({"alpha": 0.25}, losses.focal_loss),
  ],
)
def test_wrong_options(options, loss, rng):
  with pytest.raises(ValueError, match=next(iter(options))):
    loss(*example(rng), **options)


@pytest.mark.parametrize("loss", [losses.dice_loss, losses.lovasz_softmax_loss])
def test_batch_is_one_long_image(loss, rng):
  logits, labels = example(rng)
  values = loss(logits, labels, batch=True)
  long = loss(logits.reshape(1, 8, 6, 3), labels.reshape(1, 8, 6))
  np.testing.assert_allclose(values, [long[0]] * 2, rtol=1e-5)


def test_batch_dice_on_devices(rng):
  """Sharded under jit, and psum'd under pmap: the loss of the whole batch."""
  logits, labels = example(rng, shape=(8, 4, 6))
  loss = functools.partial(losses.dice_loss, batch=True)

  def mean(logits, labels, axis_name=None):
    return loss(logits, labels, axis_name=axis_name).mean()

  value, expected = jax.jit(jax.value_and_grad(mean))(logits, labels)
  mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
  batch = NamedSharding(mesh, PartitionSpec("data"))
  sharded = jax.device_put((logits, labels), batch)
  jit_value, jit_gradient = jax.jit(jax.value_and_grad(mean))(*sharded)
  np.testing.assert_allclose(jit_value, value, rtol=1e-6)
  np.testing.assert_allclose(jit_gradient, expected, rtol=1e-5, atol=1e-8)

  parts = [array.reshape(4, 2, *array.shape[1:]) for array in (logits, labels)]
  pmapped = jax.pmap(
    jax.value_and_grad(functools.partial(mean, axis_name="data")),
    axis_name="data",
  )
  pmap_values, pmap_gradient = pmapped(*parts)
  np.testing.assert_allclose(pmap_values, [value] * 4, rtol=1e-6)
  # The transpose of psum sums over the 4 devices; a trainer's pmean undoes it.
  np.testing.assert_allclose(
    pmap_gradient.reshape(expected.shape) / 4, expected, rtol=1e-5, atol=1e-8
  )


def test_lovasz_sorted_and_binned_agree(rng):
  logits, labels = example(rng, shape=(2, 40, 50), num_classes=4)
  valid = (labels != 255).reshape(2, -1, 1)
  targets = np.eye(4, dtype=np.float32)[np.minimum(labels, 3)]
  targets = targets.reshape(2, -1, 4) * valid
  targets[..., 2] = 0  # an absent class
  probs = np.array(jax.nn.softmax(logits)).reshape(2, -1, 4)
  errors = np.where(valid, np.abs(targets - probs), 0)
  exact = jax.jit(lovasz._gradient_by_sort)(errors, targets, valid)
  binned = jax.jit(lovasz._gradient_by_bins)(errors, targets, valid)
  np.testing.assert_allclose(
    (errors * exact).sum(1), (errors * binned).sum(1), atol=2**-16
  )
  # Every derivative agrees but those of pixels that share a bin.
  close = np.isclose(exact, binned, rtol=1e-5, atol=1e-8)
  assert close.mean() > 0.9
  np.testing.assert_allclose(exact.sum(1), binned.sum(1), rtol=1e-4)


def brute_force_distances(mask):
  """Distance of every pixel to the nearest True one, in float64."""
  seeds = np.argwhere(mask)
  distances = np.zeros(mask.shape)
  for index in np.ndindex(mask.shape):
    distances[index] = np.sqrt(((seeds - index) ** 2).sum(1)).min()
  return distances


@pytest.mark.parametrize("shape", [(2, 9, 7), (1, 4, 5, 6)])
def test_boundary_loss(shape, rng):
  logits, _ = example(rng, shape=shape)
  labels = rng.integers(0, 2, shape)  # class 2 is absent
  probs = np.array(jax.nn.softmax(logits), np.float64)
  expected = []
  for b in range(shape[0]):
    values = []
    for k in range(2):
      inside = labels[b] == k
      signed = np.where(
        inside,
        1 - brute_force_distances(~inside),
        brute_force_distances(inside),
      )
      values.append((probs[b, ..., k] * signed).mean())
    expected.append(np.mean(values))
  np.testing.assert_allclose(
    losses.boundary_loss(logits, labels), expected, rtol=1e-5
  )
  maps = losses.signed_distance_maps(np.eye(3)[labels])
  np.testing.assert_allclose(
    losses.boundary_loss(logits, labels, distance_maps=maps),
    expected,
    rtol=1e-5,
  )


def test_unet_weight_map():
  instances = np.zeros((12, 15), int)
  instances[2:6, 1:5], instances[3:8, 7:12], instances[9:, 2:6] = 4, 9, 300
  first, second = np.sort(
    [brute_force_distances(instances == i) for i in (4, 9, 300)], axis=0
  )[:2]
  expected = 1 + 7 * np.exp(-((first + second) ** 2) / (2 * 3.0**2))
  weights = losses.unet_weight_map(instances, w0=7.0, sigma=3.0)
  assert weights.dtype == np.float32
  np.testing.assert_allclose(
    weights, np.where(instances == 0, expected, 1), rtol=1e-6
  )
  for few in (np.zeros((3, 4), int), np.eye(3, dtype=int)):
    assert (losses.unet_weight_map(few) == 1).all()


def test_combine(rng):
  logits, labels = example(rng)
  where = np.float32([1, 0])
  loss = losses.combine(
    {"softmax_cross_entropy": 2.0, "dice_loss": 0.5},
    options={"dice_loss": {"squared": True}},
  )
  expected = 2 * losses.softmax_cross_entropy(logits, labels, where=where)
  expected += 0.5 * losses.dice_loss(logits, labels, where=where, squared=True)
  np.testing.assert_allclose(
    jax.jit(loss)(logits, labels, where=where), expected, rtol=1e-5
  )
  with pytest.raises(ValueError, match="no segmentation loss 'dice'"):
    losses.combine({"dice": 1.0})
  with pytest.raises(ValueError, match="without a weight"):
    losses.combine({"dice_loss": 1.0}, {"focal_loss": {"gamma": 1.0}})
  with pytest.raises(ValueError, match="at least one loss"):
    losses.combine({})


def test_what_has_no_weight_adds_nothing():
  values = {"a": np.float32([1, 2]), "b": np.float32([np.inf, 3])}
  found = losses.weighted_sum(values, {"a": 0.5, "b": 0.0, "c": 9.0})
  np.testing.assert_array_equal(found, np.float32([0.5, 1]))
  assert found.dtype == np.float32
