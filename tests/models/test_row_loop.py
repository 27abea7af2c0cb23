"""Only the rows that are there are worked on, with the numbers of all rows."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segsiam_jax.models.mask_rcnn import FORMS, MaskRCNN
from segsiam_jax.models.row_loop import for_rows


@pytest.mark.parametrize("size", [3, 16, 37])
def test_results_and_derivatives(rng, size):
  rows = {
    "x": jnp.asarray(rng.normal(size=(2, size, 4)), jnp.float32),
    "which": jnp.asarray(rng.integers(0, 3, (2, size))),
  }
  shared = {"w": jnp.asarray(rng.normal(size=(3, 4)), jnp.float32)}

  def function(shared, rows):
    return jnp.sin(rows["x"] * shared["w"][rows["which"]]), rows["which"] + 0.5

  def loss(shared, results):
    return sum(jnp.square(one).sum() for one in results)

  @jax.jit
  def ours(shared, count):
    def total(shared):
      results = for_rows(function, shared, rows, count)
      return loss(shared, results), results

    return jax.value_and_grad(total, has_aux=True)(shared)

  chunk = {3: 3, 16: 16, 37: 13}[size]
  for count in (0, 1, size):
    done = -(-count // chunk) * chunk

    def right(shared, done=done):
      results = [one.at[:, done:].set(0) for one in function(shared, rows)]
      return loss(shared, results), tuple(results)

    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
      ours(shared, count),
      jax.value_and_grad(right, has_aux=True)(shared),
    )


@pytest.mark.slow
def test_mask_head_of_the_boxes_on_objects_learns_what_that_of_all_does(rng):
  """An onlooker makes the head work on all of them."""
  form = FORMS["tiny"] | {
    "norm": "none",
    "roi_samples": 72,
    "roi_positives": 0.5,
    "encoder_width": 8,
    "width": 8,
  }
  model = MaskRCNN(3, **form)
  images = rng.normal(size=(2, 64, 64, 3)).astype(np.float32)
  sizes = np.full((2, 2), 64)
  targets = {
    "boxes": np.array(
      [[[4, 4, 40, 44], [0, 0, 0, 0]], [[8, 2, 60, 30], [30, 30, 62, 62]]],
      np.float32,
    ),
    "classes": np.array([[1, 0], [2, 1]]),
    "valid": np.array([[1, 0], [1, 1]], bool),
    "masks": rng.random((2, 2, 28, 28)).astype(np.float32),
  }
  keys = jax.random.split(jax.random.key(0), 2)
  variables = jax.jit(model.init)(jax.random.key(1), images, sizes)

  def losses(params, mutable):
    out = model.apply(
      {"params": params}, images, sizes, targets, keys, True, mutable=mutable
    )
    return (out[0] if mutable else out)["mask"].mean()

  both = [
    jax.jit(jax.value_and_grad(losses), static_argnums=1)(
      variables["params"], mutable
    )
    for mutable in (False, ("intermediates",))
  ]
  (ours, ours_grads), (whole, whole_grads) = both
  assert whole > 0
  np.testing.assert_allclose(ours, whole, rtol=1e-6)
  error = optax.tree.norm(jax.tree.map(jnp.subtract, ours_grads, whole_grads))
  assert error < 1e-5 * optax.tree.norm(whole_grads)
