"""A mask to draw, whatever it was given as."""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pycocotools.mask as mask_util

from ..structures import polygons_to_bitmask

Array = npt.NDArray[Any]


class GenericMask:
    """A mask of one instance as bitmap and as polygons, each made when asked for.

    Args:
        mask_or_polygons: a bitmap (height, width), a list of polygons x0 y0 x1 y1 ..., or a
            COCO run-length dict.
        height: of the image.
        width: of the image.

    Raises:
        ValueError: none of these, or a bitmap of another size.
    """

    def __init__(self, mask_or_polygons: Any, height: int, width: int) -> None:
        self.height = height
        self.width = width
        self._mask: Array | None = None
        self._polygons: list[Array] | None = None
        self._has_holes: bool | None = None
        given = mask_or_polygons
        if isinstance(given, dict):
            if isinstance(given["counts"], list):
                given = mask_util.frPyObjects(given, height, width)
            self._mask = mask_util.decode(given)
        elif isinstance(given, list):
            self._polygons = [np.asarray(p, dtype=np.float64).reshape(-1) for p in given]
            self._has_holes = False
        else:
            self._mask = np.asarray(given).astype(np.uint8)
        if self._mask is not None and self._mask.shape != (height, width):
            raise ValueError(f"expected a mask of {height} x {width}, got {self._mask.shape}")

    @property
    def mask(self) -> Array:
        """(height, width) uint8, 0 or 1."""
        if self._mask is None:
            self._mask = self.polygons_to_mask(self.polygons)
        return self._mask

    @property
    def polygons(self) -> list[Array]:
        """Outer and inner outlines, each x0 y0 x1 y1 ..."""
        if self._polygons is None:
            self._polygons, self._has_holes = self.mask_to_polygons(self.mask)
        return self._polygons

    @property
    def has_holes(self) -> bool:
        """Whether the polygons alone, without which is inside which, would tell less."""
        if self._has_holes is None:
            self._polygons, self._has_holes = self.mask_to_polygons(self.mask)
        return self._has_holes

    def mask_to_polygons(self, mask: Array) -> tuple[list[Array], bool]:
        """Outlines through the centres of the outermost pixels, and whether one is a hole's."""
        found, hierarchy = cv2.findContours(
            np.ascontiguousarray(mask, dtype=np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
        )
        if hierarchy is None:
            return [], False
        polygons = [c.reshape(-1) + 0.5 for c in found if len(c) >= 3]
        return polygons, bool((hierarchy.reshape(-1, 4)[:, 3] >= 0).any())

    def polygons_to_mask(self, polygons: list[Array]) -> Array:
        """(height, width) uint8, by COCO's rules."""
        return polygons_to_bitmask(polygons, self.height, self.width).astype(np.uint8)

    def area(self) -> int:
        """In pixels."""
        return int(self.mask.sum())

    def bbox(self) -> Array:
        """(4,) x0, y0, x1, y1 around the corners or the pixels; zeros if there are none."""
        if self._mask is None and self.polygons:
            corners = np.concatenate(self.polygons).reshape(-1, 2)
            return np.concatenate([corners.min(axis=0), corners.max(axis=0)])
        x, y, width, height = cv2.boundingRect(self.mask)
        return np.array([x, y, x + width, y + height], dtype=np.float64)
