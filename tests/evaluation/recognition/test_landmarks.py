"""Landmark errors, worked out by hand."""

import numpy as np
import pytest

from match_rcnn.data.sources.deepfashion import NO_SLOT, OCCLUDED, SLOTS, TRUNCATED, VISIBLE
from match_rcnn.evaluation.recognition.landmarks import landmark_errors, summarise_landmarks

BOX = np.array([[10.0, 20.0, 110.0, 220.0]] * 2)  # 100 x 200


@pytest.fixture
def errors():
    truth = np.full((2, 8, 3), (0.0, 0.0, NO_SLOT))
    truth[0, 0] = 50, 60, VISIBLE
    truth[0, 1] = 70, 60, OCCLUDED
    truth[0, 2] = 0, 0, TRUNCATED
    truth[1, 0] = 50, 60, VISIBLE
    truth[1, 7] = 50, 60, VISIBLE
    predicted = np.full((2, 8, 2), 1000.0)
    predicted[0, 0] = 53, 60 + 8  # 3 % and 4 %: 5 %
    predicted[1, 0] = 50 + 10, 60  # 10 %
    predicted[1, 7] = 50, 60 + 50  # 25 %
    return landmark_errors(predicted, truth, BOX)


def test_only_visible_landmarks_have_an_error(errors):
    assert np.argwhere(~np.isnan(errors)).tolist() == [[0, 0], [1, 0], [1, 7]]
    assert errors[0, 0] == pytest.approx(0.05)


def test_means_and_shares(errors):
    scores = summarise_landmarks(errors, (0.04, 0.1, 0.2))
    assert scores["ne"]["left_collar"] == pytest.approx(0.075)
    assert scores["ne"]["right_hem"] == pytest.approx(0.25)
    assert scores["ne"]["left_sleeve"] is None
    assert scores["ne"]["mean"] == pytest.approx((0.075 + 0.25) / 2)  # of slots, not of landmarks
    assert set(scores["ne"]) == {*SLOTS, "mean"}
    assert scores["pdl"] == {"0.04": 0, "0.1": pytest.approx(2 / 3), "0.2": pytest.approx(2 / 3)}


def test_nothing_visible():
    scores = summarise_landmarks(np.full((3, 8), np.nan), (0.1,))
    assert scores["ne"]["mean"] is None
    assert scores["pdl"] == {"0.1": None}
