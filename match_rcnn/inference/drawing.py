"""Pictures of garments: mask, box, landmarks joined by the category's outline, name and score.

Coordinates are the photo's, in pixels: its upper left corner is (0, 0), a pixel's centre lies half
a pixel from its corners. Colours are BGR from 0 to 255, as OpenCV's, but for those that
:func:`color_of` gives out.
"""

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont

from match_rcnn.data.taxonomy import Category
from match_rcnn.structures import Garment
from match_rcnn.utils.arrays import Image

Bgr = tuple[float, float, float]

#: RGB in [0, 1], one a category: hues spread so that tops, bottoms and dresses differ at a glance.
PALETTE = (
    (0.90, 0.30, 0.25),
    (0.95, 0.55, 0.15),
    (0.80, 0.20, 0.55),
    (0.60, 0.25, 0.75),
    (0.95, 0.80, 0.20),
    (0.75, 0.65, 0.15),
    (0.20, 0.70, 0.75),
    (0.15, 0.50, 0.85),
    (0.25, 0.35, 0.75),
    (0.30, 0.75, 0.35),
    (0.15, 0.55, 0.30),
    (0.60, 0.80, 0.30),
    (0.45, 0.60, 0.15),
)

_ATTRIBUTES = 4  # that are named of a garment
_MASK_OPACITY, _LABEL_OPACITY = 0.35, 0.7
_OCCLUDED: Bgr = (25, 25, 25)
# OpenCV takes whole numbers: of sixteenths of a pixel.
_BITS = 4


def color_of(category: Category) -> tuple[float, float, float]:
    """A category's RGB in [0, 1]; of more categories than colours some share theirs."""
    return PALETTE[(category.id - 1) % len(PALETTE)]


def draw_garments(
    image: Image,
    garments: Sequence[Garment],
    landmark_threshold: float = 0.05,
    scale: float = 1.0,
) -> Image:
    """A picture of an image with garments drawn in, small ones above large ones; at the top of
    each box category and score, at its foot the attributes that score highest.

    Args:
        image: (H, W, 3) in BGR; it is left as it is.
        garments: in its pixels.
        landmark_threshold: predicted landmarks with a lower score are not drawn.
        scale: of the picture over the image; lines and letters fit the picture.

    Returns:
        (H * scale, W * scale, 3) in BGR.
    """
    picture = _resized(image, scale) if scale != 1 else image.copy()
    by_area = sorted(garments, key=lambda garment: -_area(garment.box))
    shown = [_scaled(garment, scale, picture.shape[:2]) for garment in by_area]
    for garment in shown:
        _draw_garment(picture, garment, landmark_threshold)
    for garment in shown:  # above all that could hide them
        score = "" if garment.score is None else f" {garment.score:.0%}"
        draw_label(picture, f"{garment.category.name}{score}", garment.box, _bgr(garment))
        if garment.attributes:
            below = garment.box[[0, 3]]
            draw_label(
                picture, ", ".join([*garment.attributes][:_ATTRIBUTES]), below, _bgr(garment)
            )
    return picture


def _draw_garment(picture: Image, garment: Garment, landmark_threshold: float) -> None:
    color, side = _bgr(garment), min(picture.shape[:2])
    width, radius = max(1, round(side / 300)), max(2.0, side / 130)
    if garment.mask is not None:
        blend_mask(picture, garment.mask, color, _MASK_OPACITY)
    x1, y1, x2, y2 = garment.box
    draw_lines(picture, [[(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)]], color, width)
    if garment.landmarks is None:
        return
    points, values = garment.landmarks[:, :2], garment.landmarks[:, 2]
    present = values > (0 if garment.score is None else landmark_threshold)
    edges = [e for e in garment.category.edges if present[list(e)].all()]
    draw_lines(picture, [points[list(edge)] for edge in edges], color, width)
    for point, value in zip(points[present], values[present], strict=True):
        occluded = garment.score is None and value == 1
        draw_dot(picture, point, _OCCLUDED if occluded else color, radius)


def blend_mask(picture: Image, mask: npt.NDArray[np.bool_], color: Bgr, opacity: float) -> None:
    """Lay a colour over the pixels of an (H, W) mask, and a line around them."""
    picture[mask] = np.round((1 - opacity) * picture[mask] + opacity * np.array(color))
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.polylines(picture, found, True, color, 1, cv2.LINE_AA)


def draw_lines(picture: Image, lines: Sequence[Any], color: Bgr, width: int) -> None:
    """Draw lines through points, each (n, 2) x and y."""
    tracks = [_fixed(line)[:, None] for line in lines]
    cv2.polylines(picture, tracks, False, color, width, cv2.LINE_AA, _BITS)


def draw_dot(picture: Image, point: Any, color: Bgr, radius: float) -> None:
    """Fill a circle around a point x, y."""
    ((x, y),) = _fixed([point]).tolist()
    cv2.circle(picture, (x, y), round(radius * 2**_BITS), color, cv2.FILLED, cv2.LINE_AA, _BITS)


def draw_label(picture: Image, text: str, box: Any, color: Bgr) -> None:
    """Write a line above the upper left corner of a box, or inside of it where the picture ends;
    light on dark, whatever is below."""
    height, width = picture.shape[:2]
    font = _font(max(11, round((height * width) ** 0.5 / 45)))
    pad = font.size / 5
    left, _, right, _ = font.getbbox(text)
    _, top, _, bottom = font.getbbox("Ág")  # every label of one height
    size = int(right - left + 2 * pad), int(bottom - top + 2 * pad)
    letters = PILImage.new("L", size)
    ImageDraw.Draw(letters).text((pad - left, pad - top), text, fill=255, font=font)
    x = int(np.clip(box[0], 0, max(0, width - size[0])))
    above = box[1] - size[1]
    y = int(np.clip(above if above >= 0 else box[1], 0, max(0, height - size[1])))
    part = picture[y : y + size[1], x : x + size[0]]
    coverage = np.asarray(letters, dtype=np.float64)[: part.shape[0], : part.shape[1], None] / 255
    bright = 0.5 * np.array(color) + 127.5
    part[:] = np.round((1 - _LABEL_OPACITY) * part * (1 - coverage) + bright * coverage)


@functools.lru_cache(maxsize=16)
def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def _fixed(points: Any) -> npt.NDArray[np.int32]:
    """(n, 2) points in OpenCV's numbers, in which a pixel's centre is (0, 0). Far beyond any
    picture they stay where they are, which keeps them from overflowing."""
    shifted = np.clip(np.asarray(points, dtype=np.float64) - 0.5, -1e5, 1e5)
    return np.round(shifted * 2**_BITS).astype(np.int32)


def _resized(image: Any, scale: float) -> Image:
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=method))


def _scaled(garment: Garment, scale: float, size: tuple[int, ...]) -> Garment:
    """The garment in a picture of ``size`` (height, width), ``scale`` times the image's."""
    points, mask = garment.landmarks, garment.mask
    if points is not None:
        points = points * np.array([scale, scale, 1], dtype=np.float32)
    if mask is not None and mask.shape != size:
        small = cv2.resize(mask.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST)
        mask = small.astype(bool)
    return replace(garment, box=garment.box * np.float32(scale), landmarks=points, mask=mask)


def _bgr(garment: Garment) -> Bgr:
    red, green, blue = color_of(garment.category)
    return (255 * blue, 255 * green, 255 * red)


def _area(box: npt.NDArray[np.float32]) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))
