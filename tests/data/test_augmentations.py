"""Augmentations: where points, polygons, masks and boxes go, beside the pixels themselves."""

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import BoxMode, T, detection_utils
from match_rcnn.data.augmentations import (
    ColorJitter,
    ColorTransform,
    FrameTransform,
    LargeScaleJitter,
    RandomRotation,
    RotationTransform,
    build_augmentations,
    clip_polygon,
    fit_box,
    outlines_are_cut,
)

PAD = [1, 2, 3]


def filled(polygons, height, width):
    flat = [np.asarray(p).ravel().tolist() for p in polygons]
    return mask_util.decode(mask_util.merge(mask_util.frPyObjects(flat, height, width)))


def area(polygon):
    x, y = np.asarray(polygon).T
    return abs((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) / 2


def test_a_frame_takes_what_lies_in_it_and_fills_the_rest():
    image = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    frame = FrameTransform(2, 1, (4, 4), PAD)
    cut = frame.apply_image(image)
    assert (cut[:3, :3] == image[1:, 2:]).all()
    assert (cut[3] == PAD).all()
    assert (cut[:, 3] == PAD).all()
    assert frame.apply_segmentation(np.ones((4, 5), bool)).sum() == 9
    assert frame.apply_coords(np.array([[2.0, 1.0], [0.0, 0.0]])).tolist() == [[0, 0], [-2, -1]]
    square = np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 3.0], [0.0, 3.0]])
    [clipped] = frame.apply_polygons([square, square - 10])  # the other one is not in it
    assert area(clipped) == pytest.approx(2 * 2)


@pytest.mark.parametrize(
    ("angle", "expected"),
    [
        (0, [[1, 2]]),
        (90, [[2, 3]]),  # of a 4 x 4 image, counter-clockwise: right becomes top
        (180, [[3, 2]]),
        (-90, [[2, 1]]),
    ],
)
def test_rotation_about_the_centre(angle, expected):
    turn = RotationTransform((4, 4), angle, PAD)
    assert turn.apply_coords(np.array([[1.0, 2.0]])) == pytest.approx(np.array(expected))


def test_a_quarter_turn_is_numpys():
    image = np.random.default_rng(0).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    turn = RotationTransform((6, 6), 90, PAD)
    assert (turn.apply_image(image) == np.rot90(image)).all()
    mask = image[..., 0] > 100
    assert (turn.apply_segmentation(mask) == np.rot90(mask)).all()
    assert turn.apply_segmentation(mask).dtype == bool


@pytest.mark.parametrize("angle", [-30, 17, 75])
def test_polygons_and_masks_turn_alike(angle):
    polygon = np.array([[10.0, 12.0], [50.0, 20.0], [44.0, 70.0], [15.0, 60.0]])
    turn = RotationTransform((90, 60), angle, PAD)
    by_polygon = filled(turn.apply_polygons([polygon]), 90, 60)
    by_mask = turn.apply_segmentation(filled([polygon], 90, 60))
    union = (by_polygon | by_mask).sum()
    assert (by_polygon & by_mask).sum() / union > 0.97


def test_clipping_by_hand():
    triangle = np.array([[-2.0, 1.0], [2.0, 1.0], [0.0, 3.0]])
    assert area(clip_polygon(triangle, 10, 10)) == pytest.approx(2)  # its right half
    assert area(clip_polygon(triangle, 10, 2)) == pytest.approx(1.5)
    assert len(clip_polygon(triangle + 20, 10, 10)) == 0
    inside = triangle + 4
    assert clip_polygon(inside, 10, 10).tolist() == inside.tolist()


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6))
def test_clipping_is_what_the_raster_says(seed):
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(4, 12)))
    radii = rng.uniform(5, 38, len(angles))  # a star: it may fall apart
    polygon = rng.uniform(18, 22, 2) + radii[:, None] * np.stack(
        [np.cos(angles), np.sin(angles)], 1
    )
    moved = polygon + 20  # the whole of it lies in 80 x 80
    expected = filled([moved], 80, 80)[20:50, 20:60]
    clipped = clip_polygon(polygon, 40, 30)
    assert ((clipped >= 0) & (clipped <= [40, 30])).all()
    if len(clipped) < 3:
        assert expected.sum() <= 30
        return
    # Along the frame's own sides the raster may round either way.
    difference = filled([clipped], 30, 40) != expected
    assert difference[1:-1, 1:-1].sum() <= 0.1 * expected.sum() + 8


def test_fit_box_by_hand():
    square = np.array([[10.0, 0.0], [20.0, 10.0], [10.0, 20.0], [0.0, 10.0]])
    turned = {"bbox": [-5.0, -5.0, 30.0, 30.0], "segmentation": [square.ravel()]}
    fit_box(turned, (40, 40))
    assert turned["bbox"].tolist() == [0, 0, 20, 20]
    assert turned["bbox_mode"] == BoxMode.XYXY_ABS
    # A visible landmark belongs to the garment too, a hidden one says nothing.
    landmarks = np.array([[25.0, 5.0, 1.0], [39.0, 39.0, 0.0]])
    with_landmark = {**turned, "bbox": [0.0, 0.0, 30.0, 30.0], "keypoints": landmarks}
    fit_box(with_landmark, (40, 40))
    assert with_landmark["bbox"].tolist() == [0, 0, 25, 20]


def test_fit_box_of_masks_and_without():
    mask = np.zeros((30, 30), np.uint8)
    mask[5:10, 7:20] = 1
    rle = mask_util.encode(np.asfortranarray(mask))
    for segmentation in (mask, rle):
        annotation = {"bbox": [0.0, 0.0, 30.0, 30.0], "segmentation": segmentation}
        fit_box(annotation, (30, 30))
        assert annotation["bbox"].tolist() == [7, 5, 20, 10]
    only_a_box = {"bbox": [1.0, 2.0, 3.0, 4.0]}
    fit_box(only_a_box, (30, 30))
    assert only_a_box["bbox"] == [1.0, 2.0, 3.0, 4.0]
    gone = {"bbox": [0.0, 0.0, 5.0, 5.0], "segmentation": np.zeros((30, 30), np.uint8)}
    fit_box(gone, (30, 30))
    assert gone["bbox"].tolist() == [0, 0, 0, 0]


def test_a_landmark_that_leaves_the_image_is_not_labelled():
    frame = T.TransformList([FrameTransform(10, 0, (20, 20), PAD)])
    annotation = {
        "bbox": [0.0, 0.0, 40.0, 20.0],
        "bbox_mode": BoxMode.XYXY_ABS,
        "segmentation": [np.array([0.0, 0.0, 40.0, 0.0, 40.0, 20.0, 0.0, 20.0])],
        "keypoints": np.array([[5.0, 5.0, 2.0], [15.0, 5.0, 2.0], [35.0, 5.0, 1.0]]),
    }
    detection_utils.transform_instance_annotations(annotation, frame, (20, 20))
    assert annotation["keypoints"].tolist() == [[0, 0, 0], [5, 5, 2], [0, 0, 0]]
    fit_box(annotation, (20, 20))
    assert annotation["bbox"].tolist() == [0, 0, 20, 20]


def test_large_scale_jitter_has_one_size_and_moves_points_with_pixels():
    image = np.zeros((60, 90, 3), np.uint8)
    image[20:40, 30:60] = 255
    jitter = LargeScaleJitter((0.5, 2.0), (64, 64), PAD)
    np.random.seed(0)  # noqa: NPY002
    shown = 0
    for _ in range(20):
        given_in = T.AugInput(image.copy())
        moved = jitter(given_in)
        assert given_in.image.shape == (64, 64, 3)
        [corners] = moved.apply_polygons(
            [np.array([[30.0, 20.0], [60.0, 20.0], [60.0, 40.0], [30.0, 40.0]])]
        ) or [np.zeros((0, 2))]
        if len(corners) == 0:
            continue
        white = given_in.image[..., 0] > 127
        shown += 1
        assert abs(filled([corners], 64, 64).astype(int) - white).sum() <= 0.12 * white.sum() + 8
    assert shown >= 10


def test_at_a_scale_of_one_an_image_just_fits_into_the_frame():
    for size, room in (((60, 30), (80, 60)), ((30, 90), (20, 60))):
        given_in = T.AugInput(np.full((*size, 3), 255, np.uint8))
        LargeScaleJitter((1.0, 1.0), (80, 60), [0, 0, 0])(given_in)
        assert given_in.image.shape == (80, 60, 3)
        rows, columns = np.nonzero(given_in.image[..., 0])
        fit = min(80 / size[0], 60 / size[1])
        assert (rows.max() + 1, columns.max() + 1) == (round(size[0] * fit), round(size[1] * fit))
        assert (rows.max() + 1, columns.max() + 1) <= room


def test_the_same_seed_gives_the_same_picture():
    image = np.random.default_rng(0).integers(0, 255, (40, 30, 3), dtype=np.uint8)
    augmentations = T.AugmentationList(
        [
            LargeScaleJitter((0.5, 2.0), (32, 32), PAD),
            RandomRotation(20, PAD),
            ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, is_bgr=True),
        ]
    )
    results = []
    for _ in range(2):
        np.random.seed(3)  # noqa: NPY002
        given_in = T.AugInput(image.copy())
        augmentations(given_in)
        results.append(given_in.image)
    assert (results[0] == results[1]).all()
    assert results[0].dtype == np.uint8


def test_colours_by_hand():
    image = np.full((2, 2, 3), [40, 80, 120], np.uint8)  # BGR
    assert (ColorTransform((1, 1, 1), 0, True).apply_image(image) == image).all()
    assert (ColorTransform((0.5, 1, 1), 0, True).apply_image(image) == image // 2).all()
    grey = ColorTransform((1, 1, 0), 0, True).apply_image(image)[0, 0]
    luminance = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[0, 0]
    assert abs(grey.astype(int) - int(luminance)).max() <= 1
    # A third of the circle: red, green and blue change places.
    turned = ColorTransform((1, 1, 1), 1 / 3, True).apply_image(image)[0, 0]
    assert abs(turned.astype(int) - [80, 120, 40]).max() <= 3


def test_the_config_asks_for_them():
    cfg = get_match_rcnn_cfg()
    plain = [type(a).__name__ for a in build_augmentations(cfg, True)]
    assert plain == ["ResizeShortestEdge", "RandomFlip"]
    assert not outlines_are_cut(cfg)
    cfg.INPUT.LARGE_SCALE_JITTER.ENABLED = True
    cfg.INPUT.ROTATION = 10.0
    cfg.INPUT.COLOR_JITTER.HUE = 0.1
    names = [type(a).__name__ for a in build_augmentations(cfg, True)]
    assert names == ["LargeScaleJitter", "RandomFlip", "RandomRotation", "ColorJitter"]
    assert outlines_are_cut(cfg)
    assert [type(a).__name__ for a in build_augmentations(cfg, False)] == ["ResizeShortestEdge"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["INPUT.ROTATION", 200.0], "0 and 180 degrees, got 200"),
        (["INPUT.COLOR_JITTER.HUE", 0.7], "HUE from 0 to 0.5"),
        (["INPUT.LARGE_SCALE_JITTER.ENABLED", True, "INPUT.LARGE_SCALE_JITTER.MIN_SCALE", 0.0],
         "0 < MIN_SCALE <= MAX_SCALE"),
    ],
)  # fmt: skip
def test_values_without_meaning_are_named(keys, message):
    cfg = get_match_rcnn_cfg()
    cfg.merge_from_list(keys)
    with pytest.raises(ValueError, match=message):
        build_augmentations(cfg, True)
