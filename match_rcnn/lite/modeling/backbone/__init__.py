"""Backbones: ResNet, and ResNet with a feature pyramid."""

from .backbone import Backbone
from .build import BACKBONE_REGISTRY, build_backbone
from .fpn import FPN, build_resnet_fpn_backbone
from .resnet import ResNet, build_resnet_backbone

__all__ = [
    "BACKBONE_REGISTRY",
    "FPN",
    "Backbone",
    "ResNet",
    "build_backbone",
    "build_resnet_backbone",
    "build_resnet_fpn_backbone",
]
