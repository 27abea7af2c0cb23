"""Array operations that models, losses and metrics are built from."""

from segsiam_jax.ops.collectives import all_gather_batch as all_gather_batch
from segsiam_jax.ops.distances import l2_normalize as l2_normalize
from segsiam_jax.ops.distances import paired_distances as paired_distances
from segsiam_jax.ops.distances import (
  pairwise_cosine_similarities as pairwise_cosine_similarities,
)
from segsiam_jax.ops.distances import pairwise_distances as pairwise_distances
from segsiam_jax.ops.labels import renumber as renumber
from segsiam_jax.ops.mining import (
  mine_distance_weighted as mine_distance_weighted,
)
from segsiam_jax.ops.mining import mine_hard as mine_hard
from segsiam_jax.ops.mining import (
  mine_multi_similarity as mine_multi_similarity,
)
from segsiam_jax.ops.mining import mine_semi_hard as mine_semi_hard
from segsiam_jax.ops.mining import pair_masks as pair_masks
from segsiam_jax.ops.similarity import LearnedWeights as LearnedWeights
from segsiam_jax.ops.similarity import similarity as similarity
