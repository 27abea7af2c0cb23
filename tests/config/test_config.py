import pytest

from segsiam_jax import config as config_lib
from segsiam_jax.errors import UserError
from segsiam_jax.fields import semantic_models


@pytest.fixture
def config():
  return config_lib.default_config("semantic", "unet")


def set_field(config, name, value):
  node = config
  *sections, last = name.split(".")
  for section in sections:
    node = node[section]
  with config.unlocked(), node.ignore_type():
    node[last] = value


@pytest.mark.parametrize("model", semantic_models.MODELS)
def test_defaults_are_valid(model):
  config_lib.validate(config_lib.default_config("semantic", model))


@pytest.mark.parametrize(
  ("name", "value", "message"),
  [
    ("train.batch_sise", 3, r"no such field; did you mean .*batch_size\?"),
    ("model.colour", 3, r"config\.model\.colour: no such field"),
    ("train.batch_size", 0, "expected at least 1"),
    ("train.batch_size", 8.5, "expected int"),
    ("train.batch_size", True, "expected int"),
    ("train.batch_size", "8", "expected int"),
    ("optimizer.learning_rate", "x", "expected float"),
    ("optimizer.name", "adam", "expected one of.*did you mean 'adamw'"),
    ("optimizer.schedule", "linear", "expected one of"),
    ("optimizer.nesterov", 1, "expected bool"),
    ("data.image_size", 64, r"expected a tuple; write --config\.data\.image_s"),
    ("data.image_size", (64,), r"expected \(height, width\)"),
    ("data.image_size", (64, 6.5), "expected ints; got 6.5"),
    ("data.image_size", (4, 64), "halves it 4 times needs at least 16 pixels"),
    ("data.eval_image_size", (0, 64), "give as many as image_size has"),
    ("data.eval_image_size", (0, 0, 1), "give as many as image_size has"),
    ("data.image_dtype", "uint16", "only folders have 16-bit files"),
    ("data.image_size", (1, 2, 3, 4), "for volumes"),
    ("data.image_size", (16, 64, 64), "only a folder has volumes"),
    ("predict.window", (64,), r"expected \(height, width\)"),
    ("predict.window", (0, 64), "give every length"),
    ("predict.window", (8, 64, 64), "data.image_size has 2 numbers"),
    ("predict.window", (64, 64), "data.fit = 'resize' trains at another"),
    ("predict.overlap", 1.0, "expected 0 to 0.95"),
    ("predict.blend", "mean", "expected one of 'gaussian'"),
    ("predict.flips", "both", "expected one of"),
    ("data.mean", (1.0,), "expected data.channels = 3 numbers"),
    ("data.std", (1.0, 0.0, 1.0), "expected at least 1e-06"),
    ("data.name", "imagenet", "expected one of"),
    ("data.name", "folder", r"config\.data\.dir"),
    ("data.label_values", (0, 255), "only data.name = 'folder'"),
    ("augment.scale", (2.0, 1.0), "the smaller one first"),
    ("model.norm", "instance", "expected one of 'batch', 'group', 'none'"),
    ("loss.cross_entropy", 0.0, "all losses have weight 0"),
    ("train.grad_accum", 3, "does not divide batch_size 8"),
    ("optimizer.warmup_steps", 5000, "not below train.num_steps"),
    ("optimizer.step_boundaries", (0.8, 0.2), "not in rising order"),
    ("optimizer.frozen", "(", "not a regular expression"),
    ("optimizer.rate_scales", ("a",), "expected 'REGEX=FACTOR'"),
    ("optimizer.rate_scales", ("a=-1",), "expected 'REGEX=FACTOR'"),
    ("backend", "threads", "expected one of 'jit', 'pmap'"),
    ("task", "panoptic", "expected one of"),
    ("model.name", "segformer", "expected one of"),
  ],
)
def test_every_mistake_is_named(config, name, value, message):
  set_field(config, name, value)
  with pytest.raises(UserError, match=message) as caught:
    config_lib.validate(config)
  assert "\n" not in str(caught.value)
  assert str(caught.value).startswith("config.")


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"encoder": "resnet34", "depth": 3}, "only model.encoder = 'plain' takes"),
    ({"decoder_channels": (8, 4)}, "expected 4 numbers for encoder 'plain'"),
    ({"skips": False, "attention": True}, "needs config.model.skips=True"),
    ({"deep_supervision": True, "depth": 1}, "leaves no coarser level"),
    ({"depth": 7}, "halves it 7 times needs at least 128 pixels"),
  ],
)
def test_fields_of_a_unet_fit_together(config, fields, message):
  for name, value in fields.items():
    set_field(config, f"model.{name}", value)
  with pytest.raises(UserError, match=message):
    config_lib.validate(config)


def test_a_refusal_says_why_before_long_values_end(config):
  names = tuple(f"class number {n}" for n in range(300))
  config.data.update(name="folder", dir="x", class_names=names)
  with pytest.raises(UserError, match="at most 255 classes") as caught:
    config_lib.validate(config)
  assert len(str(caught.value)) < 250


def test_missing_fields_are_named(config):
  with config.unlocked():
    del config.train.num_steps
  with pytest.raises(UserError, match=r"config\.train\.num_steps: missing"):
    config_lib.validate(config)


def test_class_names_of_a_folder_match_its_values(config):
  config.data.name, config.data.dir = "folder", "somewhere"
  config_lib.validate(config)
  config.data.label_values = (0, 1)
  with pytest.raises(UserError, match="needs a name for each"):
    config_lib.validate(config)
  config.data.label_values = ()
  config.data.class_names = ("a",)
  with pytest.raises(UserError, match="two or more"):
    config_lib.validate(config)
  config.data.class_names = ("a", "b")
  config_lib.validate(config)
  config.data.label_values = (0, 1, 2)
  with pytest.raises(UserError, match="one value for each of the 2 classes"):
    config_lib.validate(config)


def test_every_field_says_what_it_means():
  for name, field in config_lib.fields("semantic", "unet").items():
    assert field.meaning, name


def test_sixteen_bits_need_their_own_mean(config):
  config.data.name, config.data.dir = "folder", "somewhere"
  config.data.class_names = ("a", "b")
  config.data.image_dtype = "uint16"
  with pytest.raises(UserError, match=r"the defaults of 8 bits.*0\.\.65535"):
    config_lib.validate(config)
  config.data.mean = (32767.5,) * 3
  config_lib.validate(config)


def test_volumes_are_cropped_out_of_folders(config):
  config.data.name, config.data.dir = "folder", "somewhere"
  config.data.class_names = ("a", "b")
  config.data.image_size = (16, 64, 64)
  with pytest.raises(UserError, match=r"data\.fit.*set 'crop'"):
    config_lib.validate(config)
  config.data.fit = "crop"
  config_lib.validate(config)
  config.predict.window = (64, 64)
  with pytest.raises(UserError, match=r"data\.image_size has 3 numbers"):
    config_lib.validate(config)
  config.predict.window = (16, 64, 64)
  config.loss.weight_map = 10.0
  with pytest.raises(UserError, match="is of images, not of volumes"):
    config_lib.validate(config)


def test_a_model_is_chosen_where_the_config_is_made(config):
  config = config.copy_and_resolve_references()
  config.model.name = "fcn_resnet"
  with pytest.raises(UserError, match=r"semantic\.py:fcn_resnet"):
    config_lib.validate(config)
  config = config_lib.default_config("semantic", "unet")
  config.model.update(encoder="resnet34", depth=3)
  with pytest.raises(UserError, match=r"set --config\.model\.depth=4"):
    config_lib.validate(config)
