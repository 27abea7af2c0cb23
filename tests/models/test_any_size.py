"""Every model of semantic segmentation takes images of any size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segsiam_jax.config import default_config
from segsiam_jax.engine import runs
from segsiam_jax.fields.semantic_models import MODELS


@pytest.mark.parametrize("name", MODELS)
def test_logits_have_the_image_s_size(name):
  """In shapes alone: nothing is computed."""
  config = default_config("semantic", name)
  config.data.class_names = ("a", "b")
  spec = {"image": jax.ShapeDtypeStruct((2, 64, 64, 3), np.uint8)}
  task = runs.make_task(config, spec)
  params, model_state = jax.eval_shape(task.init, jax.random.key(0))

  def batch_of(*size):
    return {
      "image": jax.ShapeDtypeStruct((2, *size, 3), np.uint8),
      "label": jax.ShapeDtypeStruct((2, *size), np.uint8),
      "mask": jax.ShapeDtypeStruct((2,), np.float32),
    }

  for size in ((1, 1), (3, 500)):
    out = jax.eval_shape(task.predict, params, model_state, batch_of(*size))
    assert out["label"].shape == (2, *size)
    assert out["probabilities"].shape == (2, *size, 2)
  out = jax.eval_shape(
    task.loss_fn, params, model_state, batch_of(33, 47), jax.random.key(0)
  )
  assert out.loss.shape == ()


def test_one_pixel_has_a_finite_loss_and_gradient():
  config = default_config("semantic", "unet")
  config.data.class_names = ("a", "b")
  config.model.depth, config.model.base_width = 1, 2
  config.augment.rotate = 1.0
  spec = {"image": jax.ShapeDtypeStruct((1, 1, 1, 3), np.uint8)}
  task = runs.make_task(config, spec)
  params, model_state = jax.jit(task.init)(jax.random.key(0))
  batch = {
    "image": jnp.full((1, 1, 1, 3), 200, jnp.uint8),
    "label": jnp.ones((1, 1, 1), jnp.uint8),
    "mask": jnp.ones(1),
  }

  def loss(params):
    return task.loss_fn(params, model_state, batch, jax.random.key(1)).loss

  value, gradient = jax.jit(jax.value_and_grad(loss))(params)
  assert jnp.isfinite(value)
  assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
