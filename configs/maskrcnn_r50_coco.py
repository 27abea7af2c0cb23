"""Mask R-CNN with a ResNet-50 and a feature pyramid on COCO, 1x schedule.

The schedule of detectron2's and mmdetection's baselines, for a TPU or GPUs:
90,000 steps of 16 images whose shorter side is 800. We have not run it. The
same schedule gives box AP 38.6 and mask AP 35.2 in detectron2, and 38.2 and
34.7 in mmdetection; detectron2 needs 6.5 hours on eight V100 GPUs.

  python -m segsiam_jax.main --config=configs/maskrcnn_r50_coco.py \
    --config.data.dir=COCO_FOLDER --config.init_from=resnet50.pth \
    --workdir=runs/maskrcnn_r50_coco

COCO_FOLDER holds train2017/, val2017/ and annotations/instances_*.json.
resnet50.pth holds weights that torchvision publishes: the frozen norms and
first stages need pretrained ones.
"""

from segsiam_jax.config import default_config


def get_config(arg: str = ""):
  config = default_config("instance", "mask_rcnn")
  config.dtype = "bfloat16"
  config.data.name = "coco"
  config.data.train_split = "train2017"
  config.data.eval_split = "val2017"
  config.data.mean = (123.675, 116.28, 103.53)
  config.data.std = (58.395, 57.12, 57.375)
  config.data.min_side = 800
  config.data.max_side = 1333
  # Most photographs are 4:3; these hold any up to 1333 pixels.
  config.data.buckets = ("800x1088", "1088x800", "800x1344", "1344x800")
  config.data.mask_size = 112
  config.data.workers = 8
  config.augment.flip_left_right = True
  config.optimizer.name = "momentum"
  config.optimizer.learning_rate = 0.02
  config.optimizer.weight_decay = 1e-4
  config.optimizer.frozen = "^encoder/(conv1|bn1|layer1)"
  config.optimizer.warmup_steps = 1000
  config.optimizer.schedule = "step"
  config.optimizer.step_boundaries = (0.6667, 0.8889)
  config.train.batch_size = 16
  config.train.eval_batch_size = 16
  config.train.num_steps = 90_000
  config.train.eval_every = 15_000
  config.train.checkpoint_every = 1000
  config.train.best_metric = "mask/AP"
  if arg == "debug":
    config.dtype = "float32"
    config.data.train_split = "train2017[:8]"
    config.data.eval_split = "val2017[:4]"
    config.data.min_side = 64
    config.data.max_side = 96
    config.data.buckets = ("64x96", "96x64")
    config.data.mask_size = 28
    config.data.workers = 0
    config.model.encoder_width = 4
    config.model.norm = "batch"
    config.model.width = 8
    config.model.box_widths = (16,)
    config.model.rpn_pre_nms = (64, 64)
    config.model.rpn_post_nms = (64, 64)
    config.model.roi_samples = 32
    config.optimizer.frozen = ""
    config.optimizer.warmup_steps = 1
    config.train.batch_size = 2
    config.train.eval_batch_size = 2
    config.train.num_steps = 4
    config.train.log_every = 1
    config.train.eval_every = 4
    config.train.checkpoint_every = 4
  elif arg:
    raise ValueError(f"{arg!r} is not 'debug'")
  return config
