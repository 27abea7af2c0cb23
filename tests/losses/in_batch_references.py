"""The losses within a batch as their papers write them, in loops of NumPy."""

import numpy as np


def relations(labels, where):
  """Positives and negatives of each anchor."""
  rows = [i for i in range(len(labels)) if where[i]]
  return [
    (
      [j for j in rows if where[i] and j != i and labels[j] == labels[i]],
      [j for j in rows if where[i] and labels[j] != labels[i]],
    )
    for i in range(len(labels))
  ]


def distances_of(x, squared):
  return np.array(
    [[((a - b) ** 2).sum() ** (1.0 if squared else 0.5) for b in x] for a in x]
  )


def cosines_of(x):
  norms = np.linalg.norm(x, axis=1)
  unit = np.array(
    [
      row / norm if norm > 1e-12 else 0 * row
      for row, norm in zip(x, norms, strict=True)
    ]
  )
  return unit @ unit.T


def averaged(rows):
  """Mean and number of each anchor's terms."""
  return (
    [np.mean(terms) if terms else 0.0 for terms in rows],
    [len(terms) for terms in rows],
  )


def reference_triplets(
  x,
  labels,
  where,
  *,
  mining,
  margin=0.2,
  squared=False,
  soft=False,
  average_over="valid",
  fallback="easiest",
):
  d = distances_of(x, squared)
  rows = []
  for a, (positives, negatives) in enumerate(relations(labels, where)):
    triplets = []
    if positives and negatives and mining == "hard":
      triplets = [
        (
          max(positives, key=lambda p, a=a: d[a, p]),
          min(negatives, key=lambda n, a=a: d[a, n]),
        )
      ]
    elif negatives and mining == "all":
      triplets = [(p, n) for p in positives for n in negatives]
    elif negatives and mining == "semi_hard":
      for p in positives:
        beyond = [n for n in negatives if d[a, n] > d[a, p] + 1e-6]
        if beyond:
          triplets.append((p, min(beyond, key=lambda n, a=a: d[a, n])))
        elif fallback != "skip":
          pick = max if fallback == "easiest" else min
          triplets.append((p, pick(negatives, key=lambda n, a=a: d[a, n])))
    terms = []
    for p, n in triplets:
      violation = d[a, p] - d[a, n] + margin
      terms.append(np.logaddexp(0, violation) if soft else max(0, violation))
    if average_over == "active":
      terms = [term for term in terms if term > 1e-7]
    rows.append(terms)
  return averaged(rows)


def reference_nt_xent(x, labels, where, *, temperature=0.1):
  s = cosines_of(x) / temperature
  rows = []
  for a, (positives, negatives) in enumerate(relations(labels, where)):
    others = np.array([s[a, n] for n in negatives])
    rows.append(
      [
        np.logaddexp.reduce(np.append(others, s[a, p])) - s[a, p]
        for p in positives
      ]
    )
  return averaged(rows)


def reference_supcon(x, labels, where, *, temperature=0.1):
  s = cosines_of(x) / temperature
  rows, related = [], relations(labels, where)
  # pytorch-metric-learning has no loss for a batch of one class.
  one_class = not any(negatives for _, negatives in related)
  for a, (positives, negatives) in enumerate(related):
    others = np.array([s[a, j] for j in positives + negatives])
    terms = [np.logaddexp.reduce(others) - s[a, p] for p in positives]
    rows.append([np.mean(terms)] if terms and not one_class else [])
  return averaged(rows)


def reference_multi_similarity(x, labels, where, *, epsilon=0.1):
  s = cosines_of(x)
  values = []
  for a, (positives, negatives) in enumerate(relations(labels, where)):
    if epsilon is not None:
      kept = [
        [
          p
          for p in positives
          if negatives and s[a, p] < max(s[a, n] for n in negatives) + epsilon
        ],
        [
          n
          for n in negatives
          if positives and s[a, n] > min(s[a, p] for p in positives) - epsilon
        ],
      ]
      positives, negatives = kept
    pull = sum(np.exp(-2.0 * (s[a, p] - 0.5)) for p in positives)
    push = sum(np.exp(50.0 * (s[a, n] - 0.5)) for n in negatives)
    values.append(np.log1p(pull) / 2.0 + np.log1p(push) / 50.0)
  return values, [float(bool(w)) for w in where]
