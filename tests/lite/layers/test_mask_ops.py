import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from match_rcnn.lite.layers import mask_ops, paste_masks_in_image

MASKS = torch.tensor([[[0.1, 0.9], [0.7, 0.4]], [[1.0, 1.0], [1.0, 1.0]]])
BOXES = torch.tensor([[0.5, 1, 5, 4.25], [2, 2, 4, 3]])


def slow_paste(mask, box, height, width):
    """A pixel at a time: bilinear between cell centres, 0 around the mask."""
    size, (x0, y0, x1, y1) = len(mask), box
    pixels = [[0.0] * width for _ in range(height)]
    for row in range(height):
        for column in range(width):
            v = (row + 0.5 - y0) / (y1 - y0) * size - 0.5
            u = (column + 0.5 - x0) / (x1 - x0) * size - 0.5
            top, left = math.floor(v), math.floor(u)
            for i, wi in ((top, 1 - (v - top)), (top + 1, v - top)):
                for j, wj in ((left, 1 - (u - left)), (left + 1, u - left)):
                    if 0 <= i < size and 0 <= j < size:
                        pixels[row][column] += wi * wj * mask[i][j]
    return torch.tensor(pixels)


def test_whole_pixels():
    pasted = paste_masks_in_image(torch.ones(1, 28, 28), torch.tensor([[1.0, 2, 4, 6]]), (8, 9))
    expected = torch.zeros(1, 8, 9, dtype=torch.bool)
    expected[0, 2:6, 1:4] = True
    assert torch.equal(pasted, expected)


def test_upstream_numbers():
    # detectron2 02b5c4e2 gives these.
    pasted = paste_masks_in_image(MASKS, BOXES, (5, 6))
    rows = [["".join(str(int(v)) for v in row) for row in mask] for mask in pasted]
    assert rows == [
        ["000000", "000110", "000100", "011000", "000000"],
        ["000000", "000000", "001100", "000000", "000000"],
    ]
    soft = mask_ops._sample(MASKS, BOXES, slice(0, 5), slice(0, 6))[0] * 255
    expected = torch.tensor(
        [
            [2, 4, 20, 37, 31, 12],
            [10, 19, 84, 157, 133, 51],
            [45, 85, 123, 161, 126, 48],
            [85, 162, 143, 110, 70, 27],
            [30, 58, 51, 39, 25, 9],
        ]
    )
    # A byte's rounding may differ between machines.
    assert (soft.int() - expected).abs().max() <= 1


@settings(deadline=None, max_examples=40)
@given(
    st.tuples(st.floats(-8, 15, width=32), st.floats(-8, 15, width=32)),
    st.tuples(st.floats(0.5, 20, width=32), st.floats(0.5, 20, width=32)),
    st.integers(0, 1000),
)
def test_against_the_loop(corner, size, seed):
    mask = torch.rand(1, 5, 5, generator=torch.Generator().manual_seed(seed))
    box = [*corner, corner[0] + size[0], corner[1] + size[1]]
    pasted = paste_masks_in_image(mask, torch.tensor([box]), (10, 12), threshold=0.5)[0]
    slow = slow_paste(mask[0].tolist(), box, 10, 12)
    sure = (slow - 0.5).abs() > 1e-3
    assert torch.equal(pasted[sure], (slow >= 0.5)[sure])


@pytest.mark.parametrize(
    "box",
    [
        [-50.0, -50, -40, -40],  # above and left of the image
        [40.0, 40, 60, 60],  # below and right
        [3.0, 3, 3, 3],  # without area
        [3.0, 3, 3, 8],
    ],
)
def test_boxes_that_cover_no_pixel(box):
    assert not paste_masks_in_image(torch.ones(1, 4, 4), torch.tensor([box]), (10, 12)).any()


def test_a_box_around_the_image():
    mask = torch.ones(1, 4, 4)
    assert paste_masks_in_image(mask, torch.tensor([[-100.0, -100, 100, 100]]), (10, 12)).all()


def test_all_at_once_or_one_by_one(monkeypatch):
    # An accelerator takes whole images in chunks; the way there runs on the CPU too.
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(5, 28, 28, generator=generator)
    boxes = torch.rand(5, 4, generator=generator) * 10
    boxes[:, 2:] += boxes[:, :2] + 1
    single = paste_masks_in_image(masks, boxes, (20, 24))
    monkeypatch.setattr(mask_ops, "_CHUNK_BYTES", 2 * 20 * 24 * 4)
    monkeypatch.setattr(mask_ops, "_one_by_one", lambda device: False)
    assert torch.equal(paste_masks_in_image(masks, boxes, (20, 24)), single)


def test_none():
    pasted = paste_masks_in_image(torch.zeros(0, 28, 28), torch.zeros(0, 4), (5, 6))
    assert pasted.shape == (0, 5, 6)
    assert pasted.dtype == torch.bool


@pytest.mark.parametrize(
    ("masks", "boxes", "message"),
    [
        (torch.zeros(1, 3, 4), torch.zeros(1, 4), "square"),
        (torch.zeros(2, 3, 3), torch.zeros(1, 4), r"\(2, 4\), got \(1, 4\)"),
    ],
)
def test_wrong_shapes(masks, boxes, message):
    with pytest.raises(ValueError, match=message):
        paste_masks_in_image(masks, boxes, (5, 5))
