"""The one exception that stands for a mistake of the user's."""


class UserError(Exception):
  """Bad input: the message says what, where and how to mend it, in one line.

  `main` prints the message alone and exits with code 2.
  """
