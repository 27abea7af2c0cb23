"""Rows: image, boxes and masks stay together, whatever is done to them."""

import numpy as np
import pytest

from segsiam_jax.data.instance import rows as instance_rows
from segsiam_jax.data.instance.annotations import (
  Annotations,
  Crop,
  covered_shares,
)
from segsiam_jax.data.instance.placement import Object, Placement
from segsiam_jax.data.pipeline import Buckets
from segsiam_jax.errors import UserError

# Brightness of the objects: far apart, so that they are told by it.
LEVELS = (90, 140, 190, 240)


def make_example(rng, size=(40, 60), count=3):
  """Ellipses on black, the later ones on top; masks are what is seen."""
  image = np.zeros((*size, 1), np.uint8)
  ids = np.zeros(size, int)
  ys, xs = np.mgrid[: size[0], : size[1]]
  for number in range(count):
    y, x = rng.uniform(8, size[0] - 8), rng.uniform(8, size[1] - 8)
    inside = ((ys - y) / rng.uniform(5, 9)) ** 2 + (
      (xs - x) / rng.uniform(5, 9)
    ) ** 2 < 1
    ids[inside] = number + 1
    image[inside] = LEVELS[number]
  crops = [Crop.of(ids == number + 1) for number in range(count)]
  kept = [number for number in range(count) if crops[number].mask.size]
  crops = [crops[number] for number in kept]
  objects = Annotations(
    id=0,
    size=size,
    boxes=np.array([crop.box for crop in crops], np.float32).reshape(-1, 4),
    classes=np.array(kept, np.int32) + 1,
    is_crowd=np.zeros(len(kept), bool),
    masks=crops,
  )
  return {"image": image, "objects": objects}


def make_rows(**options):
  options = {
    "canvas": (48, 64),
    "channels": 1,
    "max_objects": 8,
    "mask_size": 28,
  } | options
  return instance_rows.InstanceRows(**options)


def pasted(row, index):
  """A row's mask, put back into its box on the canvas, as a slow loop."""
  x1, y1, x2, y2 = row["boxes"][index]
  mask = row["masks"][index] / 255
  side = len(mask)
  canvas = np.zeros(row["image"].shape[:2])
  for y in range(int(y1), int(np.ceil(y2))):
    for x in range(int(x1), int(np.ceil(x2))):
      v = int((y + 0.5 - y1) / (y2 - y1) * side)
      u = int((x + 0.5 - x1) / (x2 - x1) * side)
      if 0 <= v < side and 0 <= u < side:
        canvas[y, x] = mask[v, u]
  return canvas > 0.5


@pytest.mark.parametrize("seed", range(8))
def test_boxes_and_masks_follow_the_image(seed):
  """What has an object's brightness is inside of its mask and box."""
  rng = np.random.default_rng(seed)
  example = make_example(rng)
  rows = make_rows(
    train=True,
    jitter=(0.6, 1.8),
    flip_left_right=True,
    flip_up_down=True,
    transpose=True,
  )
  row = rows(example, rng)
  assert {name: (a.shape, a.dtype) for name, a in row.items()} == {
    name: (s.shape, s.dtype) for name, s in rows.spec().items()
  }
  height, width = row["size"]
  assert not row["image"][height:].any() and not row["image"][:, width:].any()
  seen = 0
  for index in np.flatnonzero(row["valid"]):
    level = LEVELS[row["classes"][index] - 1]
    here = np.abs(row["image"][..., 0].astype(int) - level) < 20
    mask = pasted(row, index)
    # Borders are blurred, nothing else; slivers are all border.
    if mask.sum() >= 40:
      assert (here & mask).sum() >= 0.75 * mask.sum() - 8
    ys, xs = np.nonzero(mask)
    x1, y1, x2, y2 = row["boxes"][index]
    assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
    tight = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    np.testing.assert_allclose(tight, (x1, y1, x2, y2), atol=2)
    seen += 1
  assert seen or rows.jitter[1] > 1


def test_evaluation_changes_nothing_that_fits(rng):
  example = make_example(rng)
  row = make_rows()(example, rng)
  np.testing.assert_array_equal(row["image"][:40, :60], example["image"])
  objects = example["objects"]
  count = len(objects.boxes)
  np.testing.assert_array_equal(row["boxes"][:count], objects.boxes)
  np.testing.assert_array_equal(row["classes"][:count], objects.classes)
  assert row["valid"].tolist() == [True] * count + [False] * (8 - count)
  for index in range(count):
    np.testing.assert_array_equal(
      pasted(row, index)[:40, :60],
      objects.masks[index].whole((40, 60)),
    )
  assert row["size"].tolist() == row["original_size"].tolist() == [40, 60]


@pytest.mark.parametrize(
  ("size", "options", "expected"),
  [
    ((96, 60), {}, (48, 30)),
    ((40, 60), {"min_side": 20}, (20, 30)),
    ((40, 60), {"min_side": 40, "max_side": 30}, (20, 30)),
    ((40, 60), {"min_side": 80}, (43, 64)),
    ((40, 60), {"min_side": 20, "enlarge_only": True}, (40, 60)),
    ((20, 30), {"min_side": 40, "enlarge_only": True}, (40, 60)),
    ((90, 60), {"min_side": 20, "enlarge_only": True}, (48, 32)),
  ],
)
def test_evaluation_scales_and_shrinks_to_fit(rng, size, options, expected):
  row = make_rows(**options)(make_example(rng, size), rng)
  assert tuple(row["size"]) == expected
  assert tuple(row["original_size"]) == size


def test_flips_and_transposes_make_all_eight_symmetries(rng):
  image = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
  example = make_example(rng, (3, 4), count=0) | {"image": image}
  rows = make_rows(
    canvas=(4, 4),
    train=True,
    flip_left_right=True,
    flip_up_down=True,
    transpose=True,
  )
  seen = set()
  for _ in range(100):
    row = rows(example, rng)
    height, width = row["size"]
    seen.add(row["image"][:height, :width, 0].tobytes())
  turned = [np.rot90(image[..., 0], k) for k in range(4)]
  assert seen == {
    array.tobytes() for one in turned for array in (one, one[:, ::-1])
  }


def test_an_image_is_stretched_before_it_is_cut(rng):
  image = np.zeros((96, 128, 1), np.uint8)
  image[:48] = 40
  example = make_example(rng, (96, 128), count=0) | {"image": image}
  for _ in range(5):
    row = make_rows(train=True, stretch=True)(example, rng)
    assert set(np.unique(row["image"])) <= {0, 255}


def test_training_cuts_what_is_too_large(rng):
  example = make_example(rng, (90, 130))
  row = make_rows(train=True)(example, rng)
  assert row["size"].tolist() == [48, 64]
  image = example["image"][..., 0]
  windows = np.lib.stride_tricks.sliding_window_view(image, (48, 64))
  assert (windows == row["image"][..., 0]).all((-2, -1)).any()


def test_a_mask_is_scaled_as_its_pixels_are():
  """Area averages over the mask's pixels, thresholded at a half."""
  mask = np.zeros((12, 16), bool)
  mask[3:9, 4:13] = True
  placement = Placement((12, 16), (24, 32), (0, 0), (24, 32))
  crop = placement._crop(Crop.of(mask))
  assert crop.box == (8, 6, 26, 18) and crop.mask.all()
  half = Placement((12, 16), (6, 8), (0, 0), (6, 8))._crop(Crop.of(mask))
  assert half.box in ((2, 1, 6, 5), (2, 1, 7, 5), (2, 2, 6, 5), (2, 2, 7, 5))


def test_cells_hold_the_covered_share():
  crop = Crop(2, 3, np.ones((4, 4), bool))
  inside = instance_rows.mask_in_box(crop, (3, 2, 7, 6), 4)
  assert (inside == 255).all()
  # The left half of this box is outside of the mask.
  half = instance_rows.mask_in_box(crop, (-1, 2, 7, 6), 8)
  assert (half[:, :3] == 0).all() and (half[:, 5:] == 255).all()
  shifted = instance_rows.mask_in_box(crop, (2.5, 2, 6.5, 6), 4)
  np.testing.assert_allclose(shifted[:, 0], 127.5, atol=1)


def test_pasting_covers_what_is_below(rng):
  below, above = np.zeros((20, 20), bool), np.zeros((30, 25), bool)
  below[5:15, 5:15] = True
  above[5:15, 10:25] = True

  def placed(mask, label):
    objects = Annotations(
      id=0,
      size=mask.shape,
      boxes=np.array([Crop.of(mask).box], np.float32),
      classes=np.array([label]),
      is_crowd=np.zeros(1, bool),
      masks=[Crop.of(mask)],
    )
    whole = Placement(mask.shape, mask.shape, (0, 0), mask.shape)
    return whole.objects(objects)

  image = np.full((20, 20, 1), 10, np.uint8)
  other = np.full((30, 25, 1), 200, np.uint8)
  result, objects = instance_rows.paste(
    image, placed(below, 1), other, placed(above, 2)
  )
  assert (image == 10).all()
  np.testing.assert_array_equal(result[..., 0] == 200, above[:20, :20])
  assert [one.label for one in objects] == [1, 2]
  np.testing.assert_array_equal(objects[0].box, (5, 5, 10, 15))
  # Cut off at the image's right border.
  np.testing.assert_array_equal(objects[1].box, (10, 5, 20, 15))
  np.testing.assert_array_equal(
    objects[1].crop.whole((20, 20)), above[:20, :20]
  )
  _, alone = instance_rows.paste(
    image, placed(below, 1), other, placed(below, 2)
  )
  assert [one.label for one in alone] == [2]
  assert instance_rows.paste(image, placed(below, 1), other, [])[1]


def test_a_pasted_box_stays_in_the_image():
  """Its mask, of whole pixels, may where the box does not."""
  mask = np.ones((2, 3), bool)
  box = np.array([1.0, 1.0, 4.4, 3.3])
  one = Object(box, 1, Crop.of(mask, top=1, left=1))
  seen = one.within((3, 4))
  assert seen.box.tolist() == [1.0, 1.0, 4.0, 3.0]
  assert seen.crop.box == (1, 1, 4, 3)
  assert one.within((30, 40)).box.tolist() == box.tolist()
  _, [there] = instance_rows.paste(
    np.zeros((3, 4, 3), np.uint8), [], np.zeros((5, 9, 3), np.uint8), [one]
  )
  assert there.box.tolist() == seen.box.tolist()


def test_copy_paste_takes_objects_of_others(rng):
  examples = [make_example(rng, count=1), make_example(rng, count=4)]
  rows = make_rows(train=True, copy_paste=1.0, source=examples)
  counts = {int(rows(examples[0], rng)["valid"].sum()) for _ in range(30)}
  assert max(counts) >= 3 and 1 in counts
  rows = make_rows(train=False, copy_paste=1.0, source=examples)
  assert rows(examples[0], rng)["valid"].sum() == 1


def test_the_largest_are_kept_and_the_others_counted(rng):
  boxes = np.array(
    [[0, 0, 5, 5], [10, 0, 30, 20], [0, 20, 9, 30], [40, 0, 42, 2]], np.float32
  )
  objects = Annotations(
    0, (40, 60), boxes, np.arange(4) + 1, np.array([0, 0, 0, 0]), None
  )
  example = {"image": np.zeros((40, 60, 1), np.uint8), "objects": objects}
  row = make_rows(max_objects=2, mask_size=0)(example, rng)
  assert row["classes"].tolist() == [2, 3] and row["left_out"] == 2
  assert "masks" not in row
  crowd = objects._replace(is_crowd=np.array([0, 1, 0, 0]))
  row = make_rows(mask_size=0)(example | {"objects": crowd}, rng)
  assert row["classes"][:4].tolist() == [1, 3, 4, 0] and row["left_out"] == 0


def test_an_image_without_objects_is_a_row(rng):
  example = make_example(rng, count=0)
  row = make_rows(train=True, copy_paste=0.5, source=[example])(example, rng)
  assert not row["valid"].any() and not row["masks"].any()


def test_buckets_by_size():
  canvases = [(64, 96), (96, 64), (128, 128)]
  sizes = [(64, 96), (60, 90), (90, 60), (97, 60), (128, 300), (1000, 10)]
  assert instance_rows.assign_buckets(sizes, canvases, 0, 0).tolist() == [
    *(0, 0, 1, 2, 2, 2)
  ]
  # With a shorter side of 70, 60x90 is 70x105.
  assert instance_rows.assign_buckets(sizes, canvases, 70, 0).tolist() == [
    *(2, 2, 2, 2, 2, 2)
  ]
  assert instance_rows.assign_buckets(sizes, canvases, 32, 0).tolist() == [
    *(0, 0, 0, 0, 0, 2)
  ]
  # Of sizes that are larger already, as without a shorter side.
  assert instance_rows.assign_buckets(
    sizes[:5], canvases, 32, 0, True
  ).tolist() == [*(0, 0, 1, 2, 2)]

  class Known:
    sizes = np.array([(64, 96), (90, 60)])

  rows = instance_rows.bucketed(make_rows(), Known(), canvases)
  assert isinstance(rows, Buckets) and rows.of.tolist() == [0, 1]
  assert [one.canvas for one in rows.rows] == canvases
  Known.sizes = None
  with pytest.raises(UserError, match=r"config\.data\.buckets: .* one bucket"):
    instance_rows.bucketed(make_rows(), Known(), canvases)
  assert instance_rows.bucketed(make_rows(), Known(), canvases[:1]).canvas == (
    64,
    96,
  )


def test_covered_shares_of_masks():
  left, right = np.zeros((2, 6, 8), bool)
  left[1:5, 1:5] = True
  right[1:5, 4:8] = True
  left &= ~right
  boxes = [[1, 1, 5, 5], [4, 1, 8, 5], [0, 0, 8, 6]]
  objects = Annotations(
    0,
    (6, 8),
    np.array(boxes, np.float32),
    np.ones(3, int),
    np.array([False, False, True]),
    [Crop.of(left), Crop.of(right), Crop.of(np.ones((6, 8)))],
  )
  # A column of the first one's box is the second's; the crowd covers nothing.
  np.testing.assert_allclose(covered_shares(objects), [0.25, 0, 28 / 48])
