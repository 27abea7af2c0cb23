"""What one must know of a network to use it without this library."""

import importlib.metadata
from typing import Any

import jax
import ml_collections

from segsiam_jax.engine import checkpoint as checkpoint_lib

# Arrays of a batch that `Task.predict` reads, and of an image's own size.
INPUTS = {
  "semantic": ("image",),
  "instance": ("image", "size"),
  "siamese": ("image",),
}
_OUTPUTS = {
  "semantic": {
    "probabilities": "(b, h, w, K) float32, of each class",
    "label": "(b, h, w) class indices; of classes that may overlap, bit k is "
    "class k",
  },
  "instance": {
    "boxes": "(b, n, 4) float32 (x1, y1, x2, y2) in pixels of the canvas",
    "scores": "(b, n) float32, the best first",
    "classes": "(b, n) integers; 1 is the first class",
    "masks": "(b, n, m, m) float32 within each box",
    "valid": "(b, n) bool, which of the n are detections",
  },
  "siamese": {"embeddings": "(b, D) float32"},
}


def describe(
  config: ml_collections.ConfigDict, checkpoint: str
) -> dict[str, Any]:
  """A description that JSON can hold.

  Args:
    config: of the run; `data.class_names` are known.
    checkpoint: its folder.
  """
  data, predict = config.data, config.predict
  classes = list(data.class_names) if config.task != "siamese" else []
  found: dict[str, Any] = {
    "segsiam_jax": importlib.metadata.version("segsiam_jax"),
    "jax": jax.__version__,
    "task": config.task,
    "model": config.model.name,
    "classes": classes,
    "input": {
      "image": "(b, h, w, channels), or (b, d, h, w, channels) of volumes",
      "channels": data.channels,
      "dtype": data.get("image_dtype", "uint8"),
      "normalisation": "inside",
      "mean": list(data.mean),
      "std": list(data.std),
    },
    "outputs": _OUTPUTS[config.task],
    "step": checkpoint_lib.step_of(checkpoint),
    "metrics": checkpoint_lib.metrics_of(checkpoint),
  }
  if config.task == "semantic":
    found["multilabel"] = data.multilabel
  if "image_size" in data:
    size = list(data.image_size)
    if config.task == "semantic" and any(data.eval_image_size):
      size = list(data.eval_image_size)
    found["input"] |= {"size": size, "fit": data.fit}
  if "min_side" in data:
    found["input"] |= {"min_side": data.min_side, "max_side": data.max_side}
  if config.task == "siamese":
    found["head"] = config.model.head
  if "min_score" in predict:
    found["min_score"] = predict.min_score
  return found
