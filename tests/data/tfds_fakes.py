"""Tiny data sets that TFDS finds in place of those of its catalogue."""

import tensorflow_datasets as tfds


def fake(name, version, features, examples, config=None):
  """A builder class with a catalogue set's name, version and features.

  Args:
    name: of the data set.
    version: of its builder.
    features: by name.
    examples: of the split 'train', or of each split by its name.
    config: name of the builder config.
  """
  configs = [tfds.core.BuilderConfig(name=config)] if config else []

  class Fake(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version(version)
    BUILDER_CONFIGS = configs

    def _info(self):
      return tfds.core.DatasetInfo(
        builder=self,
        features=tfds.features.FeaturesDict(features),
        disable_shuffling=True,
      )

    def _split_generators(self, dl_manager):
      by_split = examples if isinstance(examples, dict) else {"train": examples}
      return {
        split: self._generate_examples(own) for split, own in by_split.items()
      }

    def _generate_examples(self, own):
      yield from enumerate(own)

  Fake.name = name
  return Fake


def prepare(tmp_path, cls):
  tfds.disable_progress_bar()
  cls(data_dir=tmp_path, file_format="array_record").download_and_prepare()
