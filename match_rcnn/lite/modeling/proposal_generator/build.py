"""The registry of proposal generators."""

from torch import nn

from ...config import CfgNode
from ...layers import ShapeSpec
from ...utils.registry import Registry

PROPOSAL_GENERATOR_REGISTRY = Registry("PROPOSAL_GENERATOR")
"""Callables ``(cfg, input_shape) -> nn.Module`` that is called with images, features, targets."""


def build_proposal_generator(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> nn.Module:
    """The module named by ``cfg.MODEL.PROPOSAL_GENERATOR.NAME``."""
    module: nn.Module = PROPOSAL_GENERATOR_REGISTRY.get(cfg.MODEL.PROPOSAL_GENERATOR.NAME)(
        cfg, input_shape
    )
    return module
