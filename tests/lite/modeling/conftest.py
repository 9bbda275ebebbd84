"""A small model whose weights and inputs are closed formulas, so that others can compute them too.

Sampling takes everything there is, so that no random number decides about a loss.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from match_rcnn.lite.config import CfgNode, get_cfg
from match_rcnn.lite.modeling import build_model
from match_rcnn.lite.structures import Boxes, Instances, Keypoints, PolygonMasks

NUM_CLASSES = 3
NUM_KEYPOINTS = 4
GT_BOXES = [[10.0, 12.0, 60.0, 90.0], [40.0, 20.0, 100.0, 60.0]]


def make_small_cfg() -> CfgNode:
    """ResNet-18-FPN with narrow heads for boxes, masks and keypoints."""
    cfg = get_cfg()
    model = cfg.MODEL
    model.DEVICE = "cpu"
    model.PIXEL_STD = [57.0, 58.0, 59.0]
    model.BACKBONE.NAME = "build_resnet_fpn_backbone"
    model.RESNETS.DEPTH = 18
    model.RESNETS.RES2_OUT_CHANNELS = 64
    model.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    model.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    model.FPN.OUT_CHANNELS = 16
    model.ANCHOR_GENERATOR.SIZES = [[16], [32], [64], [128], [256]]
    model.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    model.RPN.BATCH_SIZE_PER_IMAGE = 100_000
    model.RPN.POSITIVE_FRACTION = 1.0
    model.RPN.POST_NMS_TOPK_TRAIN = 40
    model.RPN.POST_NMS_TOPK_TEST = 40
    model.ROI_HEADS.NAME = "StandardROIHeads"
    model.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    model.ROI_HEADS.NUM_CLASSES = NUM_CLASSES
    model.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 100_000
    model.ROI_HEADS.POSITIVE_FRACTION = 1.0
    model.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    model.ROI_BOX_HEAD.NUM_FC = 2
    model.ROI_BOX_HEAD.FC_DIM = 32
    model.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
    model.MASK_ON = True
    model.ROI_MASK_HEAD.NUM_CONV = 2
    model.ROI_MASK_HEAD.CONV_DIM = 8
    model.KEYPOINT_ON = True
    model.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = NUM_KEYPOINTS
    model.ROI_KEYPOINT_HEAD.CONV_DIMS = (8, 8)
    return cfg


@torch.no_grad()
def fill_weights(model: nn.Module) -> None:
    """Every weight a sine of its position, with the variance that keeps activations in range."""
    for index, (name, tensor) in enumerate(model.state_dict().items()):
        if "norm" in name:
            continue
        position = np.arange(tensor.numel(), dtype=np.float64)
        values = np.sin(position * (1.0 + 0.1 * index) + position**2 * 0.37 + index)
        fan_in = max(tensor[0].numel(), 1)
        gain = 0.1 if "bbox_pred" in name or "anchor_deltas" in name else 1.5
        scale = 0.1 if name.endswith("bias") else gain / fan_in**0.5
        tensor.copy_(torch.from_numpy(values * scale).view(tensor.shape))


def make_image(height: int, width: int, phase: float) -> Tensor:
    """(3, height, width) waves between 0 and 255."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    waves = [np.sin(x * f + y * 0.05 + phase) + np.cos(y * f + phase) for f in (0.1, 0.17, 0.31)]
    return torch.from_numpy(np.round(np.stack(waves) * 60 + 128)).float()


def make_instances(height: int, width: int, boxes: list[list[float]]) -> Instances:
    """Ground truth: diamonds in the boxes as masks, keypoints on their diagonals."""
    instances = Instances((height, width))
    instances.gt_boxes = Boxes(torch.tensor(boxes).reshape(-1, 4))
    instances.gt_classes = torch.arange(len(boxes)) % NUM_CLASSES
    polygons, keypoints = [], np.zeros((len(boxes), NUM_KEYPOINTS, 3))
    for i, (x1, y1, x2, y2) in enumerate(boxes):
        mid_x, mid_y = (x1 + x2) / 2, (y1 + y2) / 2
        polygons.append([[mid_x, y1, x2, mid_y, mid_x, y2, x1, mid_y]])
        for k in range(NUM_KEYPOINTS):
            part = (k + 0.5) / NUM_KEYPOINTS
            keypoints[i, k] = x1 + part * (x2 - x1), y1 + part * (y2 - y1), (k + i) % 3
    instances.gt_masks = PolygonMasks(polygons)
    instances.gt_keypoints = Keypoints(keypoints)
    return instances


def make_batch(
    first: list[list[float]] = GT_BOXES, second: list[list[float]] = GT_BOXES[:1]
) -> list[dict[str, Any]]:
    """Two images of different sizes, with the given ground-truth boxes."""
    sizes = ((96, 128), (128, 112))
    return [
        {"image": make_image(h, w, phase=i), "instances": make_instances(h, w, boxes)}
        for i, ((h, w), boxes) in enumerate(zip(sizes, (first, second), strict=True))
    ]


@pytest.fixture
def small_cfg() -> CfgNode:
    return make_small_cfg()


@pytest.fixture(scope="module")
def small_model() -> nn.Module:
    model = build_model(make_small_cfg())
    fill_weights(model)
    return model


@pytest.fixture
def batch() -> Callable[..., list[dict[str, Any]]]:
    """``make_batch``: call it with the boxes of the first and second image."""
    return make_batch
