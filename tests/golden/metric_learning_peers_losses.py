"""Losses and miners of other libraries, one row each."""

import numpy as np
import optax
import torch
from metric_learning_peers_rows import C, D, Rows
from pytorch_metric_learning import distances, losses, miners, reducers


def add_rows(rows: Rows) -> None:
  add_pair_losses(rows)
  add_triplet_mining(rows)
  add_softmax_losses(rows)
  add_proxy_losses(rows)
  add_distance_weighted(rows)


def add_pair_losses(rows: Rows) -> None:
  peer = "torch.nn.TripletMarginLoss"
  triplet = rows.tensors("anchor positive negative")
  for swap in (False, True):
    rows.add(
      "triplet_loss",
      "anchor positive negative",
      {"distance": "euclidean", "margin": 1.0, "swap": swap},
      f"{peer}(margin=1.0, eps=0, swap={swap})",
      torch.nn.TripletMarginLoss(eps=0, swap=swap, reduction="none")(*triplet),
      reduce="values",
    )
  rows.add(
    "triplet_loss",
    "anchor positive negative",
    {"distance": "l1", "margin": 1.0},
    "optax.losses.triplet_margin_loss(norm_degree=1)",
    optax.losses.triplet_margin_loss(
      *(rows.inputs[name] for name in ("anchor", "positive", "negative")),
      norm_degree=1,
    ),
    reduce="values",
    note="optax sums signed differences, which is no distance",
  )
  rows.add(
    "triplet_loss",
    "anchor anchor anchor",
    {"distance": "euclidean", "margin": 1.0},
    "optax.losses.triplet_margin_loss(eps=0)",
    optax.losses.triplet_margin_loss(*[rows.inputs["anchor"]] * 3, eps=0.0),
    reduce="values",
  )
  logits, same = rows.tensors("logits same")
  for weight in (1.0, 3.0):
    rows.add(
      "binary_similarity_loss",
      "logits same",
      {"positive_weight": weight},
      f"torch.nn.BCEWithLogitsLoss(pos_weight={weight})",
      torch.nn.BCEWithLogitsLoss(
        pos_weight=torch.tensor(weight), reduction="none"
      )(logits, same.float()),
      reduce="values",
    )
  unit, labels = rows.tensors("unit triples")
  for margins in ((0.0, 1.0), (0.3, 1.2)):
    loss = losses.ContrastiveLoss(
      *margins, distance=distances.LpDistance(), reducer=reducers.SumReducer()
    )
    rows.add(
      "contrastive_loss of all pairs",
      "unit triples",
      {"positive_margin": margins[0], "margin": margins[1], "squared": False},
      f"pytorch-metric-learning ContrastiveLoss{margins}, SumReducer",
      loss(unit, labels),
      reduce="sum",
    )


def add_triplet_mining(rows: Rows) -> None:
  mean, euclidean = reducers.MeanReducer(), distances.LpDistance()

  def triplet(margin=0.2, **options):
    return losses.TripletMarginLoss(
      margin=margin, distance=euclidean, **options
    )

  for labels in ("triples", "lone"):
    x, y = rows.tensors(f"unit {labels}")
    rows.add(
      "batch_triplet_loss",
      f"unit {labels}",
      {"mining": "hard"},
      "pytorch-metric-learning BatchHardMiner, TripletMarginLoss(0.2), "
      "MeanReducer",
      triplet(reducer=mean)(
        x, y, miners.BatchHardMiner(distance=euclidean)(x, y)
      ),
    )
    rows.add(
      "batch_triplet_loss",
      f"unit {labels}",
      {"mining": "all", "average_over": "active"},
      "pytorch-metric-learning TripletMarginLoss(0.2)",
      triplet()(x, y),
    )
    rows.add(
      "batch_triplet_loss",
      f"unit {labels}",
      {"mining": "all", "soft": True},
      "pytorch-metric-learning TripletMarginLoss(0.2, smooth_loss=True)",
      triplet(smooth_loss=True)(x, y),
    )
    miner = miners.TripletMarginMiner(
      margin=0.2, type_of_triplets="semihard", distance=euclidean
    )
    rows.add(
      "batch_triplet_loss",
      f"unit {labels}",
      {"mining": "semi_hard", "semi_hard_fallback": "skip"},
      'pytorch-metric-learning TripletMarginMiner(0.2, "semihard"), '
      "TripletMarginLoss(0.2), MeanReducer",
      triplet(reducer=mean)(x, y, miner(x, y)),
      note="averages over every negative within the margin beyond the "
      "positive; FaceNet and we take the nearest one for each pair",
    )
    for soft in (False, True):
      without = labels == "triples"
      rows.add(
        "batch_triplet_loss",
        f"unit {labels}",
        {
          "mining": "hard",
          "distance": "sq_euclidean",
          "margin": 0.0 if soft else 1.0,
          "soft": soft,
        },
        f'tensorflow-addons triplet_hard_loss(margin=1.0, "L_2", soft={soft})',
        addons_hard(x.numpy(), y.numpy(), soft),
        note=""
        if without
        else "an anchor without positives counts, with its distance to itself",
      )
    rows.add(
      "batch_triplet_loss",
      f"unit {labels}",
      {
        "mining": "semi_hard",
        "distance": "sq_euclidean",
        "margin": 1.0,
        "semi_hard_fallback": "easiest",
      },
      'tensorflow-addons triplet_semihard_loss(margin=1.0, "L_2")',
      addons_semi_hard(x.numpy(), y.numpy()),
    )


def squared_distances(x: np.ndarray) -> np.ndarray:
  """ "L_2" of tensorflow-addons, whose "L_1" is its square root."""
  x = x.astype(np.float64)
  return ((x[:, None] - x) ** 2).sum(-1)


def addons_hard(x: np.ndarray, labels: np.ndarray, soft: bool) -> float:
  """Anchors count whether or not they have a positive: the maximum of
  nothing is the smallest distance of the row, 0 to itself."""
  d, violations = squared_distances(x), []
  for a in range(len(x)):
    positives = (labels == labels[a]) & (np.arange(len(x)) != a)
    farthest = d[a][positives].max() if positives.any() else d[a].min()
    violations.append(farthest - d[a][labels != labels[a]].min())
  violations = np.array(violations)
  if soft:
    return np.log1p(np.exp(violations)).mean()
  return np.maximum(violations + 1.0, 0.0).mean()


def addons_semi_hard(x: np.ndarray, labels: np.ndarray) -> float:
  """Each positive pair with the nearest negative beyond it, else the farthest
  one; averaged over the positive pairs."""
  d, terms = squared_distances(x), []
  for a in range(len(x)):
    negatives = d[a][labels != labels[a]]
    for p in np.nonzero(labels == labels[a])[0]:
      if p == a:
        continue
      beyond = negatives[negatives > d[a, p]]
      chosen = beyond.min() if len(beyond) else negatives.max()
      terms.append(max(0.0, 1.0 + d[a, p] - chosen))
  return np.mean(terms)


def add_softmax_losses(rows: Rows) -> None:
  package = "pytorch-metric-learning"
  for labels in ("triples", "lone", "pairs"):
    arrays = f"embeddings {labels}"
    x, y = rows.tensors(arrays)
    for t in (0.07, 0.5):
      options = {"temperature": t}
      rows.add(
        "nt_xent_loss",
        arrays,
        options,
        f"{package} NTXentLoss({t})",
        losses.NTXentLoss(t)(x, y),
      )
      rows.add(
        "nt_xent_loss",
        arrays,
        options,
        f"optax.losses.ntxent(temperature={t})",
        optax.losses.ntxent(x.numpy(), y.numpy(), temperature=t),
      )
      rows.add(
        "supervised_contrastive_loss",
        arrays,
        options,
        f"{package} SupConLoss({t})",
        losses.SupConLoss(t)(x, y),
      )
    rows.add(
      "multi_similarity_loss",
      arrays,
      {"epsilon": None},
      f"{package} MultiSimilarityLoss()",
      losses.MultiSimilarityLoss()(x, y),
    )
    miner = miners.MultiSimilarityMiner(epsilon=0.1)
    rows.add(
      "multi_similarity_loss",
      arrays,
      {"alpha": 2.0, "beta": 40.0, "base": 0.5, "epsilon": 0.1},
      f"{package} MultiSimilarityMiner(0.1), MultiSimilarityLoss(2, 40, 0.5)",
      losses.MultiSimilarityLoss(2, 40, 0.5)(x, y, miner(x, y)),
    )
  x, y = rows.inputs["embeddings"], rows.inputs["distinct"]
  rows.add(
    "nt_xent_loss",
    "embeddings distinct",
    {},
    "optax.losses.ntxent()",
    optax.losses.ntxent(x, y),
    note="0 / 0 in a batch without positive pairs; ours is 0",
  )


def add_proxy_losses(rows: Rows) -> None:
  arrays, package = "embeddings proxies classes", "pytorch-metric-learning"
  x, proxies, y = rows.tensors(arrays)

  def with_proxies(loss, name="W"):
    values = proxies.T if name == "W" else proxies
    setattr(loss, name, torch.nn.Parameter(values.clone()))
    return loss

  each = reducers.DoNothingReducer()
  for margin, scale in ((28.6, 64), (57.3, 8)):
    loss = losses.ArcFaceLoss(C, D, margin=margin, scale=scale, reducer=each)
    rows.add(
      "arcface_loss",
      arrays,
      {"margin": float(np.radians(margin)), "scale": scale},
      f"{package} ArcFaceLoss(margin={margin}, scale={scale})",
      with_proxies(loss)(x, y)["loss"]["losses"],
      reduce="values",
    )
  loss = losses.CosFaceLoss(C, D, reducer=each)
  rows.add(
    "cosface_loss",
    arrays,
    {},
    f"{package} CosFaceLoss()",
    with_proxies(loss)(x, y)["loss"]["losses"],
    reduce="values",
  )
  for options in ({}, {"margin": 0.3, "alpha": 8.0}):
    rows.add(
      "proxy_anchor_loss",
      arrays,
      options,
      f"{package} ProxyAnchorLoss({options})",
      with_proxies(losses.ProxyAnchorLoss(C, D, **options), "proxies")(x, y),
    )
  # Embeddings on their proxies: the angle is 0.
  loss = with_proxies(losses.ArcFaceLoss(C, D))
  on_proxy = proxies[y].clone().requires_grad_()
  loss(on_proxy, y).backward()
  rows.add(
    "gradient of arcface_loss on the proxies",
    "proxies classes",
    {},
    f"{package} ArcFaceLoss()",
    [float(torch.isfinite(on_proxy.grad).all())],
    reduce="finite",
    note="its gradient is not finite where an embedding equals its proxy",
  )


def add_distance_weighted(rows: Rows) -> None:
  """Anchors far from all others, beside one close pair of classes."""
  size = 512
  x = torch.zeros(4, size)
  x[0, 0] = x[1, 0] = 1.0
  x[1, 1] = 0.1  # The positive of 0, and the reverse.
  x[2, 0], x[2, 1] = 1.0, 0.3  # A close negative of both.
  x[3, 2], x[3, 0] = 1.0, 0.1  # A far one, at 1.34.
  labels = torch.tensor([0, 0, 1, 1])
  mined = miners.DistanceWeightedMiner()(x, labels)
  rows.inputs["weighted_embeddings"] = x.numpy()
  rows.inputs["weighted_labels"] = labels.numpy()
  rows.add(
    "anchors of mine_distance_weighted",
    "weighted_embeddings weighted_labels",
    {},
    "pytorch-metric-learning DistanceWeightedMiner()",
    np.isin(np.arange(4), mined[0].numpy()).astype(float),
    reduce="values",
    note="weights are relative to the largest of the batch and underflow to 0 "
    "for anchor 3, whose negatives are at 1.34, within the cutoff of 1.4",
  )
