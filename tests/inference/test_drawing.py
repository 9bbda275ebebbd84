from dataclasses import replace

import numpy as np
import pytest

from match_rcnn.data.synthetic.templates import TEMPLATES
from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.inference.drawing import (
    PALETTE,
    blend_mask,
    color_of,
    draw_dot,
    draw_garments,
    draw_label,
    draw_lines,
)
from match_rcnn.structures import Garment


def make_garment(kind, score=None, value=2.0):
    landmarks = np.concatenate(
        [TEMPLATES[kind.id].xy * [60, 80] + [30, 30], np.full((kind.num_landmarks, 1), value)],
        axis=1,
    ).astype(np.float32)
    mask = np.zeros((150, 120), dtype=bool)
    mask[40:100, 40:80] = True
    box = np.array([30, 30, 90, 110], dtype=np.float32)
    return Garment(kind, box, score, landmarks, mask)


def test_every_category_has_a_colour_of_its_own():
    assert len(set(PALETTE)) == len(DEEPFASHION2.categories)
    assert [color_of(kind) for kind in DEEPFASHION2.categories] == list(PALETTE)


def test_more_categories_than_colours():
    for number in (0, 14, 1000):
        assert color_of(replace(DEEPFASHION2.category(1), id=number)) in PALETTE


@pytest.mark.parametrize("kind", DEEPFASHION2.categories, ids=lambda c: c.name)
def test_the_picture_has_the_image_s_shape_and_changes_only_around_the_garment(kind):
    image = np.full((150, 120, 3), 200, dtype=np.uint8)
    drawn = draw_garments(image, [make_garment(kind)])
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    changed = (drawn != image).any(axis=2)
    assert changed[60:90, 45:75].all()  # the mask's tint
    assert not changed[130:].any()
    assert (image == 200).all()


def test_landmarks_below_the_threshold_are_not_drawn():
    image = np.full((150, 120, 3), 200, dtype=np.uint8)
    kind = DEEPFASHION2.category(9)
    unsure, sure = (make_garment(kind, score=0.9, value=v) for v in (0.01, 0.9))
    difference = (draw_garments(image, [unsure]) != draw_garments(image, [sure])).any(axis=2)
    assert difference.any()
    # a skirt's hem (landmark 6) lies at the lower edge of the template
    x, y = (TEMPLATES[kind.id].xy[5] * [60, 80] + [30, 30]).astype(int)
    assert difference[y - 2 : y + 3, x - 2 : x + 3].any()


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_a_scaled_picture_is_drawn_at_its_own_size(scale):
    image = np.full((150, 120, 3), 200, dtype=np.uint8)
    garment = Garment(DEEPFASHION2.category(1), np.array([30, 50, 90, 110], np.float32))
    drawn = draw_garments(image, [garment], scale=scale)
    assert drawn.shape == (150 * scale, 120 * scale, 3)
    left = int(30 * scale)
    row = (drawn[int(80 * scale)] != 200).any(axis=1)
    # A line of one pixel, where the box's edge is in the picture, and nothing right of it.
    assert row[left - 1 : left + 1].any()
    assert not row[left + 3 : int(90 * scale) - 3].any()


def test_an_annotated_occluded_landmark_is_dark():
    image = np.full((150, 120, 3), 200, dtype=np.uint8)
    kind = DEEPFASHION2.category(9)
    garment = make_garment(kind)
    garment.landmarks[5, 2] = 1
    drawn = draw_garments(image, [replace(garment, mask=None)])
    x, y = garment.landmarks[5, :2].astype(int)
    assert drawn[y, x].tolist() == [25, 25, 25]
    color = [round(255 * v) for v in color_of(kind)[::-1]]
    x, y = garment.landmarks[4, :2].astype(int)
    np.testing.assert_allclose(drawn[y, x], color, atol=1)


def test_landmarks_that_are_not_annotated_are_not_drawn():
    image = np.full((150, 120, 3), 200, dtype=np.uint8)
    garment = make_garment(DEEPFASHION2.category(9), value=0.0)
    without = replace(garment, landmarks=None)
    assert np.array_equal(draw_garments(image, [garment]), draw_garments(image, [without]))


def test_a_mask_by_hand():
    picture = np.zeros((9, 9, 3), np.uint8)
    mask = np.zeros((9, 9), bool)
    mask[2:7, 2:7] = True
    blend_mask(picture, mask, (100.0, 200.0, 50.0), 0.5)
    assert picture[4, 4].tolist() == [50, 100, 25]  # halfway
    assert picture[2, 4, 1] > 160  # its edge is a line
    assert not picture[0].any()
    blend_mask(picture, np.zeros((9, 9), bool), (0.0, 0.0, 0.0), 0.5)  # nothing to blend
    assert picture[4, 4].tolist() == [50, 100, 25]


def test_lines_and_dots_go_through_pixels_centres():
    picture = np.zeros((9, 9, 3), np.uint8)
    draw_lines(picture, [[(1.5, 4.5), (7.5, 4.5)]], (255, 255, 255), 1)
    assert (picture[4, 2:7] > 220).all()  # OpenCV smooths also what needs it not
    np.testing.assert_allclose(picture, picture[::-1], atol=30)
    assert not picture[[0, 1, 7, 8]].any()
    picture[:] = 0
    draw_dot(picture, (4.5, 4.5), (255, 255, 255), 2)
    assert (picture[4, 3:6] > 220).all()
    np.testing.assert_allclose(picture, picture[::-1, ::-1], atol=30)
    # Far outside, or nowhere at all.
    draw_lines(picture, [[(-1e9, 4.0), (1e9, 4.0)]], (255, 255, 255), 1)


@pytest.mark.parametrize("box", [(0, 0), (300, 5), (300, 400), (-50, 200), (40, 60)])
def test_a_label_is_inside_of_the_picture_wherever_its_box_is(box):
    picture = np.full((100, 200, 3), 100, np.uint8)
    draw_label(picture, "Hemd für Mädchen 98%", box, (0.0, 0.0, 255.0))
    changed = np.argwhere((picture != 100).any(axis=2))
    low, high = changed.min(axis=0), changed.max(axis=0)
    # It is all there: a dark plate, with light letters on it.
    assert (high - low)[0] >= 13
    assert (high - low)[1] >= 100
    plate = picture[low[0] : high[0] + 1, low[1] : high[1] + 1]
    assert plate.min() == 30
    assert plate[..., 2].max() >= 200


def test_a_label_that_is_larger_than_the_picture():
    picture = np.full((6, 20, 3), 100, np.uint8)
    draw_label(picture, "short sleeve top", (3, 3), (0.0, 0.0, 255.0))
    assert (picture != 100).any()


def test_no_garments_leave_the_image_as_it_is():
    image = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    assert np.array_equal(draw_garments(image, []), image)
