"""Bilinear interpolation, a position at a time."""


def corners_of(position, size):
  """(index, weight) of the two cells around a position, or none outside."""
  if position < -1 or position > size:
    return []
  position = max(position, 0.0)
  first = int(position)
  if first >= size - 1:
    return [(size - 1, 1.0)]
  return [(first, 1 - (position - first)), (first + 1, position - first)]
