"""The registry of whole models."""

import functools
import operator
from typing import Any

import torch
from torch import nn

from ...config import CfgNode
from ...utils.registry import Registry

META_ARCH_REGISTRY = Registry("META_ARCH")
"""Callables ``(cfg) -> nn.Module``, called with a list of dicts, one an image."""


# What detectron2 has and this host has not: the key, and the value that leaves it out.
_LEFT_OUT = {
    "MODEL.LOAD_PROPOSALS": False,
    "MODEL.FPN.FUSE_TYPE": "sum",
    "MODEL.RESNETS.RES5_DILATION": 1,
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": [False] * 4,
    "MODEL.RPN.BBOX_REG_LOSS_TYPE": "smooth_l1",
    "MODEL.RPN.BOUNDARY_THRESH": -1,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE": "smooth_l1",
    "MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES": False,
    "MODEL.ROI_BOX_HEAD.USE_FED_LOSS": False,
    "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": False,
    "TEST.PRECISE_BN.ENABLED": False,
    "VIS_PERIOD": 0,
}


def check_left_out(cfg: CfgNode) -> None:
    """
    Raises:
        ValueError: a key asks for what only detectron2 has.
    """
    for key, value in _LEFT_OUT.items():
        found: Any = functools.reduce(operator.getitem, key.split("."), cfg)
        if found != value:
            raise ValueError(
                f"{key} is {found!r}: the lite host knows {value!r} only; set that, or choose "
                "detectron2 as the host (MATCH_RCNN_HOST=detectron2)"
            )


def build_model(cfg: CfgNode) -> nn.Module:
    """The model named by ``cfg.MODEL.META_ARCHITECTURE``, on ``cfg.MODEL.DEVICE``.

    It does not load ``cfg.MODEL.WEIGHTS``.

    Raises:
        ValueError: a key asks for what this host does not have.
    """
    check_left_out(cfg)
    model = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)
    return model.to(torch.device(cfg.MODEL.DEVICE))
