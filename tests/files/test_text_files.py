"""Text as programs save it: read, or refused with its line."""

import json
import os

import pytest

from segsiam_jax.errors import UserError
from segsiam_jax.files import text_files

TEXT = "first,second\n\xe9,\u4f60\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_text_of_any_unicode(tmp_path, encoding, end):
  file = tmp_path / "a.csv"
  file.write_bytes(TEXT.replace("\n", end).encode(encoding))
  assert text_files.read_text(file) == TEXT
  rows = text_files.read_table(file, ("first", "second"))
  assert rows == [(2, {"first": "\xe9", "second": "\u4f60"})]


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (TEXT[:15].encode("latin-1"), r"a\.csv, line 2: not UTF-8 \(byte 0xe9\)"),
    (b"\xff\xfea", r"a\.csv, line 1: not UTF-16 \(byte 0x61\)"),
    ("a,b\n1,2\n".encode("utf-16-le"), r"a\.csv, line 1: a zero byte"),
    (b"a,b\n\0,1\n", r"a\.csv, line 2: a zero byte"),
    (b"\x89PNG\r\n\x1a\n", r"a\.csv, line 1: not UTF-8 \(byte 0x89\)"),
  ],
)
def test_what_is_no_text_is_named(tmp_path, content, message):
  (tmp_path / "a.csv").write_bytes(content)
  with pytest.raises(UserError, match=message) as caught:
    text_files.read_text(tmp_path / "a.csv")
  assert "\n" not in str(caught.value)


def test_pipes_are_not_opened(tmp_path):
  os.mkfifo(tmp_path / "a.csv")
  for read in (text_files.read_text, text_files.read_json):
    with pytest.raises(UserError, match="not a regular file"):
      read(tmp_path / "a.csv")
    with pytest.raises(UserError, match="not a regular file"):
      read(tmp_path)


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("", r"line 1: expected the columns a,b and, if .*, c, .*; found ''"),
    ("a;b\n1;2\n", r"line 1: expected the columns .*; found 'a;b'"),
    ("a,b,a\n1,2,3\n", r"line 1: expected the columns a,b .* each once"),
    ("a,b\n1,2,3\n", r"line 2: 3 values for 2 columns; put values"),
    ('a,b\n1,2\n"3,4\n5,6\n', r"line 4: not readable as CSV"),
    ("a,b\n1,2\n" + "x" * 200_000, r"line 3: not readable as CSV \(field"),
  ],
)
def test_bad_tables_are_named(tmp_path, text, message):
  (tmp_path / "t.csv").write_text(text)
  with pytest.raises(UserError, match=message) as caught:
    text_files.read_table(tmp_path / "t.csv", ("a", "b"), ("c",))
  assert len(str(caught.value)) < 500


def test_tables_may_be_untidy(tmp_path):
  """Spaces, empty lines, empty values at the end, and columns of others."""
  text = '\n b, x ,a\n\n"1, 2",9, 3,,\n4\n,,\n'
  (tmp_path / "t.csv").write_text(text.lstrip("\n"))
  rows = text_files.read_table(tmp_path / "t.csv", ("a", "b"), ("c",))
  assert rows == [
    (3, {"a": "3", "b": "1, 2", "c": ""}),
    (4, {"a": "", "b": "4", "c": ""}),
  ]


@pytest.mark.parametrize(
  "content",
  [
    *(b"", b"{", b"[1,]", b"\xff\xff", b"\xe9", b"[" * 100_000),
    b"1" * 10_000,
    b'{"a": "\x01"}',
    json.dumps({"a": 1}).encode("utf-16") + b"\x00",
  ],
)
def test_what_is_no_json_is_named(tmp_path, content):
  (tmp_path / "a.json").write_bytes(content)
  with pytest.raises(UserError, match=r"a\.json: not readable \(") as caught:
    text_files.read_json(tmp_path / "a.json")
  assert len(str(caught.value)) < 300


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_json_of_any_unicode(tmp_path, encoding):
  (tmp_path / "a.json").write_bytes('{"a": "\xe9"}'.encode(encoding))
  assert text_files.read_json(tmp_path / "a.json") == {"a": "\xe9"}


def test_messages_are_one_line_whatever_a_file_is_called():
  error = UserError("a\nb\x1b[31m\u2028c\r: \xe9 \U0001f408")
  assert str(error) == r"a\nb\x1b[31m\u2028c\r: " + "\xe9 \U0001f408"
  long = str(UserError("first " + "x" * 10**6 + " last"))
  assert len(long) < 1100 and "first" in long and "last" in long
  assert str(UserError(f"{error}; more")) == f"{error}; more"
