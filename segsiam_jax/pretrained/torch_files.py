"""Files of PyTorch: only tensors are taken out of them, and no code is run."""

import pathlib
import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from segsiam_jax.errors import UserError, first_line, shown

SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".tar")

_FIX = "in PyTorch, torch.save(model.state_dict(), FILE)"
# Training scripts save the model beside the optimizer.
_WRAPPERS = ("model", "state_dict", "model_state_dict", "model_state")
_REFUSED = re.compile(r"(?:GLOBAL|class|type) ([\w.]+) was not an allowed")


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
  """The arrays of a file that `torch.save` wrote; needs torch.

  Args:
    path: of a regular file.

  Returns:
    Arrays by name: float32, or complex.

  Raises:
    ImportError: torch is missing.
    UserError: the file holds something else.
  """
  import torch

  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")
      saved = torch.load(path, map_location="cpu", weights_only=True)
  except Exception as error:
    raise UserError(f"{path}: {_why(error)}") from error
  for wrapper in _WRAPPERS:
    if isinstance(saved, Mapping) and isinstance(saved.get(wrapper), Mapping):
      saved = saved[wrapper]
  if not isinstance(saved, Mapping):
    raise UserError(
      f"{path}: holds a {type(saved).__name__}, not a state dict; {_FIX}"
    )
  for problem in _problems(saved):
    raise UserError(f"{path}: {problem}")
  arrays = {}
  for name, tensor in saved.items():
    try:
      arrays[name] = _array(tensor)
    except Exception as error:  # Whatever a kind of tensor cannot do.
      raise UserError(
        f"{path}: {shown(name)} cannot be read ({first_line(error)}); save it "
        "as a float32 tensor"
      ) from error
  return arrays


def _why(error: Exception) -> str:
  """What a failed `torch.load` says; of its advice only what is safe."""
  text = str(error)
  if match := _REFUSED.search(text):
    return (
      f"holds an object of the class {match[1]}, which is code and is not run; "
      f"{_FIX}"
    )
  if "TorchScript" in text:
    return f"holds a program of TorchScript, not a state dict; {_FIX}"
  if isinstance(error, pickle.UnpicklingError) and "weights" in text.lower():
    reason = text.rpartition("WeightsUnpickler error:")[2].strip() or text
    text = f"more than weights, or damaged: {reason.splitlines()[0]}"
    return f"not a readable state dict ({text}); {_FIX}"
  return (
    f"not a readable state dict ({first_line(error)}); it is damaged, or was "
    f"not written by torch.save: {_FIX}"
  )


def _problems(saved: Mapping[Any, Any]) -> Iterator[str]:
  """What makes a dictionary no state dict."""
  import torch

  for name, value in saved.items():
    if not isinstance(name, str):
      yield (
        f"has the key {shown(name)}, and keys of a state dict are names such "
        f"as 'conv1.weight'; {_FIX}"
      )
    elif not isinstance(value, torch.Tensor):
      kind = type(value).__name__
      yield f"holds more than weights ({shown(name)} is a {kind}); {_FIX}"
    elif value.is_meta:
      yield (
        f"{shown(name)} is on the device 'meta' and has no values; load the "
        "model's weights before saving it"
      )
    elif value.is_quantized:
      yield (
        f"{shown(name)} is quantised; save the weights of the model before it "
        "was quantised, or dequantize() them"
      )
    elif value.layout != torch.strided or value.is_nested:
      yield f"{shown(name)} is not dense; save it after to_dense()"


def _array(tensor: Any) -> np.ndarray:
  tensor = tensor.detach().resolve_conj().resolve_neg()
  # NumPy has no bfloat16.
  return (tensor if tensor.is_complex() else tensor.float()).numpy()
