"""Landmarks here and none there, labels item by item: files, scores and results."""

import json

import numpy as np
import pytest
from pycocotools import mask as mask_utils

from match_rcnn.data.taxonomy import Category, Taxonomy
from match_rcnn.evaluation.coco.arrays import GroundTruth
from match_rcnn.evaluation.coco.files import read_detections, read_ground_truth
from match_rcnn.evaluation.coco.predictions import (
    ImagePredictions,
    to_detections,
    write_predictions,
)
from match_rcnn.evaluation.coco.scoring import evaluate
from match_rcnn.evaluation.coco.subsets import evaluate_files, score_views
from match_rcnn.evaluation.submission import check_results

GARMENTS = Taxonomy(
    "a shop's",
    (
        Category(3, "coat", tuple("abcd"), sigmas=(0.05,) * 4),
        Category(5, "bag"),
        Category(9, "belt", tuple("ef"), sigmas=(0.1, 0.2)),
    ),
)
ALL = ("bbox", "segm", "keypoints")
SQUARE = [[10, 10, 50, 10, 50, 50, 10, 50]]


def points(number):
    """(n, 3) corners of the square."""
    corners = np.array([[10, 10], [50, 10], [50, 50], [10, 50]])[:number]
    return np.hstack([corners, np.full((number, 1), 2)]).astype(np.float32)


def item(number, category_id, **labels):
    return {
        "id": number,
        "image_id": number,
        "category_id": category_id,
        "bbox": [10, 10, 40, 40],
        **labels,
    }


ITEMS = [
    item(1, 3, keypoints=points(4).ravel().tolist(), segmentation=SQUARE),
    item(2, 5, segmentation=SQUARE),  # a category without landmarks
    item(3, 9, keypoints=[0] * 12 + points(2).ravel().tolist(), segmentation=SQUARE),  # dense
    item(4, 3, segmentation=SQUARE),  # no landmarks labelled
    item(5, 9, keypoints=points(2).ravel().tolist()),  # no mask
]


@pytest.fixture
def truth(tmp_path) -> GroundTruth:
    content = {
        "images": [{"id": i, "height": 60, "width": 60} for i in range(1, 6)],
        "annotations": ITEMS,
        "categories": [{"id": c.id, "name": c.name} for c in GARMENTS.categories],
    }
    (tmp_path / "gt.json").write_text(json.dumps(content))
    found = read_ground_truth(tmp_path / "gt.json", ALL, GARMENTS)
    assert found is not None
    return found


def predictions():
    """Right ones everywhere."""
    found = []
    for entry in ITEMS:
        category = GARMENTS.category(entry["category_id"])
        found.append(
            ImagePredictions(
                entry["image_id"],
                (60, 60),
                np.array([category.id]),
                np.array([[10, 10, 40, 40]], dtype=np.float32),
                np.array([0.9], dtype=np.float32),
                [b"]"],
                [points(category.num_landmarks)],
            )
        )
    return found


def test_labels_that_are_missing(truth):
    assert truth.areas.tolist() == [1600] * 5  # the boxes'
    assert truth.num_keypoints.tolist() == [4, 0, 0, 2, 2]  # coats, bag, belts
    assert truth.unmasked.tolist() == [False, False, False, False, True]
    assert {c: table.shape for c, table in truth.landmarks.tables.items()} == {
        3: (1, 4, 3),
        9: (2, 2, 3),
    }


def test_a_category_without_landmarks_is_not_in_landmark_ap(truth, tmp_path):
    found = to_detections("keypoints", predictions(), truth, 20)
    scores = evaluate("keypoints", truth, found)
    assert list(scores.per_category()) == ["coat", "belt"]
    # The coat whose landmarks nobody labelled counts neither way.
    assert scores.stats["AP"] == pytest.approx(1)
    views = score_views("keypoints", truth, found)
    assert views["keypoints_visible"].whole.stats["AP"] == pytest.approx(1)


def test_results_of_such_a_category_have_boxes_only(truth, tmp_path):
    for task in ("bbox", "keypoints"):
        file = write_predictions(tmp_path, task, predictions(), GARMENTS)
        assert check_results(file, task, taxonomy=GARMENTS).accepted
        entries = json.loads(file.read_text())
        assert len(entries) == (5 if task == "bbox" else 4)
        scores = evaluate_files(task, tmp_path / "gt.json", file, taxonomy=GARMENTS).whole
        assert scores.stats["AP"] == pytest.approx(1)
    assert [len(entry["keypoints"]) for entry in entries] == [18] * 4
    read = read_detections(file, "keypoints", truth, 20)
    memory = to_detections("keypoints", predictions(), truth, 20)
    for category_id, table in memory.landmarks.tables.items():
        np.testing.assert_array_equal(read.landmarks.tables[category_id], table)
    np.testing.assert_array_equal(read.areas, memory.areas)


def test_an_item_without_a_mask_is_neither_right_nor_wrong_in_mask_scores(truth):
    whole = np.asfortranarray(np.zeros((60, 60), dtype=np.uint8))
    whole[10:50, 10:50] = 1
    right, wrong = predictions(), predictions()
    for made in (right, wrong):
        for image in made:
            image.masks = [mask_utils.encode(whole)["counts"]]
    wrong[4].masks = [mask_utils.encode(np.asfortranarray(1 - whole))["counts"]]
    assert evaluate("segm", truth, to_detections("segm", right, truth, 100)).stats["AP"] == 1
    # It is the only belt that is not found, and there is another one.
    scores = evaluate("segm", truth, to_detections("segm", right[:4], truth, 100))
    assert scores.stats["AP"] == pytest.approx(1)


def test_a_category_of_another_taxonomy_is_named(tmp_path, truth):
    (tmp_path / "r.json").write_text(json.dumps([{**item(1, 4), "score": 1.0}]))
    verdict = check_results(tmp_path / "r.json", "bbox", taxonomy=GARMENTS)
    assert (True, "category_id is not one of 3, 5, 9") in verdict.counts
