import pytest
import torch
import torch.nn.functional as F

from match_rcnn.lite.layers import ShapeSpec
from match_rcnn.lite.modeling.backbone import FPN, Backbone, build_backbone
from match_rcnn.lite.modeling.backbone.fpn import LastLevelMaxPool


class Pyramid(Backbone):
    """Features that are the image itself, shrunk."""

    def __init__(self, strides=(4, 8)):
        super().__init__()
        self._out_features = [f"c{stride}" for stride in strides]
        self._out_feature_strides = dict(zip(self._out_features, strides, strict=True))
        self._out_feature_channels = dict.fromkeys(self._out_features, 1)

    def forward(self, x):
        return {n: F.avg_pool2d(x, s) for n, s in self._out_feature_strides.items()}


def make_fpn():
    fpn = FPN(Pyramid(), ["c4", "c8"], 1)
    with torch.no_grad():
        for name, parameter in fpn.named_parameters():
            parameter.zero_()
            if "lateral" in name and name.endswith("weight"):
                parameter.fill_(2.0)
            elif name.endswith("weight"):
                parameter[0, 0, 1, 1] = 1.0  # a 3x3 convolution that changes nothing
    return fpn


def test_top_down_path_by_hand():
    features = make_fpn()(torch.ones(1, 1, 16, 24))
    assert {name: tuple(f.shape) for name, f in features.items()} == {
        "p2": (1, 1, 4, 6),
        "p3": (1, 1, 2, 3),
    }
    assert features["p3"].unique().tolist() == [2.0]  # the coarsest has nothing above it
    assert features["p2"].unique().tolist() == [4.0]


def test_coarse_cells_spread_to_their_nearest_fine_cells():
    image = torch.zeros(1, 1, 16, 16)
    image[:, :, :8, 8:] = 1.0
    fpn = make_fpn()
    with torch.no_grad():
        fpn.fpn_lateral2.weight.zero_()
    p2 = fpn(image)["p2"][0, 0]
    assert p2.tolist() == [[0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_last_level_takes_every_second_cell():
    fpn = FPN(Pyramid((8, 16, 32)), ["c8", "c16", "c32"], 3, top_block=LastLevelMaxPool())
    features = fpn(torch.randn(1, 1, 96, 160))
    assert list(features) == ["p3", "p4", "p5", "p6"]
    assert torch.equal(features["p6"], features["p5"][:, :, ::2, ::2])
    assert fpn.output_shape()["p6"] == ShapeSpec(channels=3, stride=64)
    assert fpn.size_divisibility == 32  # of p5, not p6


def test_names_and_their_order(small_cfg):
    model = build_backbone(small_cfg)
    names = [name for name, _ in model.named_parameters()]
    assert names[:17] == [
        *(
            f"fpn_{kind}{level}.{part}"
            for level in (2, 3, 4, 5)
            for kind in ("lateral", "output")
            for part in ("weight", "bias")
        ),
        "bottom_up.stem.conv1.weight",
    ]
    assert list(model.output_shape()) == ["p2", "p3", "p4", "p5", "p6"]


def test_norm_replaces_the_bias():
    names = dict(FPN(Pyramid(), ["c4", "c8"], 32, norm="GN").named_parameters())
    assert "fpn_output2.norm.bias" in names
    assert "fpn_output2.bias" not in names


@pytest.mark.parametrize(
    ("strides", "features", "message"),
    [
        ((4, 16), ["c4", "c16"], "strides that double"),
        ((6, 12), ["c6", "c12"], "strides that double"),
        ((4, 8), ["c4", "c99"], "needs features out of"),
        ((4, 8), [], "needs features out of"),
    ],
)
def test_impossible_arguments(strides, features, message):
    with pytest.raises(ValueError, match=message):
        FPN(Pyramid(strides), features, 4)
