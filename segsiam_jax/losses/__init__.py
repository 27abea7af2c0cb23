"""Losses: pure functions of arrays, one value per example.

The names that each module lists in its `__all__` are public here.
"""

from segsiam_jax.losses.batch_pairs import *
from segsiam_jax.losses.boundary import *
from segsiam_jax.losses.combine import *
from segsiam_jax.losses.detection import *
from segsiam_jax.losses.episodes import *
from segsiam_jax.losses.in_batch import *
from segsiam_jax.losses.lovasz import *
from segsiam_jax.losses.overlap import *
from segsiam_jax.losses.pairs import *
from segsiam_jax.losses.proxies import *
from segsiam_jax.losses.segmentation import *
from segsiam_jax.losses.weighted import *
