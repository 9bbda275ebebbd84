import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from match_rcnn.data import taxonomy
from match_rcnn.data.synthetic.annotate import (
    OCCLUSION_BOUNDS,
    SCALE_BOUNDS,
    ZOOM_BOUNDS,
    level,
    mask_polygons,
    polygon_box,
    viewpoint,
)
from match_rcnn.data.synthetic.body import Pose
from match_rcnn.data.synthetic.products import Catalogue
from match_rcnn.data.synthetic.scene import draw_picture, draw_stage

KEYS = [
    "segmentation",
    "scale",
    "viewpoint",
    "zoom_in",
    "landmarks",
    "style",
    "bounding_box",
    "category_id",
    "occlusion",
    "category_name",
]


def rasterise(polygons, shape):
    """A mask from polygons on pixel edges: sampled at the pixels' centres, 8 times finer."""
    fine = np.zeros((shape[0] * 8, shape[1] * 8), np.uint8)
    for polygon in polygons:
        cv2.fillPoly(fine, [np.reshape(polygon, (-1, 1, 2)) * 8], 1)
    return fine[4::8, 4::8].astype(bool)


def iou(one, two):
    return (one & two).sum() / max((one | two).sum(), 1)


@pytest.mark.parametrize(
    ("value", "expected"), [(0.0, 1), (0.099, 1), (0.1, 2), (0.39, 2), (0.4, 3), (1.0, 3)]
)
def test_levels(value, expected):
    assert level(value, (0.1, 0.4)) == expected


def test_viewpoints():
    assert viewpoint(Pose(worn=False, back=False)) == 1
    assert viewpoint(Pose(yaw=0.3)) == 2
    assert viewpoint(Pose(back=True)) == 3
    assert viewpoint(Pose(yaw=-0.9)) == 3


def test_a_rectangles_polygon_runs_on_pixel_edges():
    mask = np.zeros((20, 30), bool)
    mask[3:10, 5:25] = True
    (polygon,) = mask_polygons(mask)
    assert {tuple(p) for p in np.reshape(polygon, (-1, 2))} == {(5, 3), (5, 10), (25, 3), (25, 10)}
    assert polygon_box([polygon]) == [5, 3, 25, 10]
    np.testing.assert_array_equal(rasterise([polygon], mask.shape), mask)


def test_a_hole_splits_the_polygon():
    mask = np.zeros((40, 40), bool)
    mask[5:35, 5:35] = True
    mask[15:25, 15:25] = False
    polygons = mask_polygons(mask)
    assert len(polygons) == 2
    assert iou(rasterise(polygons, mask.shape), mask) > 0.97


def test_crumbs_and_empty_masks_give_no_polygon():
    assert mask_polygons(np.zeros((10, 10), bool)) == []
    mask = np.zeros((60, 60), bool)
    mask[10:50, 10:50] = True
    mask[2:4, 2:4] = True  # a crumb beside a garment
    assert len(mask_polygons(mask)) == 1


def check_item(item, picture):
    height, width = picture.image.shape[:2]
    assert list(item) == KEYS
    category = taxonomy.DEEPFASHION2.category(item["category_id"])
    assert item["category_name"] == category.name
    x1, y1, x2, y2 = item["bounding_box"]
    assert 0 <= x1 < x2 <= width
    assert 0 <= y1 < y2 <= height
    assert len(item["segmentation"]) >= 1
    for polygon in item["segmentation"]:
        assert len(polygon) >= 6
        assert len(polygon) % 2 == 0
        assert all(isinstance(value, int) for value in polygon)
    points = np.concatenate([np.reshape(p, (-1, 2)) for p in item["segmentation"]])
    assert [*points.min(0), *points.max(0)] == item["bounding_box"]
    landmarks = np.reshape(item["landmarks"], (-1, 3))
    assert len(landmarks) == category.num_landmarks
    labelled = landmarks[:, 2] > 0
    assert (landmarks[~labelled] == 0).all()
    assert set(landmarks[:, 2]) <= {0, 1, 2}
    assert ((landmarks[labelled, :2] >= 0) & (landmarks[labelled, :2] < [width, height])).all()
    area = (x2 - x1) * (y2 - y1) / (height * width)
    assert item["scale"] == level(area, SCALE_BOUNDS)
    assert item["zoom_in"] == level(1 - labelled.mean(), ZOOM_BOUNDS)
    return landmarks


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**31),
    st.sampled_from(["train", "validation"]),
    st.integers(0, 29),
    st.sampled_from([96, 128, 200]),
)
def test_annotations_agree_with_the_drawing(seed, split, index, size):
    catalogue = Catalogue(seed, split, 30)
    picture, stage = draw_picture(catalogue, index, size), draw_stage(catalogue, index, size)
    assert max(picture.image.shape[:2]) == size
    garments = {
        garment.item: (figure, garment)
        for figure in stage.figures
        for garment in (figure.inner, figure.lower, figure.outer)
        if garment is not None
    }
    assert len(garments) <= 4
    items = [value for key, value in picture.annotation.items() if key.startswith("item")]
    assert [key for key in picture.annotation if key.startswith("item")] == [
        f"item{i}" for i in range(1, len(items) + 1)
    ]
    for item in items:
        landmarks = check_item(item, picture)
        mask = rasterise(item["segmentation"], picture.image.shape[:2])
        # The drawn garment that this is: same category and the best overlap.
        overlaps = {
            number: iou(mask, stage.canvas.visible(number))
            for number, (_, garment) in garments.items()
            if garment.category_id == item["category_id"]
        }
        number = max(overlaps, key=overlaps.get)
        assert overlaps[number] > (0.7 if mask.sum() > 150 else 0.4)
        figure, garment = garments[number]
        assert item["style"] == garment.style
        assert item["viewpoint"] == viewpoint(figure.pose)
        visible = stage.canvas.visible(number).sum()
        hidden = 1 - visible / stage.canvas.silhouettes[number].sum()
        assert item["occlusion"] == level(hidden, OCCLUSION_BOUNDS)
        shown = landmarks[landmarks[:, 2] == 2, :2]
        reach = max(1, round(0.006 * size))
        for x, y in shown:
            window = stage.canvas.visible(number)[
                max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1
            ]
            assert window.any()


def test_an_occluder_makes_landmarks_occluded(validation_pictures, items_of):
    visibility = np.concatenate(
        [
            np.reshape(item["landmarks"], (-1, 3))[:, 2]
            for picture in validation_pictures
            for item in items_of(picture.annotation)
        ]
    )
    shares = np.bincount(visibility, minlength=3) / len(visibility)
    assert (shares > [0.05, 0.08, 0.35]).all(), shares


def test_the_picture_scales_with_its_size():
    catalogue = Catalogue(7, "validation", 30)
    for index in range(12):
        small, large = (draw_picture(catalogue, index, size) for size in (128, 512))
        for one, two in zip(small.annotation, large.annotation, strict=False):
            if not one.startswith("item") or one != two:
                continue
            a, b = small.annotation[one], large.annotation[two]
            if a["category_id"] != b["category_id"]:
                continue  # a crumb that is annotated at one size only
            points_a, points_b = (np.reshape(i["landmarks"], (-1, 3)) for i in (a, b))
            both = (points_a[:, 2] > 0) & (points_b[:, 2] > 0)
            np.testing.assert_allclose(points_a[both, :2] * 4, points_b[both, :2], atol=7)
