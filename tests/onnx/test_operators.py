"""Each step in numpy beside the host's in torch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from match_rcnn.d2 import Boxes, ROIPooler
from match_rcnn.inference.calibration import Calibration
from match_rcnn.lite.layers import batched_nms, paste_masks_in_image
from match_rcnn.lite.modeling.anchor_generator import DefaultAnchorGenerator
from match_rcnn.lite.modeling.box_regression import Box2BoxTransform
from match_rcnn.modeling.streams import landmark_decoding
from match_rcnn.onnx import boxes, landmarks
from match_rcnn.onnx.parts import Sessions
from match_rcnn.onnx.predictor import calibrated, network_size

SIZES = {
    "garment": (310.3, 220.8),
    "wide": (700.0, 90.5),
    "the map's own size": (16.0, 16.0),
    "smaller than the map": (7.4, 11.0),
    "less than a pixel": (0.3, 0.7),
    "a line": (120.0, 0.2),
}


def random_boxes(count, seed=0, size=200.0):
    generator = np.random.default_rng(seed)
    corner = generator.uniform(0, size, (count, 2))
    extent = generator.uniform(2, size, (count, 2))
    return np.concatenate((corner, corner + extent), axis=1).astype(np.float32)


def test_anchors_lie_as_the_hosts():
    host = DefaultAnchorGenerator(
        sizes=[[8.0, 20.0]], aspect_ratios=[[0.5, 1.0]], strides=[8], offset=0.5
    )
    (expected,) = host([torch.zeros(1, 1, 3, 5)])
    cell = host.cell_anchors[0].numpy()
    assert (boxes.anchor_grid(cell, 3, 5, 8, 0.5) == expected.tensor.numpy()).all()


def test_boxes_are_decoded_as_the_hosts():
    sources, generator = random_boxes(50), np.random.default_rng(1)
    deltas = generator.normal(0, 3, (50, 12)).astype(np.float32)
    coder = Box2BoxTransform(weights=(10.0, 5.0, 2.0, 1.0))
    expected = coder.apply_deltas(torch.from_numpy(deltas), torch.from_numpy(sources)).numpy()
    found = boxes.decode(deltas.reshape(50, 3, 4), sources, coder.weights, coder.scale_clamp)
    np.testing.assert_allclose(found.reshape(50, 12), expected, rtol=1e-5, atol=1e-3)


def test_a_box_of_twice_the_side_is_a_level_higher():
    sides = np.array([0, 55, 56, 112, 223, 224, 447, 448, 5000], dtype=np.float32)
    squares = np.stack((sides * 0, sides * 0, sides, sides), axis=1)
    # levels 3 to 5 of strides 8 to 32; 224 pixels belong to level 4
    assert boxes.levels_of(squares, 3, 3, 224, 4).tolist() == [0, 0, 0, 0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("box", [(10.2, 5.5, 60.1, 33.0), (-8.0, -3.0, 30.0, 90.0), (3, 3, 3.4, 9)])
def test_masks_are_pasted_as_the_hosts(box):
    mask = np.random.default_rng(0).uniform(size=(14, 14)).astype(np.float32)
    expected = paste_masks_in_image(torch.tensor(mask)[None], torch.tensor([box]), (50, 70))[0]
    found = boxes.paste_mask(mask, np.array(box, dtype=np.float32), 50, 70)
    assert found.shape == (50, 70)
    # a pixel at the threshold within rounding may fall on either side
    assert (found != expected.numpy()).sum() <= 1


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("smooth", [False, True])
def test_landmarks_lie_as_torchs(size, smooth):
    torch.manual_seed(0)
    low = torch.randn(6, 4, 4) * 3
    maps = torch.nn.functional.interpolate(low[None], size=16, mode="bilinear")[0]
    maps = maps if smooth else torch.randn(6, 16, 16)
    box = torch.tensor([3.3, 4.1, 3.3 + size[0], 4.1 + size[1]])
    expected = landmark_decoding.decode_landmarks(maps[None], box[None])[0].numpy()
    found = landmarks.decode_landmarks(maps.numpy(), box.numpy())
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-3)


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.integers(-3, 3), min_size=25, max_size=25),
    width=st.floats(0.1, 60),
    height=st.floats(0.1, 60),
)
def test_the_pixel_that_is_taken_is_the_largest(values, width, height):
    """Of maps with ties, where places may differ: its value is the resized map's maximum."""
    maps = np.array(values, dtype=np.float32).reshape(1, 5, 5)
    box = np.array([0, 0, width, height], dtype=np.float32)
    x, y, _ = landmarks.decode_landmarks(maps, box)[0]
    extent = np.maximum(box[2:], 1)
    pixels = np.ceil(extent).astype(int)
    column, row = np.round(np.array([x, y]) / extent * pixels - 0.5).astype(int)
    size = pixels[::-1].tolist()
    full = torch.nn.functional.interpolate(
        torch.from_numpy(maps)[None], size=size, mode="bicubic", align_corners=False
    )[0, 0]
    assert full[row, column] >= full.max() - 1e-4


def test_suppression_is_torchvisions(exported):
    sessions = Sessions(exported[1], threads=1)
    rows, generator = random_boxes(300, size=60), np.random.default_rng(5)
    scores = generator.permutation(300).astype(np.float32) / 300
    groups = generator.integers(0, 3, 300)
    expected = batched_nms(*map(torch.from_numpy, (rows, scores, groups)), 0.5)
    assert sessions.suppress(rows, scores, groups, 0.5).tolist() == expected.tolist()
    assert 3 < len(expected) < 300
    assert sessions.suppress(rows[:0], scores[:0], groups[:0], 0.5).tolist() == []


@pytest.mark.parametrize("side", [30.0, 400.0], ids=["one level left out", "both"])
def test_rois_are_pooled_as_by_the_host(exported, side):
    sessions = Sessions(exported[1], threads=1)
    spec = {
        "file": "pool_boxes.onnx",
        "levels": ["p3", "p4"],
        "lowest_level": 3,
        "canonical_size": 224,
        "canonical_level": 4,
    }
    generator = torch.Generator().manual_seed(1)
    sizes = {"p3": (64, 96), "p4": (32, 48)}
    maps = {k: torch.randn(2, 32, *size, generator=generator) for k, size in sizes.items()}
    rows = random_boxes(9, size=side)
    host = ROIPooler(7, scales=(1 / 8, 1 / 16), sampling_ratio=2, pooler_type="ROIAlignV2")
    expected = host(list(maps.values()), [Boxes(torch.from_numpy(r)) for r in (rows[:4], rows[4:])])
    rois = np.concatenate((np.repeat([0, 1], (4, 5))[:, None], rows), axis=1).astype(np.float32)
    found = sessions.pool(spec, {name: value.numpy() for name, value in maps.items()}, rois)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_scores_are_calibrated_as_torchs():
    scores = np.array([0, 0.05, 0.3, 0.5, 0.999, 1], dtype=np.float32)
    expected = Calibration(1.7, -0.4)(torch.from_numpy(scores)).numpy()
    np.testing.assert_allclose(calibrated(scores, 1.7, -0.4), expected, rtol=1e-4)
    # by hand: the logit of 0.5 is 0, so the offset alone is left: 1 / (1 + e^0.4)
    assert calibrated(scores, 1.7, -0.4)[3] == pytest.approx(0.401312, abs=1e-6)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((333, 1000), (444, 1333)),  # the long edge decides; rounded half up
        ((600, 400), (1200, 800)),
        ((400, 400), (800, 800)),
    ],
)
def test_the_network_sees_the_hosts_size(size, expected):
    assert network_size(*size, 800, 1333) == expected
    assert network_size(*size, 0, 1333) == size
