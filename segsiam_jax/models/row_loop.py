"""Work on as many of an image's rows as are there."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from segsiam_jax.ops.convolution import in_loop

# Rows of an image at a time.
_CHUNK = 16


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def for_rows(
  function: Callable[[Any, Any], Any], shared: Any, rows: Any, count: jax.Array
) -> Any:
  """`function(shared, rows)` for the first rows, and zeros for the others.

  Runs on a few rows at a time, until those that are there are done. Derivatives
  with respect to `shared` are those of these rows; the function is computed
  anew for them. Rows have none, and there is no forward mode.

  Args:
    function: works on each row by itself; (shared, rows of one size) -> arrays
      (B, R, ...).
    shared: a pytree of floating-point arrays, such as the variables of a model.
    rows: a pytree of arrays (B, R, ...), what is there first.
    count: () int32, the largest number of an image's rows that are there.

  Returns:
    What the function returns for all rows.
  """
  size, chunk = _sizes(rows)
  rows = _padded(rows, chunk)
  outs = jax.eval_shape(function, shared, _part(rows, 0, chunk))

  def work(index, results):
    return jax.tree.map(
      lambda all_, part: jax.lax.dynamic_update_slice_in_dim(
        all_, part, index * chunk, axis=1
      ),
      results,
      function(shared, _part(rows, index, chunk)),
    )

  zeros = jax.tree.map(
    lambda out: jnp.zeros(
      (out.shape[0], size + -size % chunk, *out.shape[2:]), out.dtype
    ),
    outs,
  )
  with in_loop():
    results = jax.lax.fori_loop(0, -(-count // chunk), work, zeros)
  return jax.tree.map(lambda all_: all_[:, :size], results)


def _sizes(rows: Any) -> tuple[int, int]:
  """How many rows an image has, and how many make a chunk."""
  size = jax.tree.leaves(rows)[0].shape[1]
  return size, -(-size // -(-size // _CHUNK))


def _padded(rows: Any, chunk: int) -> Any:
  """Rows with zeros after the last one, up to whole chunks."""

  def pad(array):
    rest = -array.shape[1] % chunk
    return jnp.pad(array, [(0, 0), (0, rest)] + [(0, 0)] * (array.ndim - 2))

  return jax.tree.map(pad, rows)


def _part(rows: Any, index: jax.Array | int, chunk: int) -> Any:
  """Rows of one chunk."""
  return jax.tree.map(
    lambda array: jax.lax.dynamic_slice_in_dim(
      array, index * chunk, chunk, axis=1
    ),
    rows,
  )


def _forward(function, shared, rows, count):
  return for_rows(function, shared, rows, count), (shared, rows, count)


def _backward(function, kept, gradients):
  shared, rows, count = kept
  _, chunk = _sizes(rows)
  rows, gradients = _padded(rows, chunk), _padded(gradients, chunk)

  def work(index, total):
    _, back = jax.vjp(
      lambda shared: function(shared, _part(rows, index, chunk)), shared
    )
    [part] = back(_part(gradients, index, chunk))
    return jax.tree.map(jnp.add, total, part)

  zeros = jax.tree.map(jnp.zeros_like, shared)
  with in_loop():
    total = jax.lax.fori_loop(0, -(-count // chunk), work, zeros)
  return total, None, None


for_rows.defvjp(_forward, _backward)
