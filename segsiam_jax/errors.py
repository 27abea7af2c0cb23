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

  Attributes:
    exit_code: that `main` exits with: 75 after SIGTERM, 130 after SIGINT.
  """

  def __init__(self, where: str, exit_code: int = 75):
    super().__init__(where)
    self.exit_code = exit_code
