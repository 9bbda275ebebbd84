"""A picture that remembers what was drawn where.

Shapes: ``H``, ``W`` the picture; ``h``, ``w`` a region of it. Coordinates are pixels; the centre of
the first pixel is (0, 0). Colours are RGB, 0 to 255.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from match_rcnn.data.synthetic.curves import BoolArray, FloatArray

_SHIFT = 4
Painter = Callable[[npt.NDArray[np.float32], npt.NDArray[np.float32]], Any]


@dataclass(frozen=True)
class Layer:
    """Who owns a drawn pixel: an item's part, or None for everything that is no item."""

    item: int | None
    part: str


class Canvas:
    """The picture ``image`` (H, W, 3) float32 and ``owner`` (H, W), an index into ``layers``."""

    def __init__(self, height: int, width: int) -> None:
        self.image = np.full((height, width, 3), 255, np.float32)
        self.owner = np.zeros((height, width), np.int16)
        self.layers: list[Layer] = [Layer(None, "background")]
        #: The silhouette of every item inside the picture, whatever covers it later.
        self.silhouettes: dict[int, BoolArray] = {}

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.owner.shape[0], self.owner.shape[1]

    def paint(
        self,
        polygons: Sequence[FloatArray],
        colour: Any,
        layer: Layer | None = None,
        *,
        discs: Sequence[tuple[float, float, float]] = (),
        opacity: float = 1.0,
        rounded: float = 0.0,
    ) -> None:
        """Fill the union of ``polygons`` (m, 2) and ``discs`` (x, y, radius).

        Args:
            colour: RGB, or a painter from pixel coordinates x, y (h, w) to (h, w, 3).
            layer: the new owner of the pixels; None leaves ownership as it is.
            rounded: strength of the darkening towards the edge.
        """
        region = self._region(polygons, discs)
        if region is None:
            return
        x0, y0, x1, y1 = region
        mask = _fill(region, polygons, discs)
        values = colour
        if callable(colour):
            y, x = np.mgrid[y0:y1, x0:x1].astype(np.float32)
            values = colour(x, y)
        values = np.broadcast_to(np.asarray(values, np.float32), (*mask.shape, 3))
        if rounded:
            values = values * _rounding(mask, rounded)
        alpha = (mask.astype(np.float32) * np.float32(opacity / 255))[..., None]
        target = self.image[y0:y1, x0:x1]
        target += alpha * (values - target)
        if layer is not None:
            self._own(layer, region, mask > 127)

    def stroke(
        self,
        lines: Sequence[FloatArray],
        thickness: float,
        colour: Any,
        layer: Layer | None = None,
        *,
        closed: bool = False,
        opacity: float = 1.0,
    ) -> None:
        """Draw polylines (m, 2) ``thickness`` pixels wide."""
        width = max(1, round(thickness))
        margin = thickness / 2 + 1
        boxes = [line + d for line in lines for d in (-margin, margin)]
        region = self._region(boxes, ())
        if region is None:
            return
        x0, y0, x1, y1 = region
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        fixed = [_fixed(line, x0, y0) for line in lines]
        cv2.polylines(mask, fixed, closed, 255, width, cv2.LINE_AA, _SHIFT)
        # A line thinner than a pixel is a faint line one pixel wide.
        strength = opacity * min(1.0, thickness / width)
        alpha = (mask.astype(np.float32) * np.float32(strength / 255))[..., None]
        target = self.image[y0:y1, x0:x1]
        target += alpha * (np.asarray(colour, np.float32) - target)
        if layer is not None:
            self._own(layer, region, mask > 127)

    def visible(self, item: int) -> BoolArray:
        """(H, W) where ``item`` is what one sees."""
        owned = np.array([layer.item == item for layer in self.layers])
        return np.asarray(owned[self.owner])

    def _own(self, layer: Layer, region: tuple[int, int, int, int], mask: BoolArray) -> None:
        if layer not in self.layers:
            self.layers.append(layer)
        x0, y0, x1, y1 = region
        self.owner[y0:y1, x0:x1][mask] = self.layers.index(layer)
        if layer.item is not None:
            whole = self.silhouettes.setdefault(layer.item, np.zeros(self.size, np.bool_))
            whole[y0:y1, x0:x1] |= mask

    def _region(
        self, polygons: Sequence[FloatArray], discs: Sequence[tuple[float, float, float]]
    ) -> tuple[int, int, int, int] | None:
        corners = [*polygons, *(np.array([[x - r, y - r], [x + r, y + r]]) for x, y, r in discs)]
        if not corners:
            return None
        points = np.concatenate(corners)
        height, width = self.size
        low, high = np.floor(points.min(0)) - 1, np.ceil(points.max(0)) + 2
        x0, y0 = (int(v) for v in np.maximum(low, 0))
        x1, y1 = (int(v) for v in np.minimum(high, (width, height)))
        return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def _fixed(points: FloatArray, x0: int, y0: int) -> npt.NDArray[np.int32]:
    """Fixed-point coordinates for OpenCV, far points drawn in to what it can hold."""
    return np.round(np.clip(points - [x0, y0], -16_000, 16_000) * 2**_SHIFT).astype(np.int32)


def _fill(
    region: tuple[int, int, int, int],
    polygons: Sequence[FloatArray],
    discs: Sequence[tuple[float, float, float]],
) -> npt.NDArray[np.uint8]:
    x0, y0, x1, y1 = region
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    for polygon in polygons:
        cv2.fillPoly(mask, [_fixed(polygon, x0, y0)], 255, cv2.LINE_AA, _SHIFT)
    for x, y, radius in discs:
        centre = _fixed(np.array([[x, y]]), x0, y0)[0]
        cv2.circle(mask, centre.tolist(), round(radius * 2**_SHIFT), 255, -1, cv2.LINE_AA, _SHIFT)
    return mask


def _rounding(mask: npt.NDArray[np.uint8], strength: float) -> Any:
    """Cloth is darker where it turns away: towards the edge of its silhouette."""
    size = max(3, min(mask.shape) // 5)
    blurred = cv2.blur(mask, (size, size)).astype(np.float32) / np.float32(255)
    return (1 - np.float32(strength) * (1 - np.clip(blurred * 1.15, 0, 1)))[..., None]
