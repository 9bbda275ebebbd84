"""Top-k accuracy and attribute recall: by hand, and beside a sort a row."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from match_rcnn.evaluation.recognition.rankings import (
    among_best,
    attribute_recall,
    top_k_accuracy,
)

TYPES = ("texture", "fabric", "shape", "part", "style")


def best_by_sorting(scores, k):
    """The k best indices of each row; Python's sort is stable."""
    return [sorted(range(len(row)), key=lambda i: -row[i])[:k] for row in scores]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9))
def test_the_k_best_are_a_stable_sorts(seed, k):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, (5, 7)).astype(np.float32)  # with many equals
    expected = np.zeros((5, 7), bool)
    for row, best in enumerate(best_by_sorting(scores, k)):
        expected[row, best] = True
    assert (among_best(scores, k) == expected).all()
    truth = rng.integers(0, 7, 5)
    accuracy = np.mean([t in b for t, b in zip(truth, best_by_sorting(scores, k), strict=True)])
    assert top_k_accuracy(scores, truth, (k,)) == {k: accuracy}


def test_recall_by_hand():
    types = np.array([1, 1, 1, 2, 2, 4])
    scores = np.array([[0.9, 0.8, 0.1, 0.2, 0.3, 0.0], [0.5, 0.5, 0.5, 0.9, 0.1, 0.7]])
    labels = np.array([[0, 1, 1, 1, -1, 1], [-1, -1, 1, 1, 1, 0]], dtype=np.int8)
    recall = attribute_recall(scores, labels, types, TYPES, (1, 2))
    # Texture: of 3 positives, at 1 none; at 2 the first image's second. Equals: lower index first.
    assert recall["texture"] == {1: 0, 2: pytest.approx(1 / 3)}
    # Fabric: the first image's best is its negative; both are among two.
    assert recall["fabric"] == {1: pytest.approx(1 / 3), 2: 1}
    assert recall["part"] == {1: 1, 2: 1}
    assert recall["shape"] == {1: None, 2: None}  # no positive
    assert recall["mean_of_types"][1] == pytest.approx((0 + 1 / 3 + 1) / 3)
    # All together: 0.9 (negative), 0.8 (positive); 0.9 (positive), 0.7 (unknown).
    assert recall["all_ranked"] == {1: pytest.approx(1 / 7), 2: pytest.approx(2 / 7)}


def test_rows_beyond_one_block(monkeypatch):
    rng = np.random.default_rng(0)
    scores, labels = rng.random((50, 6)), rng.integers(-1, 2, (50, 6)).astype(np.int8)
    types = np.array([1, 1, 2, 2, 3, 3])
    whole = attribute_recall(scores, labels, types, TYPES, (1, 3))
    monkeypatch.setattr("match_rcnn.evaluation.recognition.rankings._ROWS", 7)
    assert attribute_recall(scores, labels, types, TYPES, (1, 3)) == whole
