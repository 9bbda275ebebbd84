"""Backbones beside the host's ResNet; importing this package puts them into its registry.

Each gives the maps that a ResNet gives, ``res2`` to ``res5`` of strides 4 to 32, to the host's FPN:
a config that names one (``MODEL.BACKBONE.NAME``) keeps all its other keys.
"""

from match_rcnn.modeling.backbones.timm_models import TimmBackbone
from match_rcnn.modeling.backbones.torchvision_models import TorchvisionBackbone

__all__ = ["TimmBackbone", "TorchvisionBackbone"]
