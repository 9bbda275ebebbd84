"""Deterministic operations that fvcore does not have."""

from typing import Any

import numpy as np
from fvcore.transforms.transform import Transform
from numpy.typing import NDArray
from PIL import Image

__all__ = ["ResizeTransform"]


class ResizeTransform(Transform):
    """Resize from (``h``, ``w``) to (``new_h``, ``new_w``) pixels.

    ``interp`` is a PIL resampling filter; it works over the whole footprint of a pixel
    (antialiasing).
    """

    def __init__(
        self, h: int, w: int, new_h: int, new_w: int, interp: int = Image.Resampling.BILINEAR
    ) -> None:
        super().__init__()
        self.h, self.w, self.new_h, self.new_w = h, w, new_h, new_w
        self.interp = int(interp)

    def apply_image(self, img: NDArray[Any], interp: int | None = None) -> NDArray[Any]:
        """An image of the old size, uint8 -> of the new size, with as many channels."""
        assert img.dtype == np.uint8, f"only bytes are resized, got {img.dtype}"
        assert img.shape[:2] == (self.h, self.w), (img.shape, self)
        resampling = Image.Resampling(self.interp if interp is None else interp)
        # PIL knows no images of one channel with a dimension for it.
        plane = img[:, :, 0] if img.ndim == 3 and img.shape[2] == 1 else img
        resized = Image.fromarray(plane).resize((self.new_w, self.new_h), resampling)
        return np.asarray(resized).reshape(self.new_h, self.new_w, *img.shape[2:])

    def apply_coords(self, coords: NDArray[Any]) -> NDArray[Any]:
        """(N, 2) points x, y; scaled in place, as detectron2 does.

        The dtype stays, so that integer points are cut off to integers: give floats.
        """
        coords[:] = coords * (self.new_w / self.w, self.new_h / self.h)
        return coords

    def apply_segmentation(self, segmentation: NDArray[Any]) -> NDArray[Any]:
        """Label map or mask, nearest neighbour."""
        return self.apply_image(segmentation, interp=int(Image.Resampling.NEAREST))

    def inverse(self) -> "ResizeTransform":
        """Back to the first size."""
        return ResizeTransform(self.new_h, self.new_w, self.h, self.w, self.interp)
