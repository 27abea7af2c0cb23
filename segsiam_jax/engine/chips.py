"""What accelerators can do, as their makers say, to bound what a step takes."""

from typing import NamedTuple


class Chip(NamedTuple):
  """An accelerator.

  Attributes:
    memory: bytes.
    flops: of bfloat16 products, each second.
    bandwidth: bytes of its memory, each second.
    links: bytes that it can send to others of its slice, each second.
  """

  memory: float
  flops: float
  bandwidth: float
  links: float


# docs.cloud.google.com/tpu/docs: v4, v5e, v5p, v6e. Half of what is called
# bidirectional is sent.
TPUS: dict[str, Chip] = {
  "v4": Chip(32e9, 275e12, 1228e9, 300e9),
  "v5e": Chip(16e9, 197e12, 819e9, 200e9),
  "v5p": Chip(95e9, 459e12, 2765e9, 600e9),
  "v6e": Chip(32e9, 918e12, 1638e9, 400e9),
}
