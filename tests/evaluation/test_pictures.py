import zlib

import cv2
import numpy as np
import pytest
import torch

from match_rcnn.d2 import Boxes, BoxMode, EventStorage, Instances
from match_rcnn.evaluation import pictures
from match_rcnn.evaluation.pictures import KeepAnnotations, PredictionPictures, side_by_side

HEIGHT, WIDTH = 200, 100
IDS = (1, 2, 3, 4, 5, 6)
# Whatever the order of evaluation, these two are drawn.
CHOSEN = sorted(IDS, key=lambda i: zlib.crc32(str(i).encode()))[:2]


@pytest.fixture
def sample(tmp_path):
    def make(image_id, annotated=True):
        file = tmp_path / f"{image_id}.png"
        cv2.imwrite(str(file), np.full((HEIGHT, WIDTH, 3), 200, np.uint8))
        annotation = {
            "bbox": [10.0, 10.0, 30.0, 30.0],
            "bbox_mode": BoxMode.XYWH_ABS,
            "category_id": 0,
        }
        return {
            "file_name": str(file),
            "image_id": image_id,
            "height": HEIGHT,
            "width": WIDTH,
            "image": torch.zeros(3, 8, 8),
            "annotations": [annotation] if annotated else [],
        }

    return make


def found(*scores):
    boxes = torch.tensor([[50.0, 120.0, 90.0, 180.0]]).repeat(len(scores), 1)
    instances = Instances((HEIGHT, WIDTH))
    instances.pred_boxes = Boxes(boxes)
    instances.scores = torch.tensor(scores)
    instances.pred_classes = torch.full((len(scores),), 7)
    return {"instances": instances}


def evaluate(evaluator, samples):
    evaluator.reset()
    for one in samples:
        evaluator.process([one], [found(0.9)])
    assert evaluator.evaluate() == {}


@pytest.mark.parametrize("order", [IDS, IDS[::-1]])
def test_the_same_images_are_drawn_in_whatever_order_they_come(sample, tmp_path, order):
    with EventStorage(40) as storage:
        evaluator = PredictionPictures(2, tmp_path / "out")
        evaluate(evaluator, [sample(i) for i in order])
        put = {name: (image, iteration) for name, image, iteration in storage._vis_data}
    assert put.keys() == {f"predictions/{i}" for i in CHOSEN}
    assert {p.name for p in (tmp_path / "out").iterdir()} == {f"{i}.jpg" for i in CHOSEN}
    for image, iteration in put.values():
        assert (image.dtype, iteration) == (torch.uint8, 40)
        assert image.shape == (3, 400 + 24, 2 * 200)


def test_reset_forgets_the_last_evaluation(sample, tmp_path):
    evaluator = PredictionPictures(10, tmp_path / "out")
    evaluate(evaluator, [sample(1), sample(2)])
    evaluator.reset()
    assert evaluator.evaluate() == {}
    evaluate(PredictionPictures(10, tmp_path / "other"), [sample(2)])
    assert [p.name for p in (tmp_path / "other").iterdir()] == ["2.jpg"]


def test_every_picture_is_of_the_chosen_ones_of_all_processes(sample, tmp_path, monkeypatch):
    """Another process has images with the smallest checksum of all: one place is left."""
    monkeypatch.setattr(pictures.comm, "all_gather", lambda own: [own, [-1]])
    evaluate(PredictionPictures(2, tmp_path / "out"), [sample(i) for i in IDS])
    assert [p.name for p in (tmp_path / "out").iterdir()] == [f"{CHOSEN[0]}.jpg"]


def changed(picture, left, box):
    """Whether anything was drawn on the edge of a box, in pixels of the photo, in a half."""
    x0, y0, x1, _ = (2 * v for v in box)
    strip = picture[24 + y0 - 6 : 24 + y0 + 6, left + x0 : left + x1]
    return bool((strip != 200).any())


def test_annotations_stand_left_and_predictions_right(sample):
    garments = pictures.garments_from_instances(found(0.9)["instances"])
    picture = side_by_side(sample(1), garments)
    annotated, predicted = (10, 10, 40, 40), (50, 120, 90, 180)
    assert changed(picture, 0, annotated)
    assert not changed(picture, 200, annotated)
    assert changed(picture, 200, predicted)
    assert not changed(picture, 0, predicted)


def test_unsure_detections_are_left_out_and_the_best_kept(sample, monkeypatch):
    drawn = []
    monkeypatch.setattr(pictures, "side_by_side", lambda s, f, _: drawn.append(f) or np.zeros(1))
    evaluator = PredictionPictures(1, score_threshold=0.5, max_detections=2)
    evaluator.process([sample(1)], [found(0.2, 0.6, 0.5, 0.9)])
    monkeypatch.setattr(evaluator, "_hand_over", lambda *_: None)
    evaluator.evaluate()
    assert [round(g.score, 1) for g in drawn[0]] == [0.9, 0.6]


def test_nothing_found_and_nothing_annotated(sample, tmp_path):
    evaluator = PredictionPictures(1, tmp_path / "out")
    evaluator.process([sample(1, annotated=False)], [found()])
    evaluator.evaluate()
    assert (tmp_path / "out" / "1.jpg").is_file()


def test_no_image_at_all():
    assert PredictionPictures(3).evaluate() == {}


def test_annotations_pass_the_mapper():
    mapped = KeepAnnotations(lambda d: {"image_id": d["image_id"]})
    assert mapped({"image_id": 3, "annotations": [1]}) == {"image_id": 3, "annotations": [1]}
    assert mapped({"image_id": 3}) == {"image_id": 3, "annotations": []}
