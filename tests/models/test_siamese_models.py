import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segsiam_jax.models import towers
from segsiam_jax.models.siamese import Siamese, learned_head
from segsiam_jax.models.strokes import Strokes
from segsiam_jax.ops.distances import l2_normalize
from segsiam_jax.ops.similarity import LearnedWeights, similarity


def shapes(model, size, channels=1):
  images = jnp.zeros((1, *size, channels))
  return jax.eval_shape(
    lambda: model.init_with_output(
      jax.random.key(0),
      images,
      capture_intermediates=True,
      mutable=["params", "batch_stats", "intermediates"],
    )
  )


def count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def sides(variables, *names):
  outputs = variables["intermediates"]
  return [outputs[name]["__call__"][0].shape[1:3] for name in names]


def test_koch_has_its_published_shapes():
  out, variables = shapes(Siamese(towers.Koch(), "learned"), (105, 105))
  assert out.shape == (1, 4096)
  assert count(variables["params"]) == 38_951_745
  tower = variables["params"]["tower"]
  assert tower["fc"]["kernel"].shape == (6 * 6 * 256, 4096)
  _, variables = shapes(towers.Koch(), (105, 105))
  convs = [f"conv{index}" for index in range(1, 5)]
  # The poolings between make 48, 21 and 9 of them: 48 - 7 + 1 = 42, ...
  assert sides(variables, *convs) == [(96, 96), (42, 42), (18, 18), (6, 6)]


@pytest.mark.slow
def test_strokes_give_a_map_of_norm_1():
  model = Strokes(width=6, depth=1)
  images = jax.random.uniform(jax.random.key(0), (3, 9, 12, 1))
  out, variables = model.init_with_output(jax.random.key(1), images)
  assert model.map_shape((9, 12)) == (4, 6, 14)
  assert out.shape == (3, 4 * 6 * 14)
  np.testing.assert_allclose(jnp.linalg.norm(out, axis=1), 1, rtol=1e-5)
  maps = out.reshape(3, 4, 6, 14)
  # Both parts have norm 1 before they are weighed.
  parts = [jnp.square(x).sum((1, 2, 3)) for x in jnp.split(maps, [8], axis=3)]
  np.testing.assert_allclose(parts[1] / parts[0], 0.25, rtol=1e-4)
  blank = model.apply(variables, jnp.zeros((1, 9, 12, 1)))
  assert jnp.isfinite(blank).all()
  plain = Strokes(width=0)
  edges, variables = plain.init_with_output(jax.random.key(0), images)
  assert count(variables["params"]) == 9 * 8
  np.testing.assert_allclose(
    edges.reshape(3, 4, 6, 8), l2_normalize(maps[..., :8], (1, 2, 3)), atol=1e-6
  )


@pytest.mark.slow
def test_strokes_may_have_two_maps():
  images = jax.random.uniform(jax.random.key(0), (2, 18, 16, 1))
  model = Strokes(width=0, equalize="both")
  out, variables = model.init_with_output(jax.random.key(1), images)
  assert (model.map_shape((18, 16)), model.parts) == ((4, 4, 8), 2)
  assert out.shape == (2, 2 * 4 * 4 * 8)
  spread, plain = jnp.split(out, 2, axis=1)
  np.testing.assert_allclose(jnp.linalg.norm(out, axis=1), 1, rtol=1e-5)
  np.testing.assert_allclose(jnp.linalg.norm(plain, axis=1), 2**-0.5, rtol=1e-5)
  alone = Strokes(width=0, equalize="yes").apply(variables, images)
  np.testing.assert_allclose(spread * 2**0.5, alone, rtol=1e-5, atol=1e-6)
  smaller = images[:, :16].reshape(2, 8, 2, 8, 2, 1).mean((2, 4))
  alone = Strokes(width=0).apply(variables, smaller)
  np.testing.assert_allclose(plain * 2**0.5, alone, rtol=1e-5, atol=1e-6)


def test_edges_tell_directions():
  # Dark left and bright right: the gradient points right, direction 0.
  image = jnp.zeros((1, 12, 12, 1)).at[:, :, 6:].set(1.0)
  model = Strokes(width=0)
  for turns in range(4):
    out = model.init_with_output(
      jax.random.key(0), jnp.rot90(image, turns, axes=(1, 2))
    )[0]
    # Not the border, where the image ends.
    middle = out.reshape(6, 6, 8)[2:4, 2:4].sum((0, 1))
    assert middle.argmax() == [0, 6, 4, 2][turns]


@pytest.mark.slow
def test_koch_starts_as_published():
  params = Siamese(towers.Koch(), "learned").init(
    jax.random.key(0), jnp.zeros((1, 76, 76, 1))
  )["params"]
  tower = params["tower"]
  for leaf, mean, std in (
    (tower["conv2"]["kernel"], 0.0, 1e-2),
    (tower["conv4"]["bias"], 0.5, 1e-2),
    (tower["fc"]["kernel"], 0.0, 2e-1),
    (tower["fc"]["bias"], 0.5, 1e-2),
    (params["weights"], 0.0, 2e-1),
  ):
    error = 5 * std / np.sqrt(leaf.size)
    assert abs(leaf.mean() - mean) < error
    assert abs(leaf.std() - std) < error
  assert abs(params["bias"] - 0.5) < 0.05


def test_conv4_has_its_published_size():
  out, variables = shapes(towers.Conv4(), (28, 28))
  assert out.shape == (1, 64)
  assert count(variables["params"]) == 111_936
  out, variables = shapes(towers.Conv4(embedding_size=32), (84, 84), 3)
  assert out.shape == (1, 32)
  assert count(variables["params"]) == 113_088 + (5 * 5 * 64 + 1) * 32
  # Digits of 8x8 pixels are pooled three times.
  assert shapes(towers.Conv4(), (8, 8))[0].shape == (1, 64)


def test_signet_has_its_shapes():
  out, variables = shapes(towers.SigNet(), (155, 220))
  assert out.shape == (1, 128)
  assert count(variables["params"]) == 6_461_568
  convs = [f"conv{index}" for index in range(1, 5)]
  assert sides(variables, *convs) == [(37, 53), (18, 26), (8, 12), (8, 12)]
  assert variables["params"]["fc1"]["kernel"].shape == (3 * 5 * 256, 1024)


@pytest.mark.parametrize("encoder", ["resnet18", "vgg16", "plain"])
def test_any_encoder_is_a_tower(encoder):
  tower = towers.EncoderTower(encoder, embedding_size=16)
  out, variables = shapes(tower, (64, 48), 3)
  assert out.shape == (1, 16)
  assert {"encoder", "embedding"} == set(variables["params"])


def test_learned_similarity_is_the_formula():
  model = Siamese(towers.Conv4(width=4, norm="none"), "learned")
  images = jax.random.normal(jax.random.key(1), (2, 16, 16, 1))
  params = model.init(jax.random.key(0), images)["params"]
  x, y = np.asarray(model.apply({"params": params}, images), np.float64)
  weights = np.asarray(params["weights"], np.float64)
  expected = params["bias"] + (weights * abs(x - y)).sum()
  got = similarity(x, y, "learned", learned_head(params))
  assert float(got) == pytest.approx(float(expected), rel=1e-5)
  assert learned_head({"tower": {}}) is None


def test_similarity_says_what_it_needs():
  with pytest.raises(ValueError, match="one of euclidean"):
    similarity(jnp.ones(2), jnp.ones(2), "l2")
  with pytest.raises(ValueError, match="needs its weights"):
    similarity(jnp.ones(2), jnp.ones(2), "learned")
  weights = LearnedWeights(jnp.ones((2,)), jnp.zeros(()))
  assert similarity(jnp.ones(2), jnp.zeros(2), "learned", weights) == 2


def test_normalised_embeddings_have_norm_1():
  model = Siamese(towers.Conv4(width=4, norm="none"), "cosine", normalize=True)
  images = jax.random.normal(jax.random.key(1), (3, 16, 16, 1))
  out, _ = model.init_with_output(jax.random.key(0), images)
  np.testing.assert_allclose(jnp.linalg.norm(out, axis=1), 1, rtol=1e-6)


@pytest.mark.slow
def test_weights_are_shared():
  """One gradient, and it is the sum of those of both branches."""
  model = Siamese(towers.Conv4(width=4, norm="none"))
  x, y = jax.random.normal(jax.random.key(1), (2, 3, 16, 16, 1))
  params = model.init(jax.random.key(0), x)["params"]

  def distances(first, second):
    return similarity(first, second, "sq_euclidean").sum()

  def together(params):
    out = model.apply({"params": params}, jnp.concatenate([x, y]))
    return distances(*jnp.split(out, 2))

  def apart(first_params, second_params):
    return distances(
      model.apply({"params": first_params}, x),
      model.apply({"params": second_params}, y),
    )

  one = jax.grad(together)(params)
  of_first, of_second = jax.grad(apart, (0, 1))(params, params)
  jax.tree.map(
    lambda grad, a, b: np.testing.assert_allclose(
      grad, a + b, rtol=1e-4, atol=1e-5
    ),
    one,
    of_first,
    of_second,
  )
  assert jnp.abs(of_first["tower"]["conv1"]["kernel"]).max() > 1e-3


@pytest.fixture(scope="module")
def with_batch_norm():
  """(train: (state, images) -> (out, state), eval, initial state)."""
  model = Siamese(towers.Conv4(width=4))
  variables = model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 1)))
  params = variables["params"]

  @jax.jit
  def train(stats, images):
    out, state = model.apply(
      {"params": params, "batch_stats": stats},
      images,
      True,
      mutable=["batch_stats"],
    )
    return out, state["batch_stats"]

  @jax.jit
  def evaluate(stats, images):
    return model.apply({"params": params, "batch_stats": stats}, images)

  return train, evaluate, variables["batch_stats"]


def test_order_of_branches_does_not_matter(with_batch_norm):
  train, _, stats = with_batch_norm
  x, y = jax.random.normal(jax.random.key(1), (2, 3, 16, 16, 1)) + 1.0
  out_xy, stats_xy = train(stats, jnp.concatenate([x, y]))
  out_yx, stats_yx = train(stats, jnp.concatenate([y, x]))
  np.testing.assert_allclose(out_xy[:3], out_yx[3:], rtol=1e-4, atol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    stats_xy,
    stats_yx,
  )
  # Branches that went one after the other would have other statistics.
  _, one_by_one = train(train(stats, x)[1], y)
  assert (
    jnp.abs(
      one_by_one["tower"]["bn1"]["mean"] - stats_xy["tower"]["bn1"]["mean"]
    ).max()
    > 1e-3
  )


def test_train_and_eval_agree(with_batch_norm):
  train, evaluate, stats = with_batch_norm
  images = jax.random.normal(jax.random.key(1), (6, 16, 16, 1)) + 1.0
  for _ in range(150):
    out, stats = train(stats, images)
  np.testing.assert_allclose(evaluate(stats, images), out, rtol=1e-3, atol=1e-4)
