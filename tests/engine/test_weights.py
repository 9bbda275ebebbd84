import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import DetectionCheckpointer, build_model
from match_rcnn.engine.weights import (
    TORCHVISION_SETTINGS,
    convert,
    convert_weights,
    detect_kind,
    read_weights,
    torchvision_name,
)


@pytest.fixture(scope="module")
def model():
    """ResNet-18-FPN with mask and landmark heads; every value is 7."""
    cfg = get_match_rcnn_cfg()
    cfg.merge_from_file(str(Path(__file__).parents[2] / "configs" / "Base-RCNN-FPN.yaml"))
    small = ["MODEL.ROI_BOX_HEAD.FC_DIM", 8, "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", [8]]
    small += ["MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64]
    small += ["MODEL.FPN.OUT_CHANNELS", 8, "MODEL.ROI_MASK_HEAD.CONV_DIM", 8]
    streams = ["MODEL.MASK_ON", True, "MODEL.KEYPOINT_ON", True, "MODEL.DEVICE", "cpu"]
    cfg.merge_from_list(small + streams)
    cfg.merge_from_list([part for pair in TORCHVISION_SETTINGS.items() for part in pair])
    return build_model(cfg)


@pytest.fixture
def loaded(model):
    def load(path):
        with torch.no_grad():
            for tensor in model.state_dict().values():
                tensor.fill_(7)
        DetectionCheckpointer(model).load(str(path))
        return {name: tensor.numpy() for name, tensor in model.state_dict().items()}

    return load


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("conv1.weight", "stem.conv1.weight"),
        ("bn1.running_var", "stem.conv1.norm.running_var"),
        ("layer1.0.conv1.weight", "res2.0.conv1.weight"),
        ("layer4.2.bn3.bias", "res5.2.conv3.norm.bias"),
        ("layer2.0.downsample.0.weight", "res3.0.shortcut.weight"),
        ("layer2.0.downsample.1.running_mean", "res3.0.shortcut.norm.running_mean"),
    ],
)
def test_torchvision_names(name, expected):
    assert torchvision_name(name) == expected


def test_a_torchvision_backbone_computes_the_same(model, loaded, tmp_path):
    torch.manual_seed(0)
    source = torchvision.models.resnet18().eval()
    for buffer in source.buffers():  # statistics that a mix-up would show in
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    torch.save(source.state_dict(), tmp_path / "resnet18.pth")
    result = convert_weights(tmp_path / "resnet18.pth", tmp_path / "out.pkl")
    assert result.kind == "torchvision"
    assert [x.name for x in result.left_out] == ["fc.weight", "fc.bias"]
    assert result.left_out[0].shape == (1000, 512)
    loaded(tmp_path / "out.pkl")

    image = torch.rand(1, 3, 64, 64)
    x = source.maxpool(source.relu(source.bn1(source.conv1(image))))
    expected = source.layer4(source.layer3(source.layer2(source.layer1(x))))
    with torch.no_grad():
        found = model.eval().backbone.bottom_up(image)["res5"]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def test_caffe2_blobs_go_where_their_names_say(loaded, tmp_path):
    shape = (64, 64, 3, 3)
    blobs = {
        "conv1_w": np.full((64, 3, 7, 7), 1, np.float32),
        "res_conv1_bn_s": np.full(64, 2, np.float32),
        "res2_0_branch2a_w": np.full(shape, 3, np.float32),
        "res2_0_branch2a_bn_b": np.full(64, 4, np.float32),
        "res2_0_branch2a_w_momentum": np.zeros(shape, np.float32),
        "fc1000_w": np.zeros((1000, 512), np.float32),
    }
    (tmp_path / "R-18.pkl").write_bytes(pickle.dumps(blobs, protocol=2))
    result = convert_weights(tmp_path / "R-18.pkl", tmp_path / "out.pkl")
    assert result.kind == "caffe2"
    assert [str(x) for x in result.left_out] == [
        "res2_0_branch2a_w_momentum (64, 64, 3, 3): state of an optimizer",
        "fc1000_w (1000, 512): ImageNet's classifier",
    ]
    found = loaded(tmp_path / "out.pkl")
    assert (found["backbone.bottom_up.stem.conv1.weight"] == 1).all()
    assert (found["backbone.bottom_up.stem.conv1.norm.weight"] == 2).all()
    assert (found["backbone.bottom_up.res2.0.conv1.weight"] == 3).all()
    assert (found["backbone.bottom_up.res2.0.conv1.norm.bias"] == 4).all()
    assert (found["backbone.bottom_up.res2.0.conv2.weight"] == 7).all()


PREDICTORS = {  # of COCO's 80 classes (one class and 17 landmarks for keypoints): shapes in the zoo
    "mask": {
        "roi_heads.box_predictor.cls_score": (81, 8),
        "roi_heads.box_predictor.bbox_pred": (320, 8),
        "roi_heads.mask_head.predictor": (80, 8, 1, 1),
    },
    "keypoint": {
        "roi_heads.box_predictor.cls_score": (2, 8),
        "roi_heads.box_predictor.bbox_pred": (4, 8),
        "roi_heads.keypoint_head.score_lowres": (8, 17, 4, 4),
    },
}


@pytest.mark.parametrize("zoo", PREDICTORS)
def test_of_a_zoo_model_all_but_the_predictors_load(model, loaded, tmp_path, zoo):
    content = {name: np.full(t.shape, 2, np.float32) for name, t in model.state_dict().items()}
    unknown = "mask_head" if zoo == "keypoint" else "keypoint_head"
    content = {name: value for name, value in content.items() if unknown not in name}
    for layer, shape in PREDICTORS[zoo].items():
        content[f"{layer}.weight"] = np.full(shape, 2, np.float32)
        outputs = shape[1] if "score_lowres" in layer else shape[0]
        content[f"{layer}.bias"] = np.full(outputs, 2, np.float32)
    file = {"model": content, "__author__": "Detectron2 Model Zoo"}
    (tmp_path / "model_final.pkl").write_bytes(pickle.dumps(file))
    result = convert_weights(tmp_path / "model_final.pkl", tmp_path / "out.pkl")
    assert result.kind == "detectron2"
    left_out = {f"{layer}.{part}" for layer in PREDICTORS[zoo] for part in ("weight", "bias")}
    assert {x.name for x in result.left_out} == left_out
    assert all("DeepFashion2 needs" in x.reason for x in result.left_out)
    for name, value in loaded(tmp_path / "out.pkl").items():
        expected = 7 if name in left_out or unknown in name else 2
        assert (value == expected).all(), name


def test_our_own_checkpoint_passes_whole(model, tmp_path):
    torch.save({"model": model.state_dict(), "iteration": 3}, tmp_path / "model.pth")
    result = convert_weights(tmp_path / "model.pth", tmp_path / "out.pkl")
    assert result.left_out == []
    assert result.weights.keys() == model.state_dict().keys()
    again = read_weights(tmp_path / "out.pkl")
    assert all((again[name] == value).all() for name, value in result.weights.items())


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize("name", ["weights.pkl", "weights.pth"])
def test_nothing_in_a_file_is_run(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    if name.endswith("pkl"):
        (tmp_path / name).write_bytes(pickle.dumps({"model": Bomb()}))
    else:
        torch.save({"model": Bomb()}, tmp_path / name)
    with pytest.raises(ValueError, match="cannot be read as plain weights"):
        convert_weights(tmp_path / name, tmp_path / "out.pkl")
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


def test_what_cannot_be_converted_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights at"):
        convert_weights(tmp_path / "none.pkl", tmp_path / "out.pkl")
    with pytest.raises(ValueError, match=r"ends in \.pkl, got .*out\.pth"):
        convert_weights(tmp_path / "none.pkl", tmp_path / "out.pth")
    with pytest.raises(ValueError, match=r"named as torchvision, Caffe2 or detectron2 .* got a, b"):
        convert({"a": np.zeros(1), "b": np.zeros(1)})
    with pytest.raises(ValueError, match="named as caffe2 names them, got layer1"):
        convert({"layer1.0.conv1.weight": np.zeros(1)}, "caffe2")
    with pytest.raises(ValueError, match="kind must be one of auto, torchvision"):
        convert({}, "keras")
    assert detect_kind({}) is None


def test_the_tool_lists_what_is_left_out(run_tool, tmp_path):
    torch.save({"layer1.0.conv1.weight": torch.ones(2), "fc.bias": torch.ones(3)}, tmp_path / "a")
    done = run_tool("convert_weights", "--input", tmp_path / "a", "--output", tmp_path / "b.pkl")
    assert "b.pkl: 1 weights (torchvision)" in done.stdout
    assert "left out: fc.bias (3,): ImageNet's classifier" in done.stdout
    assert "MODEL.RESNETS.STRIDE_IN_1X1" in done.stdout
    flags = ("--input", tmp_path / "none", "--output", tmp_path / "b.pkl")
    failed = run_tool("convert_weights", *flags, check=False)
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].startswith("error: no weights at")
