"""TFDS builders of the data that ships with the project's dependencies."""
