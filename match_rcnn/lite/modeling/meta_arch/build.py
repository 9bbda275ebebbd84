"""The registry of whole models."""

import torch
from torch import nn

from ...config import CfgNode
from ...utils.registry import Registry

META_ARCH_REGISTRY = Registry("META_ARCH")
"""Callables ``(cfg) -> nn.Module``, called with a list of dicts, one an image."""


def build_model(cfg: CfgNode) -> nn.Module:
    """The model named by ``cfg.MODEL.META_ARCHITECTURE``, on ``cfg.MODEL.DEVICE``.

    It does not load ``cfg.MODEL.WEIGHTS``.
    """
    model = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)
    return model.to(torch.device(cfg.MODEL.DEVICE))
