"""Models: backbones, proposal generators, ROI heads, and what joins them."""

from .backbone import BACKBONE_REGISTRY, FPN, Backbone
from .meta_arch import META_ARCH_REGISTRY, GeneralizedRCNN, build_model
from .roi_heads import (
    ROI_HEADS_REGISTRY,
    ROI_KEYPOINT_HEAD_REGISTRY,
    FastRCNNOutputLayers,
    ROIHeads,
    StandardROIHeads,
)

__all__ = [
    "BACKBONE_REGISTRY",
    "FPN",
    "META_ARCH_REGISTRY",
    "ROI_HEADS_REGISTRY",
    "ROI_KEYPOINT_HEAD_REGISTRY",
    "Backbone",
    "FastRCNNOutputLayers",
    "GeneralizedRCNN",
    "ROIHeads",
    "StandardROIHeads",
    "build_model",
]
