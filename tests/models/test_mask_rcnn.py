"""Mask R-CNN's contract, and that it learns."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segsiam_jax.models.mask_rcnn import FORMS, MaskRCNN
from segsiam_jax.models.roi_heads import BoxHead
from segsiam_jax.models.rpn import RPNHead
from tests.cells import SMALL

SIZE = 64


def shapes(model, size=SIZE):
  return jax.eval_shape(
    lambda: model.init(
      jax.random.key(0), jnp.zeros((1, size, size, 3)), jnp.full((1, 2), size)
    )
  )


def initial(model):
  return jax.jit(model.init)(
    jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)), jnp.full((1, 2), SIZE)
  )


@pytest.mark.parametrize(
  ("form", "with_masks", "count"),
  [
    ("v1", True, 44_401_393),
    ("v2", True, 46_359_409),
    ("v1", False, 41_755_286),
    ("v2", False, 43_712_278),
  ],
)
def test_parameter_counts_are_torchvisions(form, with_masks, count):
  model = MaskRCNN(91, with_masks, **FORMS[form])
  params = shapes(model)["params"]
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


def squares(rng, batch):
  """Bright squares of three colours; the last image has none."""
  images = rng.normal(0, 0.1, (batch, SIZE, SIZE, 3)).astype(np.float32)
  boxes = np.zeros((batch, 3, 4), np.float32)
  classes = np.ones((batch, 3), np.int32)
  valid = np.zeros((batch, 3), bool)
  for row in range(batch - 1):
    for slot in range(1 + row % 2):
      x, y = rng.integers(0, 24, 2) + [32 * slot, 0]
      side = rng.integers(12, 24)
      kind = rng.integers(0, 3)
      images[row, y : y + side, x : x + side, kind] += 2.0
      boxes[row, slot] = np.clip([x, y, x + side, y + side], 0, SIZE)
      classes[row, slot], valid[row, slot] = kind + 1, True
  targets = {"boxes": boxes, "classes": classes, "valid": valid}
  targets["masks"] = np.ones((batch, 3, 14, 14), np.float32)
  return images, np.full((batch, 2), SIZE), targets


def losses_of(model, variables, images, sizes, targets, keys):
  return model.apply(
    variables, images, sizes, targets, keys, True, mutable=["batch_stats"]
  )


def test_detections_keep_the_contract(rng):
  model = MaskRCNN(**SMALL)
  images, _, _ = squares(rng, 2)
  sizes = jnp.array([[64, 64], [40, 50]])
  found = jax.jit(model.apply)(initial(model), images, sizes)
  assert {name: (x.shape, x.dtype) for name, x in found.items()} == {
    "boxes": ((2, 6, 4), jnp.float32),
    "classes": ((2, 6), jnp.int32),
    "scores": ((2, 6), jnp.float32),
    "valid": ((2, 6), bool),
    "masks": ((2, 6, 28, 28), jnp.float32),
  }
  assert found["valid"].any()
  assert (np.diff(found["scores"], axis=1) <= 0).all()
  assert (found["boxes"][1, :, 2] <= 50).all()
  assert (found["boxes"][1, :, 3] <= 40).all()
  classes = np.asarray(found["classes"])
  assert ((classes >= 1) & (classes <= 3))[np.asarray(found["valid"])].all()
  assert ((found["masks"] >= 0) & (found["masks"] <= 1)).all()


@pytest.mark.slow
def test_without_masks_there_are_none(rng):
  model = MaskRCNN(**SMALL | {"with_masks": False, "nms": "gaussian"})
  images, sizes, targets = squares(rng, 2)
  variables = initial(model)
  assert "mask_head" not in variables["params"]
  found = jax.jit(model.apply)(variables, images, sizes)
  assert "masks" not in found
  assert found["valid"].any()
  del targets["masks"]
  keys = jax.random.split(jax.random.key(0), 2)
  losses, _ = jax.jit(functools.partial(losses_of, model))(
    variables, images, sizes, targets, keys
  )
  assert set(losses) == {"rpn_objectness", "rpn_box", "roi_class", "roi_box"}


@pytest.fixture(scope="module")
def trained():
  """A model after some steps on squares, its losses before and after."""
  rng = np.random.default_rng(0)
  model = MaskRCNN(**SMALL | {"head_norm": "batch"})
  variables = initial(model)
  tx = optax.adam(3e-3)

  @jax.jit
  def step(variables, opt_state, batch, key):
    def loss(params):
      keys = jax.random.split(key, len(batch[0]))
      losses, state = losses_of(
        model, variables | {"params": params}, *batch, keys
      )
      return sum(part.mean() for part in losses.values()), (losses, state)

    (_, (losses, state)), gradient = jax.value_and_grad(loss, has_aux=True)(
      variables["params"]
    )
    updates, opt_state = tx.update(gradient, opt_state)
    params = optax.apply_updates(variables["params"], updates)
    return {"params": params, **state}, opt_state, losses, gradient

  opt_state, history = tx.init(variables["params"]), []
  for number in range(60):
    batch = squares(rng, 6)
    variables, opt_state, losses, gradient = step(
      variables, opt_state, batch, jax.random.key(number)
    )
    history.append({name: float(x.mean()) for name, x in losses.items()})
  return model, variables, history, losses, gradient


@pytest.mark.slow
def test_losses_fall_and_stay_finite(trained):
  _, _, history, losses, gradient = trained
  first, last = history[0], history[-1]
  assert set(first) == {
    *("rpn_objectness", "rpn_box", "roi_class", "roi_box", "mask")
  }
  for name in ("rpn_objectness", "roi_class", "mask"):
    assert last[name] < 0.7 * first[name], name
  assert all(np.isfinite(value) for row in history for value in row.values())
  assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
  # An image without objects still has background to learn from.
  assert losses["rpn_objectness"].weights[-1] == SMALL["rpn_samples"]
  assert losses["mask"].weights[-1] == losses["mask"].values[-1] == 0
  assert losses["roi_box"].values[-1] == 0


@pytest.mark.slow
def test_trained_model_finds_squares(trained, rng):
  model, variables, *_ = trained
  images, sizes, targets = squares(rng, 6)
  found = jax.jit(model.apply)(variables, images, sizes)
  overlaps = []
  for row, box in zip(*np.nonzero(targets["valid"]), strict=True):
    best = 0.0
    for slot in np.flatnonzero(found["valid"][row]):
      a, b = np.asarray(found["boxes"][row, slot]), targets["boxes"][row, box]
      sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
      inter = np.maximum(sides, 0).prod()
      union = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - inter
      best = max(best, inter / union)
    overlaps.append(best)
  assert np.median(overlaps) > 0.5


@pytest.mark.slow
def test_samples_depend_on_rows_alone(rng):
  """Halves of a batch have the losses that they have in the whole."""
  model = MaskRCNN(**SMALL)
  images, sizes, targets = squares(rng, 4)
  keys = jax.random.split(jax.random.key(0), 4)
  # Without batch statistics rows are independent.
  model = MaskRCNN(**SMALL | {"norm": "group", "head_norm": "group"})
  run = jax.jit(functools.partial(losses_of, model))
  variables = jax.jit(model.init)(
    jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)), jnp.full((1, 2), SIZE)
  )
  whole, _ = run(variables, images, sizes, targets, keys)
  half = [
    run(
      variables,
      *jax.tree.map(lambda x, s=s: x[s], (images, sizes, targets, keys)),
    )[0]
    for s in (slice(0, 2), slice(2, 4))
  ]
  for name, loss in whole.items():
    for k in range(2):
      np.testing.assert_allclose(
        loss[k], jnp.concatenate([part[name][k] for part in half]), atol=1e-5
      )


@pytest.mark.slow
def test_formulations_agree(rng):
  images, sizes, _ = squares(rng, 2)
  results = []
  for method in ("gather", "matmul"):
    model = MaskRCNN(**SMALL | {"roi_method": method})
    if not results:
      variables = initial(model)
    results.append(jax.jit(model.apply)(variables, images, sizes))
  for name in results[0]:
    np.testing.assert_allclose(results[0][name], results[1][name], atol=1e-3)


def test_sizes_that_do_not_fit_are_refused():
  with pytest.raises(ValueError, match="images of 48x48, no multiples of 32"):
    shapes(MaskRCNN(**SMALL), 48)


@pytest.mark.parametrize("head", ["rpn", "box"])
def test_scores_in_half_precision_are_not_rounded_to_it(rng, head):
  """Thousands of boxes are ranked by them: bfloat16 would make most tie."""
  x = jnp.asarray(rng.normal(size=(1, 7, 7, 8)), jnp.bfloat16)
  if head == "rpn":
    module, inputs = RPNHead(3, dtype=jnp.bfloat16), ([x], False)
  else:
    module = BoxHead(5, dense_widths=(16,), dtype=jnp.bfloat16)
    inputs = (x[None], False)
  outputs, _ = module.init_with_output(jax.random.key(0), *inputs)
  for values in jax.tree.leaves(outputs):
    assert values.dtype == jnp.float32
    rounded = values.astype(jnp.bfloat16).astype(jnp.float32)
    assert (values != rounded).mean() > 0.5
