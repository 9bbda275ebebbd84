"""Who takes which item, worked out by hand. Thresholds are 0.5, 0.55, ..., 0.95."""

import numpy as np
import pytest

from match_rcnn.evaluation.coco.arrays import GroundTruth, ranked
from match_rcnn.evaluation.coco.assignment import THRESHOLDS, Matcher
from match_rcnn.evaluation.coco.similarity import Similarities


def similarities(values, crowd=None):
    """One image and category; values[d][g], detections by falling score."""
    values = np.asarray(values, dtype=float)
    detections, items = values.shape
    zeros, ones = np.zeros(items, np.int64), np.zeros(detections, np.int64)
    truth = GroundTruth(
        name="hand",
        image_ids=np.array([1]),
        image_sizes=np.array([[9, 9]]),
        sources=None,
        category_ids=np.array([1]),
        category_names=("top",),
        ids=np.arange(items) + 1,
        image=zeros,
        category=zeros,
        boxes=np.zeros((items, 4)),
        areas=np.full(items, 100.0),
        crowd=np.zeros(items, bool) if crowd is None else np.array(crowd, bool),
        num_keypoints=zeros,
        attributes={},
    )
    scores = np.linspace(1, 0, detections)
    found = ranked(ones, ones, scores, scores, limit=100)
    pairs = np.indices(values.shape).reshape(2, -1)
    return Similarities("bbox", truth, found, pairs[0], pairs[1], values.reshape(-1))


def at(threshold, values, ignored=None, crowd=None):
    values = np.asarray(values, dtype=float)
    ignored = np.zeros(values.shape[1], bool) if ignored is None else np.array(ignored, bool)
    matcher = Matcher(similarities(values, crowd))
    matches = matcher.match(ignored)[int(np.argmin(np.abs(THRESHOLDS - threshold)))]
    taken = np.full(len(values), -1)
    taken[matcher.candidates] = matches
    return taken.tolist()


def test_the_most_similar_free_item_in_the_order_of_scores():
    values = [[0.6, 0.7], [0.5, 0.9], [0.5, 0.4]]
    assert at(0.5, values) == [1, 0, -1]  # item 1 is gone when the second detection comes
    assert at(0.65, values) == [1, -1, -1]
    assert at(0.75, values) == [-1, 1, -1]


def test_of_equals_the_last_item():
    assert at(0.5, [[0.8, 0.8, 0.7]]) == [1]


def test_a_similarity_on_the_threshold_is_enough():
    assert at(0.5, [[0.5]]) == [0]
    assert at(0.95, [[1.0]]) == [0]
    assert at(0.5, [[np.nextafter(0.5, 0)]]) == [-1]


def test_an_ignored_item_only_if_there_is_no_other():
    values = [[0.9, 0.6]]
    assert at(0.5, values, ignored=[True, False]) == [1]
    assert at(0.65, values, ignored=[True, False]) == [0]


def test_an_ignored_item_is_taken_once_a_crowd_again_and_again():
    values = [[0.9], [0.8], [0.7]]
    assert at(0.5, values, ignored=[True]) == [0, -1, -1]
    assert at(0.5, values, ignored=[True], crowd=[True]) == [0, 0, 0]
    assert at(0.75, values, ignored=[True], crowd=[True]) == [0, 0, -1]


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_nothing_to_match(shape):
    matcher = Matcher(similarities(np.zeros(shape)))
    assert matcher.match(np.zeros(shape[1], bool)).shape == (10, 0)
    curves = matcher.curves(np.zeros(shape[1], bool), np.zeros(shape[0], bool), [100])
    assert set(curves.recall.ravel()) == ({0.0} if shape[1] else {-1.0})
