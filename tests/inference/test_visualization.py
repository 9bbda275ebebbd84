import numpy as np
import pytest

from match_rcnn.data.synthetic.templates import TEMPLATES
from match_rcnn.data.taxonomy import CATEGORIES, category
from match_rcnn.inference.visualization import PALETTE, draw_garments
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
    assert len(set(PALETTE)) == len(CATEGORIES)


@pytest.mark.parametrize("kind", CATEGORIES, ids=lambda c: c.name)
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
    kind = category(9)
    unsure, sure = (make_garment(kind, score=0.9, value=v) for v in (0.01, 0.9))
    difference = (draw_garments(image, [unsure]) != draw_garments(image, [sure])).any(axis=2)
    assert difference.any()
    # a skirt's hem (landmark 6) lies at the lower edge of the template
    x, y = (TEMPLATES[kind.id].xy[5] * [60, 80] + [30, 30]).astype(int)
    assert difference[y - 2 : y + 3, x - 2 : x + 3].any()


def test_no_garments_leave_the_image_as_it_is():
    image = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    assert np.array_equal(draw_garments(image, []), image)
