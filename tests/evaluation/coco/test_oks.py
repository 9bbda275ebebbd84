"""Values worked out by hand from the definition: exp(-d^2 / (2 area (2 sigma)^2))."""

import math

import numpy as np
import pytest

from match_rcnn.evaluation.coco.similarity import oks, oks_unlabelled


def test_one_landmark_three_four_five():
    # d^2 = 25, area 100, sigma 0.25: (2 sigma)^2 = 0.25, exponent 25 / 0.25 / 100 / 2 = 0.5.
    value = oks(
        np.array([[13.0, 24.0]]), np.array([[10.0, 20.0, 2.0]]), np.array(100.0), np.array([0.25])
    )
    assert value == pytest.approx(math.exp(-0.5), rel=1e-12)


def test_unlabelled_landmarks_do_not_count():
    landmarks = np.array([[10.0, 10.0, 2.0], [0.0, 0.0, 0.0], [20.0, 20.0, 1.0]])
    points = np.array([[10.0, 10.0], [999.0, 999.0], [20.0, 1e6]])
    value = oks(points, landmarks, np.array(50.0), np.full(3, 0.05))
    assert value == pytest.approx(0.5)  # one exact, one infinitely far, of two labelled


def test_pairs_broadcast():
    rng = np.random.default_rng(0)
    points, landmarks = rng.uniform(0, 9, (4, 8, 2)), rng.uniform(1, 9, (3, 8, 3))
    areas, sigmas = rng.uniform(50, 90, 3), rng.uniform(0.1, 0.2, 8)
    values = oks(points[:, None], landmarks, areas, sigmas)
    assert values.shape == (4, 3)
    for d in range(4):
        for g in range(3):
            distances = ((points[d] - landmarks[g, :, :2]) ** 2).sum(1)
            expected = np.exp(-distances / (2 * areas[g] * (2 * sigmas) ** 2)).mean()
            assert values[d, g] == pytest.approx(expected, rel=1e-12)


def test_no_pairs():
    empty = np.zeros((0, 8, 2)), np.zeros((0, 8, 3)), np.zeros(0), np.full(8, 0.1)
    assert oks(*empty).shape == (0,)


def test_an_item_without_area():
    """pycocotools adds the smallest step to the area: an exact landmark still has similarity 1."""
    points, landmarks = np.array([[5.0, 5.0]]), np.array([[5.0, 5.0, 2.0]])
    assert oks(points, landmarks, np.array(0.0), np.array([0.1])) == 1
    assert oks(points + 1, landmarks, np.array(0.0), np.array([0.1])) == 0


@pytest.mark.parametrize(
    ("point", "distance"),
    [
        ((0.0, 10.0), 0),  # on the border of the box [0, 30] x [10, 70]
        ((15.0, 40.0), 0),
        ((33.0, 40.0), 3),
        ((15.0, 74.0), 4),
        ((33.0, 6.0), 5),  # 3 to the right and 4 above
    ],
)
def test_an_unlabelled_item_is_measured_by_the_box_around_its_box(point, distance):
    boxes, area, sigma = np.array([10.0, 30.0, 10.0, 20.0]), np.array(200.0), np.array([0.05])
    value = oks_unlabelled(np.array([point]), boxes, area, sigma)
    assert value == pytest.approx(math.exp(-(distance**2) / (2 * 200 * 0.01)), rel=1e-12)


def test_an_unlabelled_item_is_the_mean_over_all_channels():
    points = np.array([[15.0, 40.0], [-1e6, 0.0], [15.0, 11.0], [1e6, 1e6]])
    boxes = np.array([10.0, 30.0, 10.0, 20.0])
    assert oks_unlabelled(points, boxes, np.array(200.0), np.full(4, 0.05)) == pytest.approx(0.5)
