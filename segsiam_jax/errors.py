"""The ways in which a run ends early on purpose."""


class UserError(Exception):
  """Bad input: the message says what, where and how to mend it, in one line.

  `main` prints the message alone and exits with code 2.
  """


class Preempted(Exception):
  """Training was told to stop, and has saved; run it again to go on.

  `main` exits with code 75.
  """
