"""The flawed run of the conftest, worked out by hand."""

import numpy as np
import pytest

from match_rcnn.data import taxonomy
from match_rcnn.reporting.numbers import analysis

SHORTS, TROUSERS, SKIRT, SHORT_TOP = 6, 7, 8, 0  # indices


@pytest.fixture
def flawed_run(runs):
    return runs[1]


def judged(run):
    return analysis.rightness(run.truth, run.found["bbox"])


def test_rightness(flawed_run):
    found, ours = flawed_run.found["bbox"], judged(flawed_run)
    right = dict(zip(np.round(found.scores, 2).tolist(), ours.right.tolist(), strict=True))
    assert right == {0.95: True, 0.9: True, 0.8: False, 0.7: True, 0.6: False, 0.35: False}
    assert ours.items == 5
    # F1 with the first n: 2/6, 4/7, 4/8, 6/9, 6/10, 6/11.
    assert ours.best == pytest.approx(0.7)


def test_calibration(flawed_run):
    found = analysis.calibration(flawed_run.found["bbox"], judged(flawed_run))
    assert found.counts.tolist() == [0, 0, 0, 1, 0, 0, 1, 1, 1, 2]
    assert found.shares[9] == 1
    assert np.isnan(found.shares[0])


def test_confusion(flawed_run):
    counts = analysis.confusion(flawed_run.truth, flawed_run.found["bbox"], 0.5)
    expected = np.zeros((14, 14), int)
    expected[SHORTS, SHORTS] = 1
    expected[TROUSERS, SHORTS] = 1
    expected[SKIRT, SKIRT] = 2
    expected[SHORTS, 13] = 1  # item 4
    expected[13, SHORT_TOP] = 1
    np.testing.assert_array_equal(counts, expected)
    # With a high threshold more is lost; every item is in one cell of its row.
    few = analysis.confusion(flawed_run.truth, flawed_run.found["bbox"], 0.92)
    assert few[:-1].sum() == 5
    assert few[SHORTS, SHORTS] == 1
    assert few[:-1, 13].sum() == 4


def test_landmark_errors(flawed_run):
    found = analysis.landmark_errors(flawed_run.truth, flawed_run.found["keypoints"])
    skirt = taxonomy.DEEPFASHION2.category(9)
    # Item 5 exactly, item 3 by 12 or 13 pixels (rounded) of 50, if OKS finds it similar enough.
    assert found.items == 5
    assert found.errors[7] == pytest.approx(np.zeros(10))
    assert found.counts[7].tolist() == [1] * 10
    assert np.isnan(found.errors[8]).all()
    assert found.measured == 1 + found.counts[9][0]
    if found.counts[9][0] == 2:
        assert found.errors[9] == pytest.approx(np.full(skirt.num_landmarks, 0.125), abs=0.02)


def test_perfect_landmarks_have_no_error(runs):
    found = analysis.landmark_errors(runs[0].truth, runs[0].found["keypoints"])
    assert found.measured == found.items == 5
    assert all(np.nan_to_num(errors).max() == 0 for errors in found.errors.values())


def test_image_quality(flawed_run):
    quality = analysis.image_quality(flawed_run.truth, flawed_run.found["bbox"], 0.5)
    # Image 1: one right of two items, one false; 2: IoU 37.5 / 62.5; 3: nothing; 4: one false.
    assert quality.quality == pytest.approx([1 / 2, 0.6, 0, 1 / 1.5])
    assert quality.wrong.tolist() == [2, 0, 1, 1]
    assert quality.extremes(1) == ([3], [2])
    assert quality.extremes(9) == ([3, 1], [2, 0])


def test_images_without_items_are_not_ranked():
    quality = analysis.ImageQuality(np.array([np.nan, 0.0, 0.0, 1.0]), np.array([0, 1, 3, 0]))
    best, worst = quality.extremes(1)
    assert (best, worst) == ([3], [2])  # of equals the one with more wrong


def test_precision_recall(runs):
    recall, perfect = analysis.precision_recall(runs[0].views["bbox"].whole)
    assert recall[[0, -1]].tolist() == [0, 1]
    assert all((values == 1).all() for values in perfect.values())
    _, flawed = analysis.precision_recall(runs[1].views["bbox"].whole)
    # At .50 and recall 1: skirts are all found, shorts and trousers are not.
    assert flawed["at .50"][-1] == pytest.approx(1 / 3)
    assert flawed["at .75"][-1] == 0
