"""What is tried of each public function, and how these are found."""

import ast
import dataclasses
import functools
import importlib
import inspect
import pathlib
import pkgutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

PACKAGES = ("losses", "metrics", "ops")

# Shapes that do not fit, made from one that does.
WRONG_SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
  "extra axis": lambda x: x[..., None],
  "leading axis": lambda x: x[None],
  "one row": lambda x: x[:1],
  "more rows": lambda x: np.concatenate([x, x[:1]]),
  "fewer axes": lambda x: x[0],
  "longer last axis": lambda x: np.concatenate([x, x[..., :1]], axis=-1),
  "last axis of 1": lambda x: x[..., :1],
}


@dataclasses.dataclass(frozen=True)
class Case:
  """Arguments with which a function is tried.

  Attributes:
    arrays: arguments by name, of valid and tiny shapes: floats in float32,
      ids and classes in int32, masks as they come.
    options: other keyword arguments; give the floats, so that they are tried
      as NumPy scalars too.
    call: takes `arrays` and `options` as keywords, where the public function
      does not (a method, say); its messages must still name the argument.
    host: computed by NumPy: not compiled, and in float64.
    ids: arguments of which only equality counts, so that 64 bits must not
      collapse.
    classes: arguments of class indices, of which 2^32 + c is not c.
    batch: arguments whose first axis is emptied together, all by default;
      () where no batch can be empty.
    empty_is_error: a batch of nothing is a ValueError.
    fits: changes of `WRONG_SHAPES` that fit all the same, by argument.
    unseen: by argument, why a NaN there need not show.
    rtol: of comparisons; 0.0 for integers alone.
  """

  arrays: Mapping[str, np.ndarray]
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  call: Callable[..., Any] | None = None
  host: bool = False
  ids: Collection[str] = ()
  classes: Collection[str] = ()
  batch: Sequence[str] | None = None
  empty_is_error: bool = False
  fits: Mapping[str, Collection[str]] = dataclasses.field(default_factory=dict)
  unseen: Mapping[str, str] = dataclasses.field(default_factory=dict)
  rtol: float = 1e-5

  @property
  def floats(self) -> dict[str, np.ndarray]:
    """The arrays of floating numbers."""
    return {name: x for name, x in self.arrays.items() if is_floating(x)}


@dataclasses.dataclass(frozen=True)
class Trial:
  """A case of a function."""

  name: str
  case: Case
  function: Callable[..., Any]

  def __str__(self) -> str:
    return self.name

  @functools.cached_property
  def expected(self) -> list[np.ndarray]:
    """The results of the arrays as they are, not compiled."""
    return self.eager()

  def call(self, **arrays: Any) -> Any:
    """The result with some arrays replaced."""
    given = {**self.case.arrays, **arrays}
    return self.function(**given, **self.case.options)

  def eager(self, **arrays: Any) -> list[np.ndarray]:
    return numbers(self.call(**arrays))

  def compiled(self, **arrays: Any) -> list[np.ndarray]:
    """The results, compiled; those of the host as they are."""
    if self.case.host:
      return self.eager(**arrays)
    given = {**self.case.arrays, **arrays}
    return numbers(self._program([given, *self.narrow])[0])

  def of_narrow(self) -> list[list[np.ndarray]]:
    """Results of each of `narrow`."""
    if self.case.host:
      return [self.eager(**arrays) for arrays in self.narrow]
    results = self._program([dict(self.case.arrays), *self.narrow])[1:]
    return [numbers(result) for result in results]

  @functools.cached_property
  def narrow(self) -> list[dict[str, Any]]:
    """The arrays in other floats, if there are floats."""
    return [
      {
        name: x.astype(dtype) if is_floating(x) else x
        for name, x in self.case.arrays.items()
      }
      for dtype in ((jnp.bfloat16, np.float16) if self.case.floats else ())
    ]

  @functools.cached_property
  def _program(self) -> Callable[..., Any]:
    # One for all types: a second program would take as long to compile.
    return jax.jit(lambda given: [self.call(**arrays) for arrays in given])

  def traced(self, **arrays: Any) -> list[Any]:
    """Only as far as shapes and dtypes go; the host's results are whole."""
    if self.case.host:
      return self.eager(**arrays)
    given = {**self.case.arrays, **arrays}
    shapes = jax.eval_shape(lambda **x: _parts(self.call(**x)), **given)
    return jax.tree.leaves(shapes)

  def wide(self) -> list[np.ndarray]:
    """Compiled with x64, from 64-bit arrays and NumPy scalars."""
    options = {
      name: np.float64(option) if isinstance(option, float) else option
      for name, option in self.case.options.items()
    }
    case = dataclasses.replace(self.case, options=options)
    call = dataclasses.replace(self, case=case).call
    with jax.enable_x64(True):
      return numbers((call if case.host else jax.jit(call))(**self.widened))

  @functools.cached_property
  def widened(self) -> dict[str, np.ndarray]:
    """The arrays in 64 bits."""
    types = {np.dtype(np.float32): np.float64, np.dtype(np.int32): np.int64}
    return {
      name: x.astype(types.get(x.dtype, x.dtype))
      for name, x in self.case.arrays.items()
    }


def public_functions() -> dict[str, Callable[..., Any]]:
  """Functions and methods without an underscore, by 'package.module.name'.

  From the source as well as from what the modules hold, so that neither a
  decorator nor an assignment hides one.
  """
  found = {}
  for module in _modules():
    names = dict.fromkeys(_defined(module))
    names |= dict.fromkeys(
      name
      for name, value in vars(module).items()
      if name[0] != "_"
      and callable(value)
      and not inspect.isclass(value)
      and getattr(value, "__module__", None) == module.__name__
      and not hasattr(value, "__origin__")  # a Literal
    )
    prefix = module.__name__.removeprefix("segsiam_jax.")
    for name in names:
      value = functools.reduce(getattr, name.split("."), module)
      found[f"{prefix}.{name}"] = value
  return found


def trials(cases: Mapping[str, Collection[Case]]) -> list[Trial]:
  """One of each case of the table."""
  functions = public_functions()
  made = []
  for name, given in cases.items():
    for index, case in enumerate(given):
      label = f"{name}-{index}" if len(given) > 1 else name
      made.append(Trial(label, case, case.call or functions[name]))
  return made


def numbers(result: Any) -> list[np.ndarray]:
  """All arrays and numbers of a result, as arrays of their own dtype.

  A loss with weights counts as its mean as well, which is what is trained.
  """
  return [np.asarray(leaf) for leaf in jax.tree.leaves(_parts(result))]


def is_floating(array: np.ndarray) -> bool:
  return jnp.issubdtype(array.dtype, jnp.floating)


def _parts(result: Any) -> Any:
  if hasattr(result, "weights") and hasattr(result, "mean"):
    return result, result.mean()
  return list(result) if isinstance(result, Iterator) else result


def _modules() -> Iterator[Any]:
  for package in PACKAGES:
    package = importlib.import_module(f"segsiam_jax.{package}")
    for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
      yield importlib.import_module(info.name)


def _defined(module: Any) -> Iterator[str]:
  """Names of functions and 'Class.method' of the source."""
  for node in ast.parse(pathlib.Path(module.__file__).read_text()).body:
    if isinstance(node, ast.FunctionDef) and node.name[0] != "_":
      yield node.name
    elif isinstance(node, ast.ClassDef) and node.name[0] != "_":
      for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name[0] != "_":
          decorators = [ast.unparse(use) for use in part.decorator_list]
          if not any("property" in use for use in decorators):
            yield f"{node.name}.{part.name}"
