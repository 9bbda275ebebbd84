import math

import pytest
import torch

from match_rcnn.lite.layers import ShapeSpec
from match_rcnn.lite.modeling.anchor_generator import (
    DefaultAnchorGenerator,
    build_anchor_generator,
)


def test_order_and_place_of_anchors():
    generator = DefaultAnchorGenerator(
        sizes=[[4, 8]], aspect_ratios=[[1, 4]], strides=[10], offset=0.0
    )
    (boxes,) = generator([torch.zeros(1, 3, 2, 2)])
    # Of size 4: 4x4 and, ratio 4 = height/width, 2x8. Of size 8: 8x8 and 4x16.
    cell = torch.tensor([[-2.0, -2, 2, 2], [-1, -4, 1, 4], [-4, -4, 4, 4], [-2, -8, 2, 8]])
    places = [[0.0, 0, 0, 0], [10, 0, 10, 0], [0, 10, 0, 10], [10, 10, 10, 10]]
    assert boxes.tensor.tolist() == torch.cat([cell + torch.tensor(p) for p in places]).tolist()


def test_corners_are_not_rounded():
    generator = DefaultAnchorGenerator(sizes=[32], aspect_ratios=[0.5], strides=[4], offset=0.0)
    width = 32 * math.sqrt(2)
    expected = torch.tensor([[-width / 2, -width / 4, width / 2, width / 4]])
    torch.testing.assert_close(generator([torch.zeros(1, 1, 1, 1)])[0].tensor, expected)


def test_offset_is_in_strides():
    generator = DefaultAnchorGenerator(sizes=[2], aspect_ratios=[1], strides=[8], offset=0.5)
    (boxes,) = generator([torch.zeros(1, 1, 1, 2)])
    assert boxes.tensor.tolist() == [[3.0, 3, 5, 5], [11.0, 3, 13, 5]]


def test_one_list_a_feature_map_or_one_for_all():
    each = DefaultAnchorGenerator(sizes=[[8], [16, 32]], aspect_ratios=[1, 2, 3], strides=[4, 8])
    assert each.num_anchors == each.num_cell_anchors == [3, 6]
    shared = DefaultAnchorGenerator(sizes=[8, 16], aspect_ratios=[[1]], strides=[4, 8, 16])
    assert shared.num_anchors == [2, 2, 2]
    maps = [torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 2, 2)]
    assert [len(boxes) for boxes in each(maps)] == [48, 24]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sizes": [[8], [16]]}, "2 lists of anchor sizes for 3 feature maps"),
        ({"sizes": []}, "anchor sizes are empty"),
        ({"offset": 1.0}, "offset"),
    ],
)
def test_impossible_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        DefaultAnchorGenerator(
            **{"sizes": [8], "aspect_ratios": [1], "strides": [4, 8, 16], **arguments}
        )


def test_built_from_a_config_and_saved_with_nothing(small_cfg):
    shapes = [ShapeSpec(channels=1, stride=stride) for stride in (4, 8, 16, 32, 64)]
    generator = build_anchor_generator(small_cfg, shapes)
    assert generator.box_dim == 4
    assert generator.strides == [4, 8, 16, 32, 64]
    assert generator.num_anchors == [3] * 5
    assert not generator.state_dict()
    moved = generator.to("meta")
    assert {anchors.device.type for anchors in moved.cell_anchors} == {"meta"}
