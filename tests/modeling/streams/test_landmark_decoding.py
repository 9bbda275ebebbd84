"""Decoding against a resize of the whole map (torch's), one RoI at a time.

Where two pixels are equal within rounding either may be taken, so the tests look up the height
of the pixel that was taken: it must be the resized map's maximum within 1e-5 of the map's largest
magnitude. The position must be equal wherever the second highest pixel is lower by more.
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from match_rcnn.d2 import BaseKeypointRCNNHead, Boxes, Instances
from match_rcnn.modeling.streams import landmark_decoding
from match_rcnn.modeling.streams.landmark_decoding import decode_landmarks


def resized(maps, box):
    """(K, S, S) -> (K, H, W), and the box's extents and pixels along x and y."""
    extents = [max(1.0, float(box[2] - box[0])), max(1.0, float(box[3] - box[1]))]
    pixels = [math.ceil(extent) for extent in extents]
    full = F.interpolate(maps[None], size=pixels[::-1], mode="bicubic", align_corners=False)[0]
    return full, extents, pixels


def check(maps, boxes):
    """``decode_landmarks`` against the whole resized maps."""
    found = decode_landmarks(maps, boxes)
    assert found.shape == (*maps.shape[:2], 3)
    for roi_maps, box, landmarks in zip(maps, boxes, found, strict=True):
        full, extents, pixels = resized(roi_maps, box)
        place = (landmarks[:, :2] - box[:2]) / torch.tensor(extents) * torch.tensor(pixels)
        column, row = (place - 0.5).round().long().unbind(1)
        assert ((place - 0.5 - torch.stack((column, row), 1)).abs() < 0.01).all()
        k = torch.arange(len(full))
        highest = full.flatten(1).max(1).values
        rounding = 1e-5 * roi_maps.abs().flatten(1).amax(1)
        assert ((highest - full[k, row, column]).abs() <= rounding).all()
        score = 1 / (roi_maps.double() - highest.double()[:, None, None]).exp().sum((1, 2))
        difference = (landmarks[:, 2].double() - score).abs()
        assert (difference <= 1e-6 + score * (1e-5 + rounding)).all()
        second = full.flatten(1).topk(min(2, full[0].numel())).values[:, -1]
        alone = highest - second > rounding
        best = full.flatten(1).argmax(1)
        assert (best == row * full.shape[2] + column)[alone].all()


SIZES = {
    "garment": (310.3, 420.8),
    "wide": (700.0, 90.5),
    "the map's own size": (16.0, 16.0),
    "just above": (16.2, 32.0),
    "smaller than the map": (7.4, 11.0),
    "smaller along one axis": (5.0, 200.0),
    "less than a pixel": (0.3, 0.7),
    "a line": (120.0, 0.2),
}


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
@pytest.mark.parametrize("kind", ["noise", "smooth", "plateaus", "steep"])
def test_equals_the_resized_map(size, kind):
    generator = torch.Generator().manual_seed(3)
    maps = torch.randn(3, 9, 16, 16, generator=generator)
    if kind == "smooth":
        maps = F.interpolate(maps[..., ::4, ::4], size=(16, 16), mode="bilinear")
    elif kind == "plateaus":
        maps = maps.round()
    elif kind == "steep":
        maps = 20 * maps
    corner = torch.tensor([[0.0, 0.0], [13.7, 250.1], [-4.0, 5.5]])
    boxes = torch.cat([corner, corner + torch.tensor(size)], dim=1)
    check(maps, boxes)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    side=st.sampled_from([4, 7, 28]),
    spread=st.floats(0.01, 30),
    offset=st.floats(-100, 100),
    block=st.sampled_from([400, 20_000, 1 << 19]),
)
def test_equals_the_resized_map_for_any_boxes_and_blocks(seed, side, spread, offset, block):
    generator = torch.Generator().manual_seed(seed)
    maps = spread * torch.randn(4, 5, side, side, generator=generator) + offset
    corner = 100 * torch.rand(4, 2, generator=generator)
    size = (6 * torch.rand(4, 2, generator=generator)).exp() / 4
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(landmark_decoding, "BLOCK_CPU", block)
        check(maps, torch.cat([corner, corner + size], dim=1))


def test_equals_the_hosts():
    class Given(BaseKeypointRCNNHead):
        """The host's decoding, of heat maps that are given."""

        def layers(self, x):
            return x

    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(5, 6, 56, 56, generator=generator)
    corner = 200 * torch.rand(5, 2, generator=generator)
    size = torch.tensor([[300.0, 410.0], [40.0, 40.0], [3.2, 80.6], [56.0, 57.0], [200.1, 0.5]])
    boxes = torch.cat([corner, corner + size], dim=1)
    instances = Instances((800, 800), pred_boxes=Boxes(boxes))
    host = Given(num_keypoints=6, loss_normalizer="visible").eval()
    (image,) = host(maps, [instances])
    torch.testing.assert_close(
        decode_landmarks(maps, boxes), image.pred_keypoints, rtol=1e-5, atol=1e-5
    )


def test_one_peak_worked_out_by_hand():
    # 4 x 4 map on an 8 x 4 box at (10, 20): along x the pixels lie at samples -0.25, 0.25, 0.75,
    # 1.25, 1.75, 2.25, ...; the peak at sample (2, 1) is 1/4 from the pixels 4 and 5; the kernel
    # is symmetric, so both have the same height and the first one is taken.
    # Kernel at 1/4 with a = -3/4: 1.25/64 - 2.25/16 + 1 = 0.87890625.
    maps = torch.zeros(1, 1, 4, 4)
    maps[0, 0, 1, 2] = 2.0
    (((x, y, score),),) = decode_landmarks(maps, torch.tensor([[10.0, 20.0, 18.0, 24.0]])).tolist()
    assert (x, y) == (10 + 4.5, 20 + 1.5)
    height = 2 * 0.87890625
    assert score == pytest.approx(1 / (15 * math.exp(-height) + math.exp(2 - height)), rel=1e-5)


def test_the_peak_may_lie_between_the_samples():
    # Samples 0 1 1 0 along x: at the middle the kernel overshoots, 2 * 0.59375 = 1.1875.
    row = torch.tensor([0.0, 1.0, 1.0, 0.0])
    maps = row.expand(1, 1, 4, 4)
    ((landmark,),) = decode_landmarks(maps, torch.tensor([[0.0, 0.0, 20.0, 1.0]])).tolist()
    # 20 pixels, 5 a sample; the pixels 9 and 10 are nearest to the middle, 0.1 samples away.
    assert landmark[0] == 9.5
    check(maps, torch.tensor([[0.0, 0.0, 20.0, 1.0]]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_decode_in_float32(dtype):
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 3, 8, 8, generator=generator).to(dtype)
    boxes = torch.tensor([[0.0, 0.0, 30.0, 40.0], [5.0, 5.0, 9.0, 25.0]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = decode_landmarks(maps, boxes)
    assert found.dtype == torch.float32
    assert torch.equal(found, decode_landmarks(maps.float(), boxes))


@pytest.mark.parametrize("shape", [(0, 5, 8, 8), (3, 0, 8, 8), (0, 0, 8, 8)])
def test_nothing_to_decode(shape):
    assert decode_landmarks(torch.zeros(shape), torch.ones(shape[0], 4)).shape == (*shape[:2], 3)


def test_not_a_number_stays_inside_the_box():
    # The host fails an assertion here; a broken model should not bring down a service.
    maps = torch.full((1, 2, 8, 8), torch.nan)
    found = decode_landmarks(maps, torch.tensor([[10.0, 10.0, 30.0, 40.0]]))
    assert ((found[..., :2] >= 10) & (found[..., :2] <= 40)).all()
    assert found[..., 2].isnan().all()


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"maps \(R, K, S, S\) and boxes \(R, 4\)"):
        decode_landmarks(torch.zeros(2, 3, 8, 8), torch.zeros(3, 4))
