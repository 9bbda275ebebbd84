"""A tiny data set of four photos and runs on it."""

import json

import cv2
import numpy as np
import pytest
from pycocotools import mask as mask_utils

from match_rcnn.data import taxonomy
from match_rcnn.data.coco import category_records
from match_rcnn.data.synthetic.templates import TEMPLATES
from match_rcnn.evaluation.coco.predictions import ImagePredictions, write_predictions
from match_rcnn.evaluation.retrieval.files import write_retrieved
from match_rcnn.evaluation.retrieval.protocol import Retrieved

HEIGHT, WIDTH = 90, 120
#: id, image, category, box, style; images 1 and 2 are a consumer's, 3 and 4 a shop's.
ITEMS = [
    (1, 1, 7, (10, 10, 40, 40), 1),
    (2, 1, 8, (60, 10, 40, 70), 0),
    (3, 2, 9, (20, 20, 50, 50), 2),
    (4, 3, 7, (30, 30, 40, 40), 1),
    (5, 4, 9, (10, 10, 60, 60), 2),
]


def annotation(number, image, category_id, box, style):
    category = taxonomy.DEEPFASHION2.category(category_id)
    x, y, w, h = box
    xy = np.rint(np.array([x, y]) + TEMPLATES[category.id].xy * [w, h])
    points = np.column_stack([xy, np.full(len(xy), 2)])
    return {
        "id": number,
        "image_id": image,
        "category_id": category_id,
        "bbox": list(box),
        "area": w * h,
        "iscrowd": 0,
        "num_keypoints": len(points),
        "keypoints": points.reshape(-1).tolist(),
        "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
        "pair_id": 5,
        "style": style,
        "scale": 1 + number % 3,
        "occlusion": 1 + number % 2,
        "zoom_in": 1,
        "viewpoint": 2,
    }


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """The folder: ``gt.json`` and ``image/``."""
    folder = tmp_path_factory.mktemp("data") / "set"
    (folder / "image").mkdir(parents=True)
    sources = {1: "user", 2: "user", 3: "shop", 4: "shop"}
    images = [
        {"id": i, "height": HEIGHT, "width": WIDTH, "source": source, "pair_id": 5}
        for i, source in sources.items()
    ]
    truth = {
        "images": images,
        "annotations": [annotation(*item) for item in ITEMS],
        "categories": category_records(compact=True),
    }
    (folder / "gt.json").write_text(json.dumps(truth))
    for i in sources:
        photo = np.full((HEIGHT, WIDTH, 3), 40 * i, np.uint8)
        cv2.imwrite(str(folder / "image" / f"{i:06d}.jpg"), photo)
    return folder


def detection(item, moved=0.0, category_id=None, score=0.9):
    """(image, category, box, score, points) of an item's, moved to the right by pixels."""
    _, image, own, (x, y, w, h), _ = item
    category = taxonomy.DEEPFASHION2.category(category_id or own)
    points = np.array([x + moved, y]) + TEMPLATES[category.id].xy * [w, h]
    return image, category.id, (x + moved, y, w, h), score, np.rint(points)


def write_run(folder, detections, dataset="tiny"):
    """The result files of boxes, masks and landmarks, and of retrieval: every query finds the two
    shop items, the right one of item 1 first, of item 3 second."""
    inference = folder / "inference" / dataset
    predictions = []
    for image in range(1, 5):
        own = sorted((d for d in detections if d[0] == image), key=lambda d: -d[3])
        boxes = np.array([d[2] for d in own], np.float32).reshape(-1, 4)
        ones = [np.ones((len(d[4]), 1)) for d in own]
        predictions.append(
            ImagePredictions(
                image,
                (HEIGHT, WIDTH),
                np.array([d[1] for d in own], np.int64),
                boxes,
                np.array([d[3] for d in own], np.float32),
                [_mask(box) for box in boxes],
                [
                    np.hstack([d[4], one]).astype(np.float32)
                    for d, one in zip(own, ones, strict=True)
                ],
            )
        )
    for task in ("bbox", "segm", "keypoints"):
        write_predictions(inference, task, predictions)
    queries = [d for d in detections if d[0] in (1, 2)]
    gallery = np.array([[30, 30, 70, 70], [10, 10, 70, 70]], float)
    number = len(queries)
    boxes = np.array([d[2] for d in queries], float).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    write_retrieved(
        inference / "retrieval_results.json",
        Retrieved(
            np.array([d[0] for d in queries], np.int64),
            boxes,
            np.array([d[1] for d in queries], np.int64),
            np.array([d[3] for d in queries]),
            np.tile([3, 4], (number, 1)),
            np.tile(gallery, (number, 1, 1)),
            np.full(number, 2),
        ),
    )
    return folder


def _mask(box):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    x, y, w, h = np.rint(box).astype(int).clip(0)
    mask[y : y + h, x : x + w] = 1
    return mask_utils.encode(mask)["counts"]


@pytest.fixture(scope="session")
def perfect(tmp_path_factory):
    """A run that finds everything as it is."""
    folder = tmp_path_factory.mktemp("runs") / "perfect"
    return write_run(folder, [detection(item) for item in ITEMS])


@pytest.fixture(scope="session")
def flawed(tmp_path_factory):
    """Item 1 found and once more, badly; 2 taken for shorts; 3 with an IoU of .6; 4 missed; 5
    found; and a detection of nothing."""
    folder = tmp_path_factory.mktemp("runs") / "flawed"
    found = [
        detection(ITEMS[0], score=0.95),
        detection(ITEMS[0], moved=30, score=0.35),
        detection(ITEMS[1], category_id=7, score=0.8),
        detection(ITEMS[2], moved=12.5, score=0.7),
        detection(ITEMS[4], score=0.9),
        (4, 1, (90.0, 60.0, 20.0, 20.0), 0.6, np.zeros((25, 2))),
    ]
    return write_run(folder, found)


@pytest.fixture(scope="session")
def runs(data, perfect, flawed):
    from match_rcnn.reporting.numbers.runs import Where, read_runs

    where = Where(data / "gt.json", data / "image", "measured on a test")
    return read_runs([perfect, flawed], where)
