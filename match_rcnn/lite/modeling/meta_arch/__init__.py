"""Whole models."""

from match_rcnn.lite.modeling.meta_arch.build import META_ARCH_REGISTRY, build_model
from match_rcnn.lite.modeling.meta_arch.rcnn import GeneralizedRCNN, ProposalNetwork

__all__ = ["META_ARCH_REGISTRY", "GeneralizedRCNN", "ProposalNetwork", "build_model"]
