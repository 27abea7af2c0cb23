"""A task of its own beside the library: the depth of every pixel."""
