"""Checks of argument shapes."""

import numpy as np
import pytest

from segsiam_jax.ops.shapes import check_pairs, check_shapes


def test_shapes_that_fit():
  check_shapes(
    logits=(np.zeros((2, 5, 6, 3)), "B *S K"),
    labels=(np.zeros((2, 5, 6)), "B *S"),
    where=(None, "B"),
    boxes=(np.zeros((2, 7, 4)), "B N 4"),
    anything=(np.zeros((9, 2)), "_ B"),
    scalar=(1.0, ""),
    nothing=(np.zeros((0, 3)), "M C+"),
  )


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (
      {"x": (np.zeros((4, 2)), "B D"), "y": (np.zeros((3, 2)), "B D")},
      r"y: expected shape \(B, D\) with B=4, D=2; got \(3, 2\)",
    ),
    (
      {"logits": (np.zeros((2, 5, 3)), "B *S K"), "y": (np.zeros(2), "B *S")},
      r"y: expected shape \(B, \*S\) with B=2, \*S=\(5,\); got \(2,\)",
    ),
    ({"boxes": (np.zeros((2, 5)), "N 4")}, r"boxes: .*\(N, 4\); got \(2, 5\)"),
    ({"x": (1.0, "B")}, r"x: expected shape \(B,\); got \(\)"),
    ({"x": (np.zeros(0), "_ *S _")}, r"x: expected"),
    ({"x": (np.zeros((2, 0)), "B D+")}, r"\(B, D\) with D>0; got \(2, 0\)"),
    ({"x": (np.zeros((2, 3, 0)), "B *S+")}, r"\(B, \*S\) with \*S>0; got"),
  ],
)
def test_shapes_that_do_not_fit(arguments, message):
  with pytest.raises(ValueError, match=message):
    check_shapes(**arguments)


def test_pairs_of_vectors():
  check_pairs(x=np.zeros((4, 1, 3)), y=np.zeros((5, 3)))
  with pytest.raises(ValueError, match=r"y: expected shape .* \(4, 3\); got"):
    check_pairs(x=np.zeros((4, 3)), y=np.zeros((4, 1)))
  with pytest.raises(ValueError, match=r"y: expected shape .*got \(5, 3\)"):
    check_pairs(x=np.zeros((4, 3)), y=np.zeros((5, 3)))
  with pytest.raises(ValueError, match=r"x: expected shape .*got \(4, 0\)"):
    check_pairs(x=np.zeros((4, 0)), y=np.zeros((4, 0)))
