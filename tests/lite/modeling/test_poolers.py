import pytest
import torch

from match_rcnn.lite.modeling.poolers import (
    ROIPooler,
    assign_boxes_to_levels,
    convert_boxes_to_pooler_format,
)
from match_rcnn.lite.structures import Boxes

SCALES = [1 / 4, 1 / 8, 1 / 16, 1 / 32]


def square(side, x=0.0, y=0.0):
    return [x, y, x + side, y + side]


@pytest.mark.parametrize(
    ("side", "level"),
    [
        (0, 2),  # an empty box goes to the finest level
        (1, 2),
        (111.9, 2),
        (112, 3),
        (223.9, 3),
        (224, 4),  # the canonical size
        (447.9, 4),
        (448, 5),
        (10_000, 5),
    ],
)
def test_level_of_a_box(side, level):
    boxes = [Boxes(torch.tensor([square(side)]))]
    assert assign_boxes_to_levels(boxes, 2, 5, 224, 4).tolist() == [level - 2]


def test_level_depends_on_the_area():
    boxes = [Boxes(torch.tensor([[0.0, 0, 56, 896]]))]  # as large as 224 x 224
    assert assign_boxes_to_levels(boxes, 2, 5, 224, 4).tolist() == [2]


def test_pooler_format():
    boxes = [
        Boxes(torch.tensor([square(1.0), square(2.0)])),
        Boxes(torch.zeros(0, 4)),
        Boxes(torch.tensor([square(3.0)])),
    ]
    rows = convert_boxes_to_pooler_format(boxes)
    assert rows.tolist() == [[0.0, 0, 0, 1, 1], [0.0, 0, 0, 2, 2], [2.0, 0, 0, 3, 3]]


def test_each_box_gets_its_own_image_and_level():
    # Every feature map is constant: 10 * image + level.
    maps = [
        torch.stack([torch.full((1, 1024 >> i, 1024 >> i), 10.0 * n + i) for n in range(2)])
        for i in range(4)
    ]
    sides = [[500.0, 60.0, 250.0], [120.0, 500.0, 30.0]]
    boxes = [Boxes(torch.tensor([square(s, 5, 5) for s in image])) for image in sides]
    pooled = ROIPooler(2, SCALES, 0, "ROIAlignV2")(maps, boxes)
    assert pooled.shape == (6, 1, 2, 2)
    assert pooled[:, 0, 0, 0].tolist() == [3, 0, 2, 11, 13, 10]


def test_v2_is_half_pixel_correct():
    # The value of a feature cell is the x of its centre in image pixels.
    ramp = (torch.arange(32.0) * 4 + 2).expand(1, 1, 32, 32)
    box = [Boxes(torch.tensor([[20.0, 20, 52, 52]]))]
    pooled = ROIPooler(4, [1 / 4], 0, "ROIAlignV2")([ramp], box)
    # Four bins of 8 pixels.
    torch.testing.assert_close(pooled[0, 0, 0], torch.tensor([24.0, 32.0, 40.0, 48.0]))
    old = ROIPooler(4, [1 / 4], 0, "ROIAlign")([ramp], box)
    torch.testing.assert_close(old, pooled + 2)


def test_no_boxes_keep_the_gradient_path():
    maps = [torch.ones(2, 3, 64 >> i, 64 >> i, requires_grad=True) for i in range(4)]
    pooler = ROIPooler(7, SCALES, 0, "ROIAlignV2")
    pooled = pooler(maps, [Boxes(torch.zeros(0, 4))] * 2)
    assert pooled.shape == (0, 3, 7, 7)
    pooled.sum().backward()
    assert all(float(m.grad.abs().sum()) == 0 for m in maps)
    assert pooler(maps, []).shape == (0, 3, 7, 7)


def test_gradient_reaches_the_level_of_the_box():
    maps = [torch.ones(1, 1, 64 >> i, 64 >> i, requires_grad=True) for i in range(4)]
    boxes = [Boxes(torch.tensor([square(100.0), square(230.0)]))]
    ROIPooler(2, SCALES, 0, "ROIAlignV2")(maps, boxes).sum().backward()
    # Each of 4 bins is a mean of cells, so its gradients add up to 1.
    sums = [float(m.grad.sum()) for m in maps]
    assert sums == pytest.approx([4, 0, 4, 0], abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scales": [1 / 4, 1 / 16]}, "do not halve"),
        ({"scales": [0.3]}, "power of two"),
        ({"pooler_type": "ROIWarp"}, "'ROIWarp'; there are ROIAlignV2, ROIAlign"),
        ({"output_size": (1, 2, 3)}, "output_size"),
        ({"canonical_box_size": 0}, "canonical_box_size"),
    ],
)
def test_impossible_arguments(arguments, message):
    defaults = {
        "output_size": 7,
        "scales": SCALES,
        "sampling_ratio": 0,
        "pooler_type": "ROIAlignV2",
    }
    with pytest.raises(ValueError, match=message):
        ROIPooler(**{**defaults, **arguments})
