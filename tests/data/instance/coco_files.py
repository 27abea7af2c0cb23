"""Data sets in COCO's format, of three small images."""

import json

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

SIZE = (30, 40)


def ellipse(y, x, radius):
  ys, xs = np.mgrid[: SIZE[0], : SIZE[1]]
  return (ys - y) ** 2 + (xs - x) ** 2 < radius**2


def make_coco(root, layout="coco"):
  """Two images with objects of each encoding, one without; ids in disorder."""
  folder, file = (
    (root / "val", root / "annotations" / "instances_val.json")
    if layout == "coco"
    else (root / "val" / "images", root / "val" / "instances.json")
  )
  folder.mkdir(parents=True)
  file.parent.mkdir(exist_ok=True)
  for name in ("a.png", "b.png", "c.png"):
    Image.new("RGB", SIZE[::-1], (10, 20, 30)).save(folder / name)
  runs = coco_mask.encode(np.asfortranarray(ellipse(20, 12, 6), np.uint8))
  crowd = np.zeros(SIZE, np.uint8)
  crowd[2:5, 30:39] = 1
  columns = crowd.T.ravel()
  edges = np.flatnonzero(np.diff(columns)) + 1
  counts = np.diff([0, *edges, columns.size]).tolist()
  annotations = [
    {
      "id": 5,
      "image_id": 9,
      "category_id": 18,
      "bbox": [3, 4, 10.5, 7],
      "area": 60.0,
      "iscrowd": 0,
      "segmentation": [
        [3, 4, 13.5, 4, 8, 11],
        [20, 20, 25, 20, 25, 26, 20, 26],
      ],
    },
    {
      "id": 6,
      "image_id": 2,
      "category_id": 1,
      "bbox": [7, 15, 11, 11],
      "area": 100,
      "iscrowd": 0,
      "segmentation": {"size": list(SIZE), "counts": runs["counts"].decode()},
    },
    {
      "id": 7,
      "image_id": 9,
      "category_id": 1,
      "bbox": [30, 2, 9, 3],
      "area": 27,
      "iscrowd": 1,
      "segmentation": {"size": list(SIZE), "counts": counts},
    },
    {
      "id": 8,
      "image_id": 9,
      "category_id": 1,
      "bbox": [30, 2, 0, 3],
      "area": 0,
      "iscrowd": 0,
      "segmentation": [[30, 2, 30, 5, 30, 4]],
    },
  ]
  content = {
    "images": [
      {"id": number, "file_name": name, "height": SIZE[0], "width": SIZE[1]}
      for number, name in ((9, "a.png"), (2, "b.png"), (4, "c.png"))
    ],
    "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
    "annotations": annotations,
  }
  file.write_text(json.dumps(content))
  return file, content
