"""Backbones of torchvision and timm under the host's FPN."""

import importlib.util
import sys
from copy import deepcopy

import pytest
import torch
from torch import nn
from torchvision import models

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import Boxes, DetectionCheckpointer, EventStorage, Instances, build_model
from match_rcnn.engine.trainer import MatchRCNNTrainer
from match_rcnn.engine.weights import convert_weights
from match_rcnn.modeling.backbones import TimmBackbone, TorchvisionBackbone
from match_rcnn.modeling.backbones.stages import replace_batch_norm

#: The channels of each family's stages, as its paper has them.
CHANNELS = {
    "convnext_tiny": [96, 192, 384, 768],
    "swin_t": [96, 192, 384, 768],
    "mobilenet_v3_small": [16, 24, 48, 576],
    "efficientnet_b0": [24, 40, 112, 1280],
}
NAMES = ["res2", "res3", "res4", "res5"]
needs_timm = pytest.mark.skipif(not importlib.util.find_spec("timm"), reason="needs timm")


def config(name="mobilenet_v3_small"):
    cfg = get_match_rcnn_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    cfg.MODEL.BACKBONE.NAME = "build_torchvision_fpn_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.TORCHVISION.NAME = name
    cfg.MODEL.FPN.IN_FEATURES = NAMES
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[8], [16], [32], [64], [128]]
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 16
    return cfg


@pytest.mark.parametrize("name", CHANNELS)
def test_maps_have_the_stages_strides_and_channels(name):
    backbone = TorchvisionBackbone(name=name)
    shapes = backbone.output_shape()
    assert list(shapes) == NAMES
    assert [shape.stride for shape in shapes.values()] == [4, 8, 16, 32]
    assert [shape.channels for shape in shapes.values()] == CHANNELS[name]
    maps = backbone(torch.zeros(2, 3, 64, 96))
    assert {k: tuple(v.shape) for k, v in maps.items()} == {
        k: (2, s.channels, 64 // s.stride, 96 // s.stride) for k, s in shapes.items()
    }


@pytest.mark.parametrize("name", ["convnext_tiny", "mobilenet_v3_small"])
def test_maps_are_torchvisions_own(name):
    """The last map, without our norm, is what the classifier itself works on."""
    model = models.get_model(name).eval()
    backbone = TorchvisionBackbone(name=name).eval()
    backbone.features.load_state_dict(model.features.state_dict())
    backbone.norms = nn.ModuleDict()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(backbone(image)["res5"], model.features(image))


def test_only_networks_with_layer_norm_get_norms():
    assert list(TorchvisionBackbone(name="convnext_tiny").norms) == NAMES
    assert not TorchvisionBackbone(name="efficientnet_b0").norms


@pytest.mark.parametrize(
    ("freeze_at", "frozen"),
    [(0, 0), (1, 1), (2, 2), (3, 4)],  # a stem of stride 2, then layers of stride 4, 8, 8, 16 ...
)
def test_freezing_by_stride(freeze_at, frozen):
    backbone = TorchvisionBackbone(name="mobilenet_v3_small", freeze_at=freeze_at)
    learns = [any(p.requires_grad for p in layer.parameters()) for layer in backbone.features]
    assert learns == [False] * frozen + [True] * (len(learns) - frozen)
    before = {k: v.clone() for k, v in backbone.features.state_dict().items()}
    backbone.train()(torch.randn(2, 3, 64, 64))
    after = backbone.features.state_dict()
    moved = {int(k.split(".")[0]) for k in after if not torch.equal(after[k], before[k])}
    assert moved == set(range(frozen, len(learns)))  # statistics of the batch


def test_frozen_batch_norm_is_batch_norm_at_rest():
    block = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU())
    block.train()(torch.randn(4, 3, 5, 5))
    frozen = replace_batch_norm(deepcopy(block), "FrozenBN").train()
    x = torch.randn(1, 3, 5, 5)
    torch.testing.assert_close(frozen(x), block.eval()(x))
    counter = {"1.num_batches_tracked"}  # which a host may keep
    assert frozen.state_dict().keys() | counter == block.state_dict().keys()
    assert not list(frozen[1].parameters())
    with pytest.raises(ValueError, match="NORM must be one of"):
        replace_batch_norm(block, "GN")


def batch():
    instances = Instances((64, 64))
    instances.gt_boxes = Boxes(torch.tensor([[8.0, 8.0, 40.0, 56.0]]))
    instances.gt_classes = torch.tensor([1])
    image = torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8)
    return [{"image": image, "height": 64, "width": 64, "instances": instances}] * 2


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "swin_t"])
def test_a_step_of_a_detector(name):
    cfg = config(name)
    model = build_model(cfg)
    optimizer = MatchRCNNTrainer.build_optimizer(cfg, model)
    with EventStorage():
        losses = model.train()(batch())
        sum(losses.values()).backward()
    unused = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert unused == []
    optimizer.step()
    assert len(model.eval()(batch())) == 2


def test_what_is_not_to_decay_does_not():
    cfg = config("swin_t")
    cfg.SOLVER.WEIGHT_DECAY, cfg.SOLVER.WEIGHT_DECAY_NORM = 0.1, 0.0
    model = build_model(cfg)
    names = {id(p): n for n, p in model.named_parameters()}
    decays = {
        names[id(p)]: group["weight_decay"]
        for group in MatchRCNNTrainer.build_optimizer(cfg, model).param_groups
        for p in group["params"]
    }
    still = {n for n, decay in decays.items() if decay == 0}
    tables = {n for n in decays if n.endswith("relative_position_bias_table")}
    norms = {n for n in decays if ".norm" in n}
    assert tables
    assert norms
    assert tables | norms <= still
    assert decays["backbone.bottom_up.features.0.0.weight"] == 0.1


def test_a_file_of_torchvisions_weights_fits(tmp_path):
    source = models.get_model("mobilenet_v3_small")
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    done = convert_weights(tmp_path / "weights.pth", tmp_path / "weights.pkl")
    assert done.kind == "features"
    assert all(part.name.startswith("classifier.") for part in done.left_out)
    model = build_model(config())
    DetectionCheckpointer(model).load(str(tmp_path / "weights.pkl"))
    loaded = model.backbone.bottom_up.features.state_dict()
    for name, value in source.features.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(loaded[name], value), name


def test_weights_come_from_torchvision_where_no_file_is_named(monkeypatch, tmp_path):
    """From its cache, where a download would have put them."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = models.get_model_weights("mobilenet_v3_small").DEFAULT.url
    source = models.get_model("mobilenet_v3_small").state_dict()
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(source, tmp_path / "hub" / "checkpoints" / url.rpartition("/")[2])
    cfg = config()
    cfg.MODEL.TORCHVISION.WEIGHTS = "DEFAULT"
    loaded = TorchvisionBackbone(cfg).features.state_dict()["0.0.weight"]
    assert torch.equal(loaded, source["features.0.0.weight"])
    cfg.MODEL.WEIGHTS = "model_final.pth"  # this has them all
    built = TorchvisionBackbone(cfg).features.state_dict()["0.0.weight"]
    assert not torch.equal(built, loaded)


def test_weights_that_are_not_to_be_had(monkeypatch):
    def refuse(*given, **how):
        raise OSError("no route to host")

    monkeypatch.setattr(models.WeightsEnum, "get_state_dict", refuse)
    with pytest.raises(ValueError, match=r"cannot be loaded \(no route to host\); convert a file"):
        TorchvisionBackbone(name="mobilenet_v3_small", weights="DEFAULT")


@pytest.mark.parametrize(
    ("name", "message"),
    [("convnext_teeny", "no model 'convnext_teeny'"), ("resnet18", "no sequence of layers")],
)
def test_models_that_do_not_fit(name, message):
    with pytest.raises(ValueError, match=message):
        TorchvisionBackbone(name=name)


@needs_timm
def test_timm():
    backbone = TimmBackbone(name="mobilenetv3_small_050", norm="FrozenBN")
    shapes = backbone.output_shape()
    assert [s.stride for s in shapes.values()] == [4, 8, 16, 32]
    maps = backbone(torch.zeros(1, 3, 64, 96))
    assert {k: tuple(v.shape[1:]) for k, v in maps.items()} == {
        k: (s.channels, 64 // s.stride, 96 // s.stride) for k, s in shapes.items()
    }
    cfg = config()
    cfg.MODEL.BACKBONE.NAME = "build_timm_fpn_backbone"
    cfg.MODEL.TIMM.NAME = "mobilenetv3_small_050"
    assert isinstance(build_model(cfg).backbone.bottom_up, TimmBackbone)


@needs_timm
@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"name": "no_such_net"}, "'no_such_net' cannot be built"),
        ({"name": "vit_tiny_patch16_224"}, "no map of stride 4"),
        ({"name": "mobilenetv3_small_050", "freeze_at": 2}, "0 .nothing. or 5 .all."),
    ],
)
def test_timm_models_that_do_not_fit(keys, message):
    with pytest.raises(ValueError, match=message):
        TimmBackbone(**keys)


def test_timm_missing_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r"pip install 'match_rcnn\[timm\]'"):
        TimmBackbone(name="convnext_tiny")
