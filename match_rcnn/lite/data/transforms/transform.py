"""Deterministic operations that fvcore does not have.

Shapes: H, W the image before, ``new_h``, ``new_w`` after; C channels; N points.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from fvcore.transforms.transform import NoOpTransform, Transform
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

__all__ = ["ColorTransform", "PILColorTransform", "ResizeTransform"]

_TORCH_MODE = {
    Image.Resampling.NEAREST: "nearest",
    Image.Resampling.BILINEAR: "bilinear",
    Image.Resampling.BICUBIC: "bicubic",
}


class ResizeTransform(Transform):
    """Resize to a given size.

    Args:
        h, w: size of the image that will come, pixels.
        new_h, new_w: size of the image to give.
        interp: a PIL resampling filter; bilinear by default.
    """

    h: int
    w: int
    new_h: int
    new_w: int
    interp: int

    def __init__(self, h: int, w: int, new_h: int, new_w: int, interp: int | None = None) -> None:
        super().__init__()
        self.h, self.w, self.new_h, self.new_w = h, w, new_h, new_w
        self.interp = int(Image.Resampling.BILINEAR if interp is None else interp)

    def apply_image(self, img: NDArray[Any], interp: int | None = None) -> NDArray[Any]:
        """(H, W) or (H, W, C) -> the same with the new size, same dtype.

        uint8 goes through PIL, which filters over the whole footprint of a pixel (antialiasing);
        other types through torch, which does not. The two differ when an image shrinks.
        """
        assert img.shape[:2] == (self.h, self.w), (img.shape, self)
        interp = self.interp if interp is None else interp
        if img.dtype == np.uint8:
            return self._resize_with_pil(img, interp)
        return self._resize_with_torch(img, interp)

    def _resize_with_pil(self, img: NDArray[Any], interp: int) -> NDArray[Any]:
        single_channel = img.ndim == 3 and img.shape[2] == 1
        image = Image.fromarray(img[:, :, 0] if single_channel else img)
        resized = np.asarray(image.resize((self.new_w, self.new_h), Image.Resampling(interp)))
        return resized[:, :, None] if single_channel else resized

    def _resize_with_torch(self, img: NDArray[Any], interp: int) -> NDArray[Any]:
        mode = _TORCH_MODE[Image.Resampling(interp)]
        # torch takes no negative strides (a flipped image, BGR as a view of RGB)
        planes = torch.from_numpy(np.ascontiguousarray(img)).view(self.h, self.w, -1)
        planes = planes.permute(2, 0, 1)[None]  # (1, C, H, W)
        resized = F.interpolate(
            planes,
            (self.new_h, self.new_w),
            mode=mode,
            align_corners=None if mode == "nearest" else False,
        )
        resized = resized[0].permute(1, 2, 0)
        return resized.reshape(self.new_h, self.new_w, *img.shape[2:]).numpy()

    def apply_coords(self, coords: NDArray[Any]) -> NDArray[Any]:
        """(N, 2) points x, y; scaled in place, as detectron2 does.

        The dtype stays, so that integer points are cut off to integers: give floats.
        """
        coords[:, 0] = coords[:, 0] * (self.new_w * 1.0 / self.w)
        coords[:, 1] = coords[:, 1] * (self.new_h * 1.0 / self.h)
        return coords

    def apply_segmentation(self, segmentation: NDArray[Any]) -> NDArray[Any]:
        """Label map or mask, nearest neighbour."""
        return self.apply_image(segmentation, interp=int(Image.Resampling.NEAREST))

    def inverse(self) -> "ResizeTransform":
        """Back to the first size."""
        return ResizeTransform(self.new_h, self.new_w, self.h, self.w, self.interp)


class ColorTransform(Transform):
    """Apply a function to the image's values and leave every coordinate as it is.

    Args:
        op: (H, W, C) array -> array of the same size.

    Raises:
        ValueError: ``op`` is not callable.
    """

    op: Callable[[Any], Any]

    def __init__(self, op: Callable[[Any], Any]) -> None:
        if not callable(op):
            raise ValueError(f"op parameter should be callable, got {type(op).__name__}")
        super().__init__()
        self.op = op

    def apply_image(self, img: NDArray[Any]) -> NDArray[Any]:
        return self.op(img)

    def apply_coords(self, coords: NDArray[Any]) -> NDArray[Any]:
        return coords

    def apply_segmentation(self, segmentation: NDArray[Any]) -> NDArray[Any]:
        return segmentation

    def inverse(self) -> Transform:
        """Nothing to undo in the geometry; the colours stay changed."""
        return NoOpTransform()


class PILColorTransform(ColorTransform):
    """ColorTransform whose function takes and gives a PIL image."""

    def apply_image(self, img: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(self.op(Image.fromarray(img)))
