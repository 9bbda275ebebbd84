import pytest
import torch
import torchvision

from match_rcnn.lite.config import get_cfg
from match_rcnn.lite.layers import FrozenBatchNorm2d, ShapeSpec
from match_rcnn.lite.modeling.backbone import build_backbone, build_resnet_backbone
from match_rcnn.lite.modeling.backbone.blocks import BasicBlock, BottleneckBlock, make_stage

FEATURES = ["res2", "res3", "res4", "res5"]


def resnet_cfg(depth=18, **keys):
    cfg = get_cfg()
    cfg.MODEL.RESNETS.DEPTH = depth
    if depth < 50:
        cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.OUT_FEATURES = ["stem", *FEATURES]
    for key, value in keys.items():
        cfg.MODEL.RESNETS[key] = value
    return cfg


STAGES = {"layer1": "res2", "layer2": "res3", "layer3": "res4", "layer4": "res5"}


def our_name(name):
    """torchvision's ``layer1.0.bn2.weight`` is our ``res2.0.conv2.norm.weight``."""
    parts = name.split(".")
    block = [STAGES[parts.pop(0)], parts.pop(0)] if parts[0] in STAGES else ["stem"]
    layer = parts.pop(0)
    if layer == "downsample":
        layer = "shortcut" if parts.pop(0) == "0" else "shortcut.norm"
    elif layer.startswith("bn"):
        layer = f"conv{layer[2:]}.norm"
    return ".".join([*block, layer, *parts])


@pytest.mark.parametrize(("depth", "freeze_at"), [(18, 0), (18, 2), (50, 5)])
def test_same_features_as_torchvision(depth, freeze_at):
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, f"resnet{depth}")().eval()
    for name, buffer in theirs.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    cfg = resnet_cfg(depth, NORM="BN", STRIDE_IN_1X1=False)
    cfg.MODEL.BACKBONE.FREEZE_AT = freeze_at
    ours = build_backbone(cfg).eval()
    weights = {our_name(k): v for k, v in theirs.state_dict().items() if not k.startswith("fc")}
    missing, unexpected = ours.load_state_dict(weights, strict=False)
    assert not missing
    assert all(name.endswith("num_batches_tracked") for name in unexpected)

    image = torch.randn(1, 3, 64, 96)
    x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(image))))
    expected = {"stem": x}
    for layer, name in STAGES.items():
        expected[name] = x = getattr(theirs, layer)(x)
    features = ours(image)
    assert list(features) == list(expected)
    for name, feature in features.items():
        torch.testing.assert_close(feature, expected[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("depth", "num_blocks", "channels"),
    [
        (18, [2, 2, 2, 2], [64, 128, 256, 512]),
        (34, [3, 4, 6, 3], [64, 128, 256, 512]),
        (50, [3, 4, 6, 3], [256, 512, 1024, 2048]),
        (101, [3, 4, 23, 3], [256, 512, 1024, 2048]),
        (152, [3, 8, 36, 3], [256, 512, 1024, 2048]),
    ],
)
def test_depths(depth, num_blocks, channels):
    with torch.device("meta"):
        model = build_backbone(resnet_cfg(depth, OUT_FEATURES=FEATURES))
    assert [len(stage) for stage in model.stages] == num_blocks
    expected = [
        ShapeSpec(channels=c, stride=s) for c, s in zip(channels, (4, 8, 16, 32), strict=True)
    ]
    assert model.output_shape() == dict(zip(FEATURES, expected, strict=True))
    assert model.size_divisibility == 0


def test_parameter_names_and_their_order():
    model = build_backbone(resnet_cfg(50, NORM="GN"))
    names = [name for name, _ in model.named_parameters()]
    assert names[:3] == ["stem.conv1.weight", "stem.conv1.norm.weight", "stem.conv1.norm.bias"]
    layers = ["shortcut", "conv1", "conv2", "conv3"]
    parts = ["weight", "norm.weight", "norm.bias"]
    assert names[3:15] == [f"res2.0.{layer}.{part}" for layer in layers for part in parts]
    assert names[15:24] == [f"res2.1.{layer}.{part}" for layer in layers[1:] for part in parts]


def test_frozen_norms_have_buffers_only():
    model = build_backbone(resnet_cfg(18))
    assert not any("norm" in name for name, _ in model.named_parameters())
    assert {"stem.conv1.norm.running_var", "stem.conv1.norm.weight"} <= set(model.state_dict())


@pytest.mark.parametrize(("in_1x1", "strides"), [(True, [2, 1]), (False, [1, 2])])
def test_stride_is_in_the_1x1_or_the_3x3(in_1x1, strides):
    model = build_backbone(resnet_cfg(50, STRIDE_IN_1X1=in_1x1))
    block = model.res3[0]
    assert [block.conv1.stride[0], block.conv2.stride[0]] == strides
    assert block.shortcut.stride == (2, 2)


def test_groups_and_width():
    model = build_backbone(resnet_cfg(50, NUM_GROUPS=32, WIDTH_PER_GROUP=4))
    conv = model.res3[0].conv2
    assert (conv.groups, conv.in_channels, conv.out_channels) == (32, 256, 256)


@pytest.mark.parametrize("freeze_at", range(6))
def test_freezing(freeze_at):
    cfg = resnet_cfg(18, NORM="BN")
    cfg.MODEL.BACKBONE.FREEZE_AT = freeze_at
    model = build_backbone(cfg)
    parts = [model.stem, *model.stages]
    for index, part in enumerate(parts, start=1):
        frozen = index <= freeze_at
        assert {p.requires_grad for p in part.parameters()} == {not frozen}
        norms = [m for n, m in part.named_modules() if n.endswith("norm")]
        assert {isinstance(m, FrozenBatchNorm2d) for m in norms} == {frozen}


def test_stages_that_nobody_asked_for_are_dropped():
    model = build_backbone(resnet_cfg(18, OUT_FEATURES=["res3"]))
    assert model.stage_names == ("res2", "res3")
    assert not hasattr(model, "res4")
    assert list(model(torch.zeros(1, 3, 32, 32))) == ["res3"]


def test_a_stage():
    blocks = make_stage(BasicBlock, 2, in_channels=4, out_channels=8, stride_per_block=[2, 1])
    assert [b.stride for b in blocks] == [2, 1]
    assert [b.in_channels for b in blocks] == [4, 8]
    assert blocks[0].shortcut is not None
    assert blocks[1].shortcut is None


def test_blocks_by_hand():
    block = BasicBlock(1, 1, norm="")
    assert block.shortcut is None
    x = torch.tensor([[[[1.0, -2.0]]]])
    torch.nn.init.zeros_(block.conv2.weight)
    assert block(x).tolist() == [[[[1.0, 0.0]]]]  # relu(x + 0)
    bottleneck = BottleneckBlock(1, 2, bottleneck_channels=1, norm="")
    torch.nn.init.zeros_(bottleneck.conv3.weight)
    torch.nn.init.ones_(bottleneck.shortcut.weight)
    assert bottleneck(x).tolist() == [[[[1.0, 0.0]], [[1.0, 0.0]]]]


@pytest.mark.parametrize(
    ("depth", "keys", "message"),
    [
        (20, {}, "no ResNet of depth 20; there are .18, 34, 50, 101, 152."),
        (18, {"NUM_GROUPS": 2}, "NUM_GROUPS must be 1 for DEPTH 18"),
        (34, {"RES2_OUT_CHANNELS": 256}, "RES2_OUT_CHANNELS must be 64 for DEPTH 34"),
        (18, {"OUT_FEATURES": ["res6"]}, "res6"),
    ],
)
def test_impossible_configs(depth, keys, message):
    with pytest.raises(ValueError, match=message):
        build_resnet_backbone(resnet_cfg(depth, **keys), ShapeSpec(channels=3))


def test_an_image_without_batch_dimension_is_an_error():
    model = build_backbone(resnet_cfg(18))
    with pytest.raises(ValueError, match="batch of images"):
        model(torch.zeros(3, 32, 32))
