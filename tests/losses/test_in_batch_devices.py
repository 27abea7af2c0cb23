"""The same gradients on four devices as on one."""

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from segsiam_jax.losses import (
  arcface_loss,
  batch_triplet_loss,
  multi_similarity_loss,
  nt_xent_loss,
  proxy_anchor_loss,
  supervised_contrastive_loss,
)
from segsiam_jax.ops import all_gather_batch

DEVICES, B, INPUTS, D, C = 4, 16, 5, 6, 4


def triplets(mining):
  def loss(x, labels, where, proxies):
    key = jax.random.key(0)
    return batch_triplet_loss(
      x, labels, mining=mining, rng=key, where=where, margin=1.0
    ).mean()

  return loss


IN_BATCH = {
  "hard": triplets("hard"),
  "semi_hard": triplets("semi_hard"),
  "all": triplets("all"),
  "distance_weighted": triplets("distance_weighted"),
  "nt_xent": lambda x, y, where, _: nt_xent_loss(x, y, where=where).mean(),
  "supervised_contrastive": lambda x, y, where, _: supervised_contrastive_loss(
    x, y, where=where
  ).mean(),
  "multi_similarity": lambda x, y, where, _: multi_similarity_loss(
    x, y, where=where
  ).mean(),
  "proxy_anchor": lambda x, y, where, proxies: proxy_anchor_loss(
    x, proxies, y, where=where
  ).mean(),
  # One value per example: the caller's mean, over the gathered batch.
  "arcface": lambda x, y, where, proxies: (
    arcface_loss(x, proxies, y, where=where, scale=8.0).sum() / where.sum()
  ),
}


def gradients(params, batch, axis_name=None):
  """Of every loss; one program, so that there is little to compile."""

  def loss_of(params, loss):
    gathered = all_gather_batch(
      (batch["inputs"] @ params["kernel"], batch["label"], batch["mask"]),
      axis_name,
    )
    return loss(*gathered, params["proxies"])

  found = {
    name: jax.grad(loss_of)(params, loss) for name, loss in IN_BATCH.items()
  }
  return found if axis_name is None else jax.lax.pmean(found, axis_name)


@pytest.fixture(scope="module")
def problem():
  random = np.random.default_rng(0)
  params = {
    "kernel": random.normal(size=(INPUTS, D)).astype(np.float32),
    "proxies": random.normal(size=(C, D)).astype(np.float32),
  }
  batch = {
    "inputs": random.normal(size=(B, INPUTS)).astype(np.float32),
    # Devices hold different numbers of positives and of padding rows.
    "label": np.array([0, 0, 0, 0, 1, 2, 3, 1, 1, 0, 2, 2, 0, 3, 1, 0]),
    "mask": (np.arange(B) < 13).astype(np.float32),
  }
  return params, batch, jax.device_get(jax.jit(gradients)(params, batch))


def assert_equal(found, expected):
  for name in IN_BATCH:
    for part in ("kernel", "proxies"):
      left, right = found[name][part], expected[name][part]
      np.testing.assert_allclose(
        left,
        right,
        rtol=1e-5,
        # Rounding of sums, relative to the largest entry.
        atol=2e-6 * max(np.abs(right).max(), 1e-6),
        err_msg=f"{name} {part}",
      )
    assert np.abs(expected[name]["kernel"]).max() > 1e-3


@pytest.mark.slow
def test_sharded_batch(problem):
  params, batch, expected = problem
  mesh = jax.make_mesh((DEVICES,), ("data",), axis_types=(AxisType.Auto,))
  batch = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
  params = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
  assert_equal(jax.device_get(jax.jit(gradients)(params, batch)), expected)


def test_pmap(problem):
  params, batch, expected = problem
  batch = jax.tree.map(lambda v: v.reshape(DEVICES, -1, *v.shape[1:]), batch)
  found = jax.pmap(
    lambda params, batch: gradients(params, batch, "data"),
    axis_name="data",
    in_axes=(None, 0),
    devices=jax.devices()[:DEVICES],
  )(params, batch)
  found = jax.device_get(found)
  for device in range(DEVICES):
    assert_equal(jax.tree.map(lambda v, d=device: v[d], found), expected)
