"""Public functions of losses, metrics and ops have complete annotations.

A type checker takes a package with py.typed at its word.
"""

import importlib
import inspect
import pkgutil

import pytest

from segsiam_jax import losses, metrics, ops


def modules():
  for package in (losses, metrics, ops):
    for module in pkgutil.iter_modules(package.__path__):
      yield f"{package.__name__}.{module.name}"


def functions(module):
  """Public functions and methods that the module defines, by name."""
  for name, value in vars(module).items():
    if name.startswith("_") or getattr(value, "__module__", "") != (
      module.__name__
    ):
      continue
    if inspect.isfunction(value):
      yield name, value
    elif inspect.isclass(value):
      for method, member in vars(value).items():
        member = getattr(member, "__func__", member)
        written = getattr(member, "__module__", "") == module.__name__
        if inspect.isfunction(member) and written and method[0] != "_":
          yield f"{name}.{method}", member


def missing(function):
  """Names of what has no annotation; `self` and `cls` need none."""
  signature = inspect.signature(function)
  names = [
    name
    for name, parameter in signature.parameters.items()
    if parameter.annotation is inspect.Parameter.empty
    and name not in ("self", "cls")
  ]
  if signature.return_annotation is inspect.Signature.empty:
    names.append("return")
  return names


@pytest.mark.parametrize("name", list(modules()))
def test_public_functions_are_annotated(name):
  found = dict(functions(importlib.import_module(name)))
  gaps = {name: missing(function) for name, function in found.items()}
  assert not {name: names for name, names in gaps.items() if names}


def test_a_missing_annotation_is_found():
  def partly(x: int, y):
    return x

  assert missing(partly) == ["y", "return"]
  assert "l2_normalize" in dict(
    functions(importlib.import_module("segsiam_jax.ops.distances"))
  )
