"""DeepFashion2 annotations of a drawn picture, all of them computed from what was drawn.

Shapes: ``H``, ``W`` the picture; ``n`` landmarks of a category.

The four variations (docs/deepfashion2.md names the levels; the paper gives no formulas):

- ``scale``: area of the visible box / area of the picture; below 0.10 small, from 0.40 large.
- ``occlusion``: share of the silhouette inside the picture that something covers; from 0.15
  medium, from 0.45 heavy.
- ``zoom_in``: share of the landmarks outside the picture; from 0.05 medium, from 0.50 large.
- ``viewpoint``: 1 not worn, 3 seen from behind or turned by more than 0.6 rad, else 2.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from match_rcnn.data import taxonomy
from match_rcnn.data.synthetic.body import Pose
from match_rcnn.data.synthetic.canvas import Canvas
from match_rcnn.data.synthetic.curves import BoolArray
from match_rcnn.data.synthetic.figure import Figure
from match_rcnn.data.synthetic.shapes import Shape
from match_rcnn.data.synthetic.tailor import Garment

SCALE_BOUNDS = (0.10, 0.40)
OCCLUSION_BOUNDS = (0.15, 0.45)
ZOOM_BOUNDS = (0.05, 0.50)
_TURNED = 0.6
#: An item that shows less than this share of itself, of the picture, or that has fewer of its
#: landmarks in the picture, is not annotated: nobody could tell what it is.
_LEAST_SHARE, _LEAST_AREA, _LEAST_LANDMARKS = 0.27, 0.004, 0.33


def annotate(canvas: Canvas, figures: Sequence[Figure]) -> dict[str, Any]:
    """``{"item1": ..., ...}`` of every garment that can be seen, the main one first."""
    found = []
    for figure in figures:
        shapes = figure.shapes()
        for garment in (figure.inner, figure.lower, figure.outer):
            if garment is not None:
                item = _item(canvas, figure, garment, shapes[garment.item])
                if item is not None:
                    found.append((garment.item, item))
    found.sort(key=lambda entry: entry[0])
    return {f"item{i}": item for i, (_, item) in enumerate(found, start=1)}


def _item(canvas: Canvas, figure: Figure, garment: Garment, shape: Shape) -> dict[str, Any] | None:
    silhouette = canvas.silhouettes.get(garment.item)
    if silhouette is None:
        return None
    visible = canvas.visible(garment.item)
    area, whole = int(visible.sum()), int(silhouette.sum())
    if area < max(24, _LEAST_AREA * visible.size) or area < _LEAST_SHARE * whole:
        return None
    polygons = mask_polygons(visible)
    if not polygons:
        return None
    box = polygon_box(polygons)
    landmarks = _landmarks(canvas, figure, garment, shape)
    outside = float((landmarks[:, 2] == 0).mean())
    if outside > 1 - _LEAST_LANDMARKS:
        return None
    box_area = (box[2] - box[0]) * (box[3] - box[1]) / visible.size
    return {
        "segmentation": polygons,
        "scale": level(box_area, SCALE_BOUNDS),
        "viewpoint": viewpoint(figure.pose),
        "zoom_in": level(outside, ZOOM_BOUNDS),
        "landmarks": landmarks.reshape(-1).tolist(),
        "style": garment.style,
        "bounding_box": box,
        "category_id": garment.category_id,
        "occlusion": level(1 - area / max(whole, 1), OCCLUSION_BOUNDS),
        "category_name": taxonomy.DEEPFASHION2.category(garment.category_id).name,
    }


def level(value: float, bounds: tuple[float, float]) -> int:
    """1, 2 or 3: ``value`` below, between (lower bound included), or from the upper bound on."""
    return 1 + int(value >= bounds[0]) + int(value >= bounds[1])


def viewpoint(pose: Pose) -> int:
    """The annotation's ``viewpoint`` of a pose."""
    if not pose.worn:
        return 1
    return 3 if pose.back or abs(pose.yaw) > _TURNED else 2


def _landmarks(
    canvas: Canvas, figure: Figure, garment: Garment, shape: Shape
) -> npt.NDArray[np.int64]:
    """(n, 3) pixel x, y and v; zeros outside the picture."""
    height, width = canvas.size
    pixels = np.round(figure.camera.pixels(shape.landmarks)).astype(np.int64)
    inside = ((pixels >= 0) & (pixels < [width, height])).all(axis=1)
    result = np.zeros((len(pixels), 3), np.int64)
    radius = max(1, round(0.006 * max(canvas.size)))
    for i in np.flatnonzero(inside):
        shown = int(i) not in shape.hidden and shows(
            canvas, garment.item, parts_of(shape, int(i)), pixels[i], radius
        )
        result[i] = (*pixels[i], 2 if shown else 1)
    return result


def parts_of(shape: Shape, landmark: int) -> set[str]:
    """The names of the parts that a landmark lies on."""
    parts = {name for name, part in shape.parts.items() if landmark in part.landmarks}
    if any(landmark in strap.landmarks for strap in shape.straps):
        parts.add("strap")
    return parts


def shows(
    canvas: Canvas, item: int, parts: set[str], pixel: npt.NDArray[np.int64], radius: int
) -> bool:
    """Whether one of an item's ``parts`` is what one sees within ``radius`` of ``pixel``."""
    x, y = pixel
    window = canvas.owner[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1]
    layers = (canvas.layers[index] for index in np.unique(window))
    return any(layer.item == item and layer.part in parts for layer in layers)


def mask_polygons(mask: BoolArray) -> list[list[int]]:
    """Polygons of a mask (H, W) on the pixels' edges: [x1, y1, x2, y2, ...] each.

    DeepFashion2's polygons have no holes, so a piece with a hole in it is cut in two through
    the hole.
    """
    least = max(6.0, 0.004 * float(mask.sum()))
    tolerance = 0.9 + max(mask.shape) / 512
    # At twice the size a contour runs a quarter pixel inside the edge and rounds onto it.
    doubled = cv2.resize(mask.astype(np.uint8), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    polygons = []
    for contour in _outer_contours(doubled, least * 4, depth=6):
        simple = cv2.approxPolyDP(contour, tolerance, True)[:, 0].astype(float)
        points = np.round(simple / 2 + 0.25).astype(np.int64)
        points = points[np.any(points != np.roll(points, 1, axis=0), axis=1)]
        if len(points) >= 3:
            polygons.append(points.reshape(-1).tolist())
    return polygons


def _outer_contours(mask: npt.NDArray[Any], least: float, depth: int) -> list[Any]:
    contours, hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if hierarchy is None:
        return []
    holes = [
        contour
        for contour, (_, _, _, parent) in zip(contours, hierarchy[0], strict=True)
        if parent >= 0 and cv2.contourArea(contour) >= least
    ]
    if holes and depth:
        largest = max(holes, key=cv2.contourArea)
        cut = int(largest[:, 0, 0].mean())
        left, right = mask.copy(), mask.copy()
        left[:, cut:], right[:, :cut] = 0, 0
        return [c for half in (left, right) for c in _outer_contours(half, least, depth - 1)]
    return [
        contour
        for contour, (_, _, _, parent) in zip(contours, hierarchy[0], strict=True)
        if parent < 0 and cv2.contourArea(contour) >= least
    ]


def polygon_box(polygons: Sequence[Sequence[int]]) -> list[int]:
    """[x1, y1, x2, y2] that holds all ``polygons``."""
    points = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in polygons])
    return [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]
