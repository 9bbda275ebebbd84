"""The registry of backbones."""

from match_rcnn.lite.config import CfgNode
from match_rcnn.lite.layers import ShapeSpec
from match_rcnn.lite.modeling.backbone.backbone import Backbone
from match_rcnn.lite.utils.registry import Registry

BACKBONE_REGISTRY = Registry("BACKBONE")
"""Callables ``(cfg, input_shape) -> Backbone``."""


def build_backbone(cfg: CfgNode, input_shape: ShapeSpec | None = None) -> Backbone:
    """The backbone named by ``cfg.MODEL.BACKBONE.NAME``.

    Args:
        cfg: the configuration.
        input_shape: of the images; as many channels as ``cfg.MODEL.PIXEL_MEAN`` by default.
    """
    if input_shape is None:
        input_shape = ShapeSpec(channels=len(cfg.MODEL.PIXEL_MEAN))
    backbone = BACKBONE_REGISTRY.get(cfg.MODEL.BACKBONE.NAME)(cfg, input_shape)
    assert isinstance(backbone, Backbone), type(backbone)
    return backbone
