import pytest
import torch

from match_rcnn.lite.layers import ShapeSpec
from match_rcnn.lite.modeling.roi_heads import FastRCNNConvFCHead, build_box_head

SHAPE = ShapeSpec(channels=4, height=7, width=7)


def test_names_and_shapes(small_cfg):
    head = build_box_head(small_cfg, SHAPE)
    assert {name: tuple(v.shape) for name, v in head.state_dict().items()} == {
        "fc1.weight": (32, 4 * 49),
        "fc1.bias": (32,),
        "fc2.weight": (32, 32),
        "fc2.bias": (32,),
    }
    assert head.output_shape == ShapeSpec(channels=32)
    assert head(torch.zeros(5, 4, 7, 7)).shape == (5, 32)
    assert head(torch.zeros(0, 4, 7, 7)).shape == (0, 32)


def test_convolutions_alone_keep_the_map():
    head = FastRCNNConvFCHead(SHAPE, conv_dims=[6, 8], fc_dims=[], conv_norm="BN")
    assert list(dict(head.named_parameters()))[:2] == ["conv1.weight", "conv1.norm.weight"]
    assert head.output_shape == ShapeSpec(channels=8, height=7, width=7)
    assert head(torch.zeros(2, 4, 7, 7)).shape == (2, 8, 7, 7)


def test_convolutions_then_linear_layers():
    head = FastRCNNConvFCHead(SHAPE, conv_dims=[6], fc_dims=[3])
    assert [name for name, _ in head.named_children()] == ["conv1", "flatten", "fc1", "fc_relu1"]
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        head.fc1.bias.copy_(torch.tensor([1.0, -1.0, 0.0]))
    assert head(torch.ones(1, 4, 7, 7)).tolist() == [[1.0, 0.0, 0.0]]


def test_impossible_arguments():
    with pytest.raises(ValueError, match="at least one"):
        FastRCNNConvFCHead(SHAPE, conv_dims=[], fc_dims=[])
    with pytest.raises(ValueError, match="channels, height and width"):
        FastRCNNConvFCHead(ShapeSpec(channels=4), conv_dims=[], fc_dims=[3])
