"""Whole models side by side with PyTorch: train steps and inference.

    python -m benchmarks.models
    python -m benchmarks.models --only=unet,koch --repeats=10

Prints Markdown tables of medians. Same architecture, batch, precision, loss and
optimizer. Every contender is a process of its own; they run in turns. The peer
picks its best of channels first and last, one thread and all, eager and
compiled, once with huge pages and once without. Time to the first step is from
the start of the process: ours without and with programs in the compilation
cache, the peer's eager. Needs torch, torchvision and
segmentation-models-pytorch; without them our own figures are printed.
"""

import argparse
import contextlib
import importlib.util
import pathlib
import tempfile
from collections.abc import Iterator

from benchmarks.contenders import Contender, in_turns
from benchmarks.model_rows import ROWS

OURS = ("-m", "benchmarks.models_ours")
PEERS = ("-m", "benchmarks.models_peers")
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
USUAL = {"GLIBC_TUNABLES": None}
MODULES = ("torch", "torchvision", "segmentation_models_pytorch")


def has_peers() -> bool:
  return all(importlib.util.find_spec(name) for name in MODULES)


def measure(
  name: str, repeats: int, tiny: bool, compiles: bool, folder: pathlib.Path
) -> Iterator[str]:
  """Lines of the tables, of one row of `ROWS`."""
  peers = has_peers()
  arguments = [name, *(["--tiny"] if tiny else [])]
  ours = [*OURS, *arguments]
  if ROWS[name].objects and peers:
    weights = str(folder / f"{name}.npz")
    with contextlib.suppress(RuntimeError):
      # It saves and ends, without a word.
      Contender([*PEERS, *arguments, f"--save={weights}"])
    ours.append(f"--weights={weights}")
  cold = {"SEGSIAM_JAX_CACHE": ""}
  with Contender(ours, cold) as contender:
    first = {"ours, cold": contender.ready}
  warm = {"SEGSIAM_JAX_CACHE": str(folder / "cache")}
  Contender(ours, warm).close()
  if peers:
    with Contender([*PEERS, *arguments, "--first-step"], USUAL) as contender:
      contender.run("train")
      first["peer"] = contender.ready
      peer_peak = contender.peak_mb
  with contextlib.ExitStack() as stack:
    started = {"ours": stack.enter_context(Contender(ours, warm))}
    first["ours, cached"] = started["ours"].ready
    if peers:
      options = [] if compiles else ["--no-compile"]
      for which, pages in (("peer", USUAL), ("peer, huge pages", HUGE_PAGES)):
        started[which] = stack.enter_context(
          Contender([*PEERS, *arguments, *options], pages)
        )
    for function in ("train", "inference"):
      timings = in_turns(started, function, repeats)
      mine = timings.pop("ours")
      text = f"| {ROWS[name].title} | {function} | {mine.median * 1e3:.0f} |"
      if timings:
        best = min(timings, key=lambda which: timings[which].median)
        theirs = timings[best].median
        how = started[best].facts[function]
        pages = " with huge pages" if "huge" in best else ""
        text += f" {theirs * 1e3:.0f} | {mine.median / theirs:.2f} |"
        text += f" {how}{pages} |"
      yield text
      if function == "train":
        peak = started["ours"].peak_mb
  starts = f"{first['ours, cold']:.1f} s, {first['ours, cached']:.1f} s"
  text = f"| {ROWS[name].title} | start | {starts} |"
  memory = f"| {ROWS[name].title} | memory | {peak:.0f} MB |"
  if peers:
    text += f" {first['peer']:.1f} s | | eager |"
    memory += f" {peer_peak:.0f} MB | {peak / peer_peak:.2f} | eager |"
  yield text
  yield memory


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--only", default=",".join(ROWS))
  parser.add_argument("--repeats", type=int, default=7)
  parser.add_argument("--tiny", action="store_true", help="in seconds")
  parser.add_argument("--no-compile", action="store_true", help="peer: eager")
  args = parser.parse_args()
  print(
    "| model | what | ours, ms | peer, ms | ours / peer | peer's best way |"
  )
  print("|---|---|---|---|---|---|", flush=True)
  with tempfile.TemporaryDirectory() as folder:
    for name in args.only.split(","):
      for line in measure(
        name,
        args.repeats,
        args.tiny,
        not args.no_compile,
        pathlib.Path(folder),
      ):
        print(line, flush=True)


if __name__ == "__main__":
  main()
