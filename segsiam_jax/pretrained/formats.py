"""Formats of published weights: how files are told from one another."""

from collections.abc import Callable
from typing import NamedTuple

from segsiam_jax.pretrained.state_dict import Family, PyTree, StateDict


class Format(NamedTuple):
  """Files that look alike.

  Attributes:
    name: for people.
    recognises: whether a state dict is one, by its keys.
    family: of a model with such parameters, or None if it has no place for
      the weights.
    fits: which models have, for people.
  """

  name: str
  recognises: Callable[[StateDict], bool]
  family: Callable[[PyTree], Family | None]
  fits: str


def in_encoders(family: Family, has: str) -> Callable[[PyTree], Family | None]:
  """A family of encoders -> that of models whose encoders have a module."""

  def family_of(params: PyTree) -> Family | None:
    places = list(_encoders(params, has))
    if not places:
      return None

    def module(modules: tuple[str, ...]) -> str | None:
      for place in places:
        if modules[: len(place)] == place:
          return family.module(modules[len(place) :])
      return None

    return family._replace(module=module)

  return family_of


def _encoders(
  params: PyTree, has: str, path: tuple[str, ...] = ()
) -> list[tuple[str, ...]]:
  """Paths of all modules `encoder` with a child of that name."""
  if not isinstance(params, dict):
    return []
  if path and path[-1] == "encoder" and has in params:
    return [path]
  return [
    place
    for name, child in params.items()
    for place in _encoders(child, has, (*path, name))
  ]
