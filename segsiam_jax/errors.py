"""The ways in which a run ends early on purpose."""


class UserError(Exception):
  """Bad input: the message says what, where and how to mend it, in one line.

  `main` prints the message alone and exits with code 2.
  """


def first_line(error: Exception) -> str:
  """The first line of what a library's exception says.

  >>> first_line(ValueError("bad shape\\nand more")), first_line(ValueError())
  ('bad shape', 'ValueError')
  """
  lines = str(error).strip().splitlines()
  return lines[0] if lines else type(error).__name__


class Preempted(Exception):
  """Training was told to stop, and has saved; run it again to go on.

  `main` exits with code 75.
  """
