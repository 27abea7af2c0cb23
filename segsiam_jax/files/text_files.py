"""Text that people made: lists, tables and JSON, whatever program saved it."""

import codecs
import csv
import io
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from segsiam_jax.errors import UserError, first_line, shown

# UTF-32's little-endian mark begins like that of UTF-16.
_MARKS = (
  (codecs.BOM_UTF8, "utf-8-sig"),
  (codecs.BOM_UTF32_LE, "utf-32"),
  (codecs.BOM_UTF32_BE, "utf-32"),
  (codecs.BOM_UTF16_LE, "utf-16"),
  (codecs.BOM_UTF16_BE, "utf-16"),
)
# Digits of a whole number of 64 bits.
_MOST_DIGITS = 18


def read_text(path: str | os.PathLike) -> str:
  """The text of a file; see `decode_text`.

  Raises:
    UserError: it is not a regular file, cannot be read, or is not text.
  """
  return decode_text(_read_bytes(path), str(path))


def decode_text(content: bytes, where: str) -> str:
  """UTF-8, or UTF-16 and UTF-32 with a mark in front, with lines ended by \\n.

  Args:
    content: of a file.
    where: its name, for the message.

  Raises:
    UserError: with the line; it is not such text. What one byte a letter means
      (Latin-1 and others) differs from program to program, and is not guessed.
  """
  marked = (code for mark, code in _MARKS if content.startswith(mark))
  encoding = next(marked, "utf-8")
  try:
    text = content.decode(encoding)
  except UnicodeDecodeError as error:
    line = content.count(b"\n", 0, error.start) + 1
    raise UserError(
      f"{where}, line {line}: not {encoding.removesuffix('-sig').upper()} "
      f"(byte 0x{content[error.start]:02x}); save the file as UTF-8"
    ) from error
  if "\0" in text:
    line = text.count("\n", 0, text.index("\0")) + 1
    raise UserError(
      f"{where}, line {line}: a zero byte; it is not text, or is UTF-16 "
      "without a byte order mark: save the file as UTF-8"
    )
  return text.replace("\r\n", "\n").replace("\r", "\n")


def read_table(
  path: str | os.PathLike, columns: Sequence[str], optional: Sequence[str] = ()
) -> list[tuple[int, dict[str, str]]]:
  """The rows of a CSV file whose first line names its columns.

  Args:
    path: of the file.
    columns: that it must have, in any order.
    optional: that it may have; others are left out.

  Returns:
    Of each row, the number of its line and its values, without spaces around
    them; '' for those that are missing. Empty lines are not rows.

  Raises:
    UserError: with the line; it is not text, or not a table with these columns.
  """
  lines = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
  rows = []
  names: list[str] | None = None
  try:
    for values in lines:
      values = [value.strip() for value in values]
      if names is None:
        names = _check_header(f"{path}, line 1", values, columns, optional)
        continue
      if not any(values):
        continue
      if any(values[len(names) :]):
        raise UserError(
          f"{path}, line {lines.line_num}: {len(values)} values for "
          f"{len(names)} columns; put values that hold a comma in quotes"
        )
      row = dict.fromkeys((*columns, *optional), "")
      row |= {
        name: value
        for name, value in zip(names, values, strict=False)
        if name in row
      }
      rows.append((lines.line_num, row))
  except csv.Error as error:
    raise UserError(
      f"{path}, line {lines.line_num}: not readable as CSV "
      f"({first_line(error)}); look for an unclosed quote"
    ) from error
  if names is None:
    _check_header(f"{path}, line 1", [], columns, optional)
  return rows


def read_header(path: str | os.PathLike) -> list[str]:
  """Names of the columns of a CSV file, in their order; [] if it is empty."""
  first = read_text(path).partition("\n")[0]
  return [name.strip() for name in next(csv.reader([first]), [])]


def _check_header(
  where: str, names: list[str], columns: Sequence[str], optional: Sequence[str]
) -> list[str]:
  known = [name for name in names if name in (*columns, *optional)]
  if set(columns) <= set(known) and len(set(known)) == len(known):
    return names
  expected = ",".join(columns)
  if optional:
    expected += f" and, if there are any, {','.join(optional)}"
  raise UserError(
    f"{where}: expected the columns {expected}, each once, with commas between "
    f"them; found {shown(','.join(names))}"
  )


def whole_number(text: str) -> int | None:
  """A whole number from 0 on, below 10^18; None if the text is none.

  >>> whole_number("007"), whole_number("-1"), whole_number("9" * 5000)
  (7, None, None)
  """
  if not text.isdecimal() or len(text) > _MOST_DIGITS:
    return None
  return int(text)


def read_json(path: str | os.PathLike) -> Any:
  """What a JSON file holds.

  Raises:
    UserError: with the place; it is not a regular file, or not JSON.
  """
  return parse_json(_read_bytes(path), str(path))


def parse_json(content: bytes, where: str) -> Any:
  """What JSON means.

  Args:
    content: in UTF-8, UTF-16 or UTF-32.
    where: its file, for the message.

  Raises:
    UserError: with the place; it is no JSON.
  """
  try:
    return json.loads(content)
  except RecursionError as error:
    raise UserError(f"{where}: not readable (nested too deeply)") from error
  except ValueError as error:
    raise UserError(f"{where}: not readable ({first_line(error)})") from error


def _read_bytes(path: str | os.PathLike) -> bytes:
  if not os.path.isfile(path):
    raise UserError(f"{path}: not a regular file")
  try:
    return pathlib.Path(path).read_bytes()
  except OSError as error:
    raise UserError(f"{path}: not readable ({error.strerror})") from error
