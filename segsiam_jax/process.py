"""Settings of the process, first of all those that make a CPU faster.

They come from the environment, and are read before Python code runs or before
JAX touches a device:

- XLA hands convolutions to YNNPACK, whose are half as fast as XLA's own; for
  everything else YNNPACK stays, as its reductions are ten times as fast.
- Every step returns its temporaries to the system and faults them in again.
  With huge pages that costs little. The C library reads this setting when a
  process starts, so the process replaces itself once.
- Names of files are UTF-8 to the libraries that write checkpoints. Where the
  locale says otherwise, Python's UTF-8 mode does, which takes the same restart.

docs/benchmarks.md has the figures. What the user has set stays.
"""

import importlib.util
import mmap
import os
import pathlib
import sys
from multiprocessing import resource_tracker

_YNN_FLAG = "xla_cpu_experimental_ynn_fusion_type"
# '-' takes a kind out of XLA's own list.
_YNN_VALUE = "-individual_convolution"
_HUGE_PAGES = "glibc.malloc.hugetlb"
_HUGE_PAGES_FILE = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
_ACCELERATORS = ("nvidia0", "nvidiactl", "accel0", "vfio/0", "kfd")
_UTF8 = "PYTHONUTF8"
# The id of the process that has replaced itself.
_RESTARTED = "SEGSIAM_JAX_RESTARTED"


def configure() -> bool:
  """Puts the settings into the environment, for JAX and for child processes.

  Call it before JAX touches a device.

  Returns:
    Whether this process itself would have to start again for one of them.
  """
  flags = os.environ.get("XLA_FLAGS", "")
  # A value that does not begin with a dash names a file of flags.
  is_list = not flags.strip() or flags.lstrip().startswith("-")
  if is_list and _YNN_FLAG not in flags and _jaxlib_knows(_YNN_FLAG):
    os.environ["XLA_FLAGS"] = f"{flags} --{_YNN_FLAG}={_YNN_VALUE}".strip()
  starts_anew = False
  if sys.getfilesystemencoding() != "utf-8" and _UTF8 not in os.environ:
    os.environ[_UTF8], starts_anew = "1", True
  tunables = os.environ.get("GLIBC_TUNABLES", "")
  if _HUGE_PAGES not in tunables and _huge_pages_help():
    os.environ["GLIBC_TUNABLES"] = ":".join(
      filter(None, (tunables, f"{_HUGE_PAGES}=1"))
    )
    starts_anew = True
  return starts_anew


def configure_and_restart() -> None:
  """`configure`, then starts this program anew where that makes it faster.

  The new program has the same process id, arguments and standard streams. Call
  it first thing in a command: what the program has done so far is lost.
  """
  open_streams()
  if (
    configure()
    and os.environ.get(_RESTARTED) != str(os.getpid())
    and _can_restart()
  ):
    os.environ[_RESTARTED] = str(os.getpid())
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def open_streams() -> None:
  """Opens the standard streams that are closed, to nowhere.

  Otherwise the next files that are opened get their numbers, and what libraries
  print ends up in those files.
  """
  for number, name in enumerate(("stdin", "stdout", "stderr")):
    try:
      os.fstat(number)
    except OSError:
      # The lowest number that is free, which is this one.
      os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if getattr(sys, name) is None:
      mode = "w" if number else "r"
      setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115


def start_tracker() -> None:
  """Starts Python's process that removes what other processes leave behind.

  It would add lines of its own where a run leaves at once and says why.
  """
  before = sys.warnoptions[:]
  # The process gets the options of this one.
  sys.warnoptions.append("ignore:resource_tracker:UserWarning")
  try:
    resource_tracker.ensure_running()
  finally:
    sys.warnoptions[:] = before


def _jaxlib_knows(flag: str) -> bool:
  """Whether this jaxlib has a flag; one that it lacks would end the process."""
  spec = importlib.util.find_spec("jaxlib")
  if spec is None or spec.origin is None:
    return False
  folder = pathlib.Path(spec.origin).parent
  # The flags are in the library that holds XLA, which is the largest.
  library = max(folder.glob("*.so"), key=lambda file: file.stat().st_size)
  with (
    library.open("rb") as file,
    mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
  ):
    return content.find(flag.encode()) >= 0


def _huge_pages_help() -> bool:
  """Whether the C library can ask for huge pages, and it makes a difference.

  With 'always' every allocation gets them, with 'never' none. On a GPU or TPU
  the host's memory is not what takes the time.
  """
  try:
    version = os.confstr("CS_GNU_LIBC_VERSION") or ""
    number = tuple(map(int, version.removeprefix("glibc ").split(".")[:2]))
    mode = _HUGE_PAGES_FILE.read_text()
  except (AttributeError, OSError, ValueError):
    return False
  if number < (2, 35) or "[madvise]" not in mode:
    return False
  platforms = os.environ.get("JAX_PLATFORMS", "")
  if platforms:
    return platforms.split(",")[0] == "cpu"
  return not any(pathlib.Path("/dev", name).exists() for name in _ACCELERATORS)


def _can_restart() -> bool:
  """Whether the same program starts from the arguments of this process.

  Not where it came from standard input or a prompt, and not under a debugger,
  a profiler or a coverage tool, which a restart would shake off.
  """
  has_file = getattr(sys.modules["__main__"], "__file__", None) is not None
  monitoring = getattr(sys, "monitoring", None)
  watched = (
    sys.gettrace() is not None
    or sys.getprofile() is not None
    or (monitoring is not None and any(map(monitoring.get_tool, range(6))))
    or "debugpy" in sys.modules
  )
  return bool(sys.executable) and has_file and not watched
