"""Weights of other origin as a start: conversion to a file that either host loads.

Known kinds of input:

``torchvision``
    a state dict of a torchvision ResNet (``.pth``). It was trained on RGB images in 0 to 1 with
    the stride in the 3x3 convolution; :data:`TORCHVISION_SETTINGS` are the keys that go with it.
``features``
    a state dict of another of torchvision's classifiers (ConvNeXt, Swin, MobileNet, EfficientNet),
    for ``MODEL.BACKBONE.NAME build_torchvision_fpn_backbone``, with the same keys; or VGG16's, for
    ``configs/fashionnet_VGG16.yaml``.
``caffe2``
    Caffe2 blobs (``.pkl``), as MSRA's ImageNet backbones of detectron2's model zoo.
``detectron2``
    a model of the zoo (``.pkl``) or a checkpoint of either host (``.pth``). Predictors of other
    classes than DeepFashion2's 13, or of other landmarks than its 294, are left out.

Nothing in a file is run: pickles may hold arrays and plain containers only.
"""

import pickle
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from match_rcnn.d2 import read_plain
from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.utils.files import atomic_write

Weights = dict[str, npt.NDArray[Any]]

TORCHVISION_SETTINGS: dict[str, Any] = {
    "INPUT.FORMAT": "RGB",
    "MODEL.PIXEL_MEAN": [123.675, 116.28, 103.53],
    "MODEL.PIXEL_STD": [58.395, 57.12, 57.375],
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
}

#: Applied to a torchvision name in this order.
_TORCHVISION_RULES = (
    (r"^(conv1|bn1)\.", r"stem.\1."),
    (r"^layer(\d)\.", lambda match: f"res{int(match[1]) + 1}."),
    (r"\.downsample\.0\.", ".shortcut."),
    (r"\.downsample\.1\.", ".shortcut.norm."),
    (r"\.bn(\d)\.", r".conv\1.norm."),
)
#: VGG16's layers behind conv4, and where a recognition model's branches have them.
_FC6 = "classifier.0.weight"
_VGG16_BRANCHES = {
    f"features.{layer}": tuple(
        f"{branch}.convs.{i}" for branch in ("landmark_branch.trunk", "global_branch")
    )
    for i, layer in zip((0, 2, 4), (24, 26, 28), strict=True)
}
_VGG16_BRANCHES["classifier.0"] = ("global_branch.fcs.0",)
#: Layers that depend on classes or landmarks: (dimension, its size for DeepFashion2).
_PREDICTORS = {
    "roi_heads.box_predictor.cls_score": (0, DEEPFASHION2.num_categories + 1),
    "roi_heads.box_predictor.bbox_pred": (0, 4 * DEEPFASHION2.num_categories),
    "roi_heads.mask_head.predictor": (0, DEEPFASHION2.num_categories),
    "roi_heads.keypoint_head.score_lowres": (1, DEEPFASHION2.num_landmarks),
}


@dataclass(frozen=True)
class LeftOut:
    """A weight that is not in the output, and why."""

    name: str
    shape: tuple[int, ...]
    reason: str

    def __str__(self) -> str:
        return f"{self.name} {self.shape}: {self.reason}"


@dataclass
class Conversion:
    """What became of a file. ``author`` and ``heuristics`` tell the host how to read names."""

    kind: str
    weights: Weights
    author: str
    heuristics: bool
    left_out: list[LeftOut] = field(default_factory=list)

    def drop(self, name: str, value: npt.NDArray[Any], reason: str) -> None:
        self.left_out.append(LeftOut(name, tuple(np.shape(value)), reason))


def convert_weights(source: str | Path, output: str | Path, kind: str = "auto") -> Conversion:
    """Convert ``source`` and write ``output``, a ``.pkl`` file in the model zoo's layout.

    Args:
        kind: one of :data:`KINDS`; ``auto`` tells by the names of the weights.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read without running code, holds no known weights, or
            ``output`` is not a ``.pkl`` file.
    """
    if Path(output).suffix != ".pkl":
        raise ValueError(f"expected an output file that ends in .pkl, got {output}")
    result = convert(read_weights(source), kind, str(source))
    content: dict[str, Any] = {"model": result.weights, "__author__": result.author}
    if result.heuristics:
        content["matching_heuristics"] = True
    with atomic_write(output) as file:
        pickle.dump(content, file, protocol=4)
    return result


def read_weights(path: str | Path) -> Weights:
    """The arrays of a ``.pkl`` or ``.pth`` file by name, without running code from it.

    Raises:
        FileNotFoundError, ValueError: as :func:`convert_weights`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}")
    content = read_plain(path)
    for key in ("model", "blobs", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise ValueError(f"expected weights by name, got {type(content).__name__} in {path}")
    arrays = {str(k): _array(v) for k, v in content.items()}
    return {name: value for name, value in arrays.items() if value is not None}


def _array(value: Any) -> npt.NDArray[Any] | None:
    if isinstance(value, torch.Tensor):
        # numpy has no bfloat16
        value = value.float() if value.dtype == torch.bfloat16 else value
        return value.detach().cpu().numpy()
    return value if isinstance(value, np.ndarray) else None


def convert(weights: Weights, kind: str = "auto", where: str = "the weights") -> Conversion:
    """As :func:`convert_weights`, on arrays; ``where`` is for messages.

    Raises:
        ValueError: an unknown kind, or weights that are not of it.
    """
    found = detect_kind(weights)
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}")
    if found is None or kind not in ("auto", found):
        names = ", ".join(list(weights)[:3]) or "none"
        wanted = "torchvision, Caffe2 or detectron2" if kind == "auto" else kind
        raise ValueError(f"expected weights named as {wanted} names them, got {names} in {where}")
    result = _CONVERTERS[found](weights)
    if not result.weights:
        raise ValueError(f"nothing of {where} can be used: all {len(weights)} weights left out")
    return result


def detect_kind(weights: Weights) -> str | None:
    """By the names of the backbone's first stage; None: no known kind."""
    if any(name.startswith("layer1.0.") for name in weights):
        return "torchvision"
    if any(name.startswith("features.") for name in weights):
        return "features"
    if any(re.match(r"res2_0_branch\d", name) for name in weights):
        return "caffe2"
    if any(name.startswith(("backbone.", "roi_heads.", "proposal_generator.")) for name in weights):
        return "detectron2"
    return None


def _from_torchvision(weights: Weights) -> Conversion:
    result = Conversion("torchvision", {}, "torchvision", heuristics=True)
    for name, value in weights.items():
        if name.endswith("num_batches_tracked"):
            continue
        if name.startswith("fc."):
            result.drop(name, value, "ImageNet's classifier")
        else:
            result.weights[torchvision_name(name)] = value
    return result


def torchvision_name(name: str) -> str:
    """``layer1.0.bn2.weight`` -> ``res2.0.conv2.norm.weight``."""
    for pattern, replacement in _TORCHVISION_RULES:
        name = re.sub(pattern, replacement, name)
    return name


def _from_features(weights: Weights) -> Conversion:
    """Names stay: the host finds their ends in the model's. VGG16's become those of a recognition
    model, whose branches get what they have behind the shared layers, conv5 and fc6, as well."""
    result = Conversion("features", {}, "torchvision", heuristics=True)
    is_vgg16 = _FC6 in weights and weights[_FC6].shape == (4096, 25088)
    for name, value in weights.items():
        layer, _, kind = name.rpartition(".")
        branches = _VGG16_BRANCHES.get(layer, ()) if is_vgg16 else ()
        result.weights |= {f"{branch}.{kind}": value for branch in branches}
        if name.startswith("features."):
            # The whole name: a second tower's parameters end in the same.
            result.weights[f"backbone.{name}" if is_vgg16 else name] = value
        elif not branches:
            result.drop(name, value, "ImageNet's classifier")
    return result


def _from_caffe2(weights: Weights) -> Conversion:
    result = Conversion("caffe2", {}, "Caffe2", heuristics=True)
    for name, value in weights.items():
        if name.startswith(("fc1000", "pred_")):
            result.drop(name, value, "ImageNet's classifier")
        elif name.endswith("_momentum"):
            result.drop(name, value, "state of an optimizer")
        else:
            result.weights[name] = value
    return result


def _from_detectron2(weights: Weights) -> Conversion:
    result = Conversion("detectron2", {}, "Detectron2 Model Zoo", heuristics=False)
    for name, value in weights.items():
        dimension, size = _PREDICTORS.get(name.rpartition(".")[0], (0, None))
        # A bias has one dimension, whichever of its weight's counts.
        found = value.shape[dimension if value.ndim > 1 else 0] if value.ndim else None
        if size is not None and found != size:
            result.drop(name, value, f"{found} outputs; DeepFashion2 needs {size}")
        else:
            result.weights[name] = value
    return result


_CONVERTERS = {
    "torchvision": _from_torchvision,
    "features": _from_features,
    "caffe2": _from_caffe2,
    "detectron2": _from_detectron2,
}
KINDS = ("auto", *_CONVERTERS)
