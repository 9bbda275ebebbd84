"""Layers: torch's own where they serve, and the few that a detector needs beyond them."""

from .batch_norm import FrozenBatchNorm2d, get_norm
from .blocks import CNNBlockBase
from .mask_ops import paste_masks_in_image
from .nms import batched_nms, nms
from .roi_align import ROIAlign
from .shape_spec import ShapeSpec
from .wrappers import (
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Linear,
    cat,
    cross_entropy,
    interpolate,
    nonzero_tuple,
)

__all__ = [
    "BatchNorm2d",
    "CNNBlockBase",
    "Conv2d",
    "ConvTranspose2d",
    "FrozenBatchNorm2d",
    "Linear",
    "ROIAlign",
    "ShapeSpec",
    "batched_nms",
    "cat",
    "cross_entropy",
    "get_norm",
    "interpolate",
    "nms",
    "nonzero_tuple",
    "paste_masks_in_image",
]
