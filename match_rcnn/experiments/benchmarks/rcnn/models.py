"""The measured models, with weights that depend on nothing but parameter names and shapes.

Weights that nobody trained would give boxes of no use: proposals and detections are given to all
models alike, *after* each model computed its own. So the proposal network and the box stream do
their whole work, and what follows has garment-size boxes, in a known number.
"""

import zlib
from typing import Any

import numpy as np
import torch
from torch import nn

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import Boxes, CfgNode, Instances
from match_rcnn.engine.trainer import MatchRCNNTrainer
from match_rcnn.experiments.benchmarks.rcnn import inputs
from match_rcnn.experiments.benchmarks.rcnn.workload import MODELS, Workload
from match_rcnn.utils.shipped import config_file

Tensor = torch.Tensor

#: Where a variance that keeps a signal alive would give useless scores and boxes.
SCALES = {
    "objectness_logits.weight": 0.1,
    "anchor_deltas.weight": 0.02,
    "cls_score.weight": 0.5,
    "bbox_pred.weight": 0.3,
}


def make_config(workload: Workload) -> CfgNode:
    """R-50-FPN with boxes, masks, 294 landmarks and, for "ours", matching on pose and class."""
    cfg = get_match_rcnn_cfg()
    cfg.merge_from_file(str(config_file("Base-RCNN-FPN")))
    cfg.MODEL.DEVICE = workload.device
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.PIXEL_STD = [57.375, 57.12, 58.395]  # random weights want unit variance
    cfg.MODEL.MASK_ON = cfg.MODEL.KEYPOINT_ON = True
    cfg.MODEL.MATCH_ON = workload.model == "ours"
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = workload.rois
    # A random classifier's noise would keep NMS busy; detections are given anyway.
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.5
    cfg.SOLVER.BASE_LR = 1e-6  # weights that nobody trained must not run away
    if workload.model == "stock":
        cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
        cfg.MODEL.ROI_KEYPOINT_HEAD.NAME = "KRCNNConvDeconvUpsampleHead"
    cfg.merge_from_list(list(workload.options))
    return cfg


def make_model(workload: Workload) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The model on its device, in the task's mode, and the optimizer of its parameters.

    Raises:
        ValueError: an unknown model.
    """
    if workload.model not in MODELS:
        raise ValueError(f"model must be one of {', '.join(MODELS)}; got {workload.model!r}")
    cfg = make_config(workload)
    if workload.model == "torchvision":
        model: nn.Module = _torchvision(workload).to(workload.device)
    else:
        model = MatchRCNNTrainer.build_model(cfg)
    fill(model)
    return model.train(workload.task == "train"), MatchRCNNTrainer.build_optimizer(cfg, model)


def _torchvision(workload: Workload) -> nn.Module:
    from torchvision.models.detection import maskrcnn_resnet50_fpn

    return maskrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=14,  # background is one of them
        trainable_backbone_layers=3,
        min_size=min(workload.height, workload.width),
        max_size=max(workload.height, workload.width),
        box_batch_size_per_image=workload.rois,
        box_score_thresh=0.5,
    )


@torch.no_grad()
def fill(model: nn.Module) -> None:
    """Give every parameter values that depend on its name and shape only."""
    for name, parameter in model.named_parameters():
        parameter.copy_(torch.from_numpy(_values(name, tuple(parameter.shape))))
    for name, buffer in model.named_buffers():
        if name.endswith("conv3.norm.weight"):
            buffer.fill_(0.25)  # sixteen blocks add up


def _values(name: str, shape: tuple[int, ...]) -> Any:
    # The generator's raw integers are the same with every version of numpy.
    raw = np.random.PCG64(zlib.crc32(name.encode())).random_raw(int(np.prod(shape)))
    uniform = ((raw >> np.uint64(11)) * 2.0**-52 - 1).astype(np.float32).reshape(shape)
    uniform *= next((scale for end, scale in SCALES.items() if name.endswith(end)), 1)
    if len(shape) > 1:
        return uniform * np.float32(np.sqrt(6 / np.prod(shape[1:])))
    return 1 + 0.1 * uniform if name.endswith("norm.weight") else 0.1 * uniform


def give_proposals(model: Any, workload: Workload, batch: list[dict[str, Any]]) -> None:
    """Let the model's proposal network work, and then replace what it proposes."""
    given = [boxes.to(workload.device) for boxes in inputs.proposals(workload, batch)]
    if workload.model == "torchvision":
        _replace(model.rpn, "forward", lambda made: (given, made[1]))
        return

    def replaced(made: Any) -> Any:
        instances = []
        for boxes in given:
            image = Instances((workload.height, workload.width))
            image.proposal_boxes = Boxes(boxes.clone())
            image.objectness_logits = boxes.new_zeros(len(boxes))
            instances.append(image)
        return instances, made[1]

    _replace(model.proposal_generator, "forward", replaced)


def give_detections(model: Any, workload: Workload) -> None:
    """Let the model's box stream work, and then replace what it detects."""
    given = [tuple(t.to(workload.device) for t in d) for d in inputs.detections(workload)]
    if workload.model == "torchvision":
        boxes, classes, scores = (list(part) for part in zip(*given, strict=True))
        labels = [c + 1 for c in classes]
        _replace(model.roi_heads, "postprocess_detections", lambda made: (boxes, scores, labels))
        return

    def replaced(made: Any) -> Any:
        instances = []
        for image_boxes, classes, scores in given:
            image = Instances((workload.height, workload.width))
            image.pred_boxes, image.scores = Boxes(image_boxes.clone()), scores
            image.pred_classes = classes
            instances.append(image)
        return instances, made[1]

    _replace(model.roi_heads.box_predictor, "inference", replaced)


def _replace(owner: Any, method: str, change: Any) -> None:
    original = getattr(owner, method)
    setattr(owner, method, lambda *args, **kwargs: change(original(*args, **kwargs)))
