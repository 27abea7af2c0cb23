"""A cross-batch memory: embeddings of earlier batches, to compare with.

Wang et al., "Cross-Batch Memory for Embedding Learning", arXiv:1912.06798. It
is explicit state, equal on all devices, and part of every checkpoint.
"""

from typing import Any

import jax
import jax.numpy as jnp

from segsiam_jax.tasks.siamese_losses import Embedded

PyTree = Any

_PLENTY = 2**30


def empty(capacity: int, size: int) -> PyTree:
  """A memory of nothing.

  Args:
    capacity: number of embeddings.
    size: D.

  Returns:
    embeddings (capacity, D); labels and contents (capacity,) int32, of which
    -1 is empty; next (), where the next goes; seen (), how many there were.
  """
  return {
    "embeddings": jnp.zeros((capacity, size)),
    "labels": jnp.full((capacity,), -1, jnp.int32),
    "contents": jnp.full((capacity,), -1, jnp.int32),
    "next": jnp.zeros((), jnp.int32),
    "seen": jnp.zeros((), jnp.int32),
  }


def remember(memory: PyTree, batch: Embedded) -> PyTree:
  """Puts a batch in place of what has been there for longest."""
  capacity, count = len(memory["labels"]), len(batch.labels)
  place = (memory["next"] + jnp.arange(count)) % capacity
  embeddings = jax.lax.stop_gradient(batch.embeddings)
  # Padding stays empty.
  labels = jnp.where(batch.where > 0, batch.labels, -1)
  return {
    "embeddings": memory["embeddings"].at[place].set(embeddings),
    "labels": memory["labels"].at[place].set(labels),
    "contents": memory["contents"].at[place].set(batch.contents),
    "next": (memory["next"] + count) % capacity,
    "seen": jnp.minimum(memory["seen"] + count, _PLENTY),
  }


def beside(batch: Embedded, memory: PyTree, start: int) -> Embedded:
  """The batch and after it the memory, used once it has seen `start`."""
  used = (memory["labels"] >= 0) & (memory["seen"] >= start)
  return Embedded(
    jnp.concatenate([batch.embeddings, memory["embeddings"]]),
    jnp.concatenate([batch.labels, memory["labels"]]),
    jnp.concatenate([batch.contents, memory["contents"]]),
    jnp.concatenate([batch.where, used.astype(jnp.float32)]),
  )
