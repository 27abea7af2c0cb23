"""Every segmentation model learns a few images by heart."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segsiam_jax.losses import softmax_cross_entropy
from segsiam_jax.models.layers import Logits
from segsiam_jax.models.unet import UNet, UNetPlusPlus

TINY = {"depth": 2, "base_width": 4}


def losses_of(model, images, labels, steps):
  """The losses before each step."""
  variables = jax.jit(model.init)(jax.random.key(0), images)
  params = variables.pop("params")
  tx = optax.adam(1e-2)

  def loss_fn(params, state, rng):
    out, state = model.apply(
      {"params": params, **state},
      images,
      train=True,
      mutable=list(state),
      rngs={"dropout": rng},
    )
    out = out if isinstance(out, Logits) else Logits(out)
    loss = sum(
      softmax_cross_entropy(logits, labels).mean()
      for logits in (out.main, *out.auxiliary)
    )
    return loss, state

  def step(carry, rng):
    params, state, opt_state = carry
    (loss, state), grads = jax.value_and_grad(loss_fn, has_aux=True)(
      params, state, rng
    )
    updates, opt_state = tx.update(grads, opt_state, params)
    return (optax.apply_updates(params, updates), state, opt_state), loss

  carry = (params, variables, tx.init(params))
  keys = jax.random.split(jax.random.key(1), steps)
  (params, *_), losses = jax.jit(lambda: jax.lax.scan(step, carry, keys))()
  for leaf in jax.tree.leaves(params):
    assert jnp.isfinite(leaf).all()
  return losses


def discs(shape, seed=0):
  """Noisy pictures of a disc (or ball), and where it is."""
  random = np.random.default_rng(seed)
  axes = np.meshgrid(*map(np.arange, shape[1:]), indexing="ij")
  labels = np.stack(
    [
      sum(
        (axis - random.uniform(0.3, 0.7) * size) ** 2
        for axis, size in zip(axes, shape[1:], strict=True)
      )
      < 16
      for _ in range(shape[0])
    ]
  ).astype(np.int32)
  images = labels + random.normal(0, 0.3, labels.shape)
  return images[..., None].astype(np.float32), labels


@pytest.mark.parametrize(
  ("model", "shape"),
  [
    pytest.param(
      UNet(2, **TINY, block="residual", attention=True),
      (2, 16, 16),
      marks=pytest.mark.slow,
    ),
    (UNet(2, **TINY, skips=False, upsample="resize"), (2, 16, 16)),
    (UNet(2, **TINY, deep_supervision=True, norm="none"), (2, 16, 16)),
    pytest.param(
      UNetPlusPlus(2, **TINY, deep_supervision=True),
      (2, 16, 16),
      marks=pytest.mark.slow,
    ),
    (UNet(2, depth=1, base_width=4, norm="group"), (1, 4, 10, 10)),
    pytest.param(
      UNet(2, "resnet18", decoder_channels=(16, 16, 8, 8, 4)),
      (2, 32, 32),
      marks=pytest.mark.slow,
    ),
  ],
  ids=[
    *("residual_attention", "no_skips", "deep_supervision", "unet_plus_plus"),
    *("volumes", "resnet18"),
  ],
)
def test_a_few_images_are_learned(model, shape):
  images, labels = discs(shape)
  steps, share = (40, 0.3) if model.encoder == "plain" else (12, 0.6)
  losses = losses_of(model, images, labels, steps)
  assert losses[-1] < share * losses[0], losses
