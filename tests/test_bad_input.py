"""The data sets that the corpus of bad input spoils are good."""

import pytest

from segsiam_jax import inputs
from segsiam_jax.config import validate
from tests import bad_inputs


@pytest.mark.parametrize("reader", bad_inputs.READERS)
def test_the_corpus_is_made_of_good_data(tmp_path, reader):
  make, _ = bad_inputs.READERS[reader]
  make(tmp_path)
  config = bad_inputs.config_of(reader, tmp_path)
  validate(config)
  for train in (True, False):
    opened = inputs.open_inputs(config, train=train)
    assert next(iter(opened.batches))["image"].any()
  inputs.check_together(
    config, *(inputs.open_inputs(config, train=t) for t in (True, False))
  )
