"""A picture to draw on, with OpenCV.

Coordinates are those of the original image, continuous (the centre of pixel 0 is 0.5), whatever
the scale of the output. Colours are red, green, blue in [0, 1], or names.
"""

import itertools
import os
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ImageColor

Array = npt.NDArray[Any]
#: Three floats in [0, 1], a CSS name, "#rrggbb", or one of matplotlib's letters such as "g".
Color = Sequence[float] | Array | str

_LETTERS = {
    "b": (0.0, 0.0, 1.0),
    "g": (0.0, 0.5, 0.0),
    "r": (1.0, 0.0, 0.0),
    "c": (0.0, 0.75, 0.75),
    "m": (0.75, 0.0, 0.75),
    "y": (0.75, 0.75, 0.0),
    "k": (0.0, 0.0, 0.0),
    "w": (1.0, 1.0, 1.0),
}
#: Lengths drawn and left out in turn, in line widths.
_DASHES = {"-": None, "--": (3.7, 1.6), ":": (1.0, 1.65), "-.": (6.4, 1.6)}
_FONT = cv2.FONT_HERSHEY_SIMPLEX
#: OpenCV's fixed point numbers: bits after the point.
_SHIFT = 4


def to_rgb(color: Color) -> tuple[float, float, float]:
    """Any accepted colour as red, green, blue in [0, 1].

    Raises:
        ValueError: not a colour.
    """
    if isinstance(color, str):
        if color in _LETTERS:
            return _LETTERS[color]
        red, green, blue = ImageColor.getrgb(color)[:3]
        return red / 255, green / 255, blue / 255
    values = [float(v) for v in color]
    if len(values) not in (3, 4) or not all(0 <= v <= 1 for v in values):
        raise ValueError(f"expected red, green, blue in [0, 1] or a colour's name, got {color!r}")
    return values[0], values[1], values[2]


class VisImage:
    """An image and the drawing over it.

    Args:
        img: (H, W, 3) RGB, values 0 to 255.
        scale: size of the output over that of ``img``.
    """

    def __init__(self, img: Array, scale: float = 1.0) -> None:
        if img.ndim != 3 or img.shape[2] != 3:
            raise ValueError(f"expected an RGB image (H, W, 3), got {img.shape}")
        self.scale = scale
        self.reset_image(img)

    def reset_image(self, img: Array) -> None:
        """Begin anew on ``img``, in the same scale."""
        self.img = img
        self.height, self.width = img.shape[:2]
        pixels = np.clip(img, 0, 255).astype(np.uint8)
        self._canvas: npt.NDArray[np.uint8]
        if self.scale == 1:
            self._canvas = pixels.copy()
            return
        size = [max(1, int(side * self.scale + 1e-2)) for side in (self.width, self.height)]
        self._canvas = cv2.resize(pixels, size).astype(np.uint8, copy=False)

    def get_image(self) -> npt.NDArray[np.uint8]:
        """(H * scale, W * scale, 3) RGB uint8."""
        return self._canvas

    def save(self, filepath: str | os.PathLike[str]) -> None:
        """Write the picture to a file, in the format of its extension.

        Raises:
            ValueError: OpenCV cannot write such a file, or not there.
        """
        path = os.fspath(filepath)
        try:
            written = cv2.imwrite(path, self._canvas[:, :, ::-1])
        except cv2.error as error:
            raise ValueError(f"cannot write an image to {path}: {error}") from error
        if not written:
            raise ValueError(f"cannot write an image to {path}: is there such a folder?")

    def fill(self, polygons: Sequence[Array], color: Color, alpha: float) -> None:
        """Fill what lies inside an odd number of polygons, (n, 2) each."""
        points = [self._pixels(p) for p in polygons]
        self._draw(points, 1, color, alpha, lambda layer, at: _fill(layer, at(points)))

    def line(
        self,
        points: Array,
        color: Color,
        width: float,
        *,
        alpha: float = 1.0,
        style: str = "-",
        closed: bool = False,
    ) -> None:
        """Join (n, 2) points by lines of ``width`` output pixels; ``style`` as matplotlib's."""
        if style not in _DASHES:
            raise ValueError(f"expected a line style out of {list(_DASHES)}, got {style!r}")
        thick = max(1, round(width))
        track = self._pixels(points)
        if closed:
            track = np.concatenate([track, track[:1]])
        pattern = _DASHES[style]
        tracks = [track] if pattern is None else _dashes(track, pattern, thick)
        self._draw(
            tracks, thick + 1, color, alpha, lambda layer, at: _stroke(layer, at(tracks), thick)
        )

    def circle(
        self, center: Sequence[float], radius: float, color: Color, alpha: float = 1.0
    ) -> None:
        """A filled circle; ``radius`` in output pixels."""
        point = [self._pixels(np.array([center], dtype=np.float64))]

        def draw(layer: Array, at: Callable[[list[Array]], list[Array]]) -> None:
            x, y = at(point)[0][0].tolist()
            cv2.circle(layer, (x, y), round(radius * 2**_SHIFT), 255, -1, cv2.LINE_AA, _SHIFT)

        self._draw(point, radius + 2, color, alpha, draw)

    def shade(self, coverage: Array, color: Color, alpha: float) -> None:
        """Lay a colour over the image where (H, W) ``coverage`` says: 0 or 1 if its numbers are
        whole, else any share in between."""
        size = (self._canvas.shape[1], self._canvas.shape[0])
        soft = np.issubdtype(coverage.dtype, np.floating)
        layer: Array = (np.clip(coverage, 0, 1) * 255).astype(np.uint8)
        layer = cv2.resize(
            layer, size, interpolation=cv2.INTER_LINEAR if soft else cv2.INTER_NEAREST
        )
        if layer.any():
            x, y, w, h = cv2.boundingRect(layer)
            self._blend(layer[y : y + h, x : x + w], x, y, color, alpha)

    def text(
        self,
        text: str,
        position: Sequence[float],
        size: float,
        color: Color,
        *,
        alignment: str = "center",
        rotation: float = 0,
    ) -> None:
        """Write on a dark label.

        Args:
            text: one line.
            position: x, y of the label's upper edge: its middle, left or right end.
            size: height in output pixels.
            color: of the letters.
            alignment: "left", "center" or "right".
            rotation: in degrees, against the clock, about the label's centre.
        """
        shares = {"left": 0.0, "center": 0.5, "right": 1.0}
        if alignment not in shares:
            raise ValueError(f"expected alignment out of {list(shares)}, got {alignment!r}")
        letters, label = _label(text, size)
        (x, y), (height, width) = self._pixels(np.array([position]))[0], label.shape
        left, top = x - shares[alignment] * width, y
        if rotation % 360:
            letters, label = (_rotate(layer, rotation) for layer in (letters, label))
            left, top = left - (label.shape[1] - width) / 2, top - (label.shape[0] - height) / 2
        for layer, paint, alpha in ((label, "k", 0.8), (letters, color, 1.0)):
            self._blend(*self._clipped(layer, round(left), round(top)), paint, alpha)

    def _pixels(self, points: Array) -> Array:
        """(n, 2) image coordinates as OpenCV's output pixels, whose centres are whole numbers."""
        return np.asarray(points, dtype=np.float64).reshape(-1, 2) * self.scale - 0.5

    def _draw(
        self,
        tracks: list[Array],
        margin: float,
        color: Color,
        alpha: float,
        draw: Callable[[Array, Callable[[list[Array]], list[Array]]], None],
    ) -> None:
        """Let ``draw`` cover a layer as small as the tracks need, and blend it in."""
        points = np.concatenate([np.zeros((0, 2)), *tracks])
        if not len(points) or not np.isfinite(points).all():
            # What has no place cannot be seen.
            return
        limit = np.array(self._canvas.shape[1::-1])
        low = np.clip(np.floor(points.min(axis=0) - margin), 0, limit).astype(int)
        high = np.clip(np.ceil(points.max(axis=0) + margin) + 1, 0, limit).astype(int)
        if (high <= low).any():
            return
        layer = np.zeros((high[1] - low[1], high[0] - low[0]), dtype=np.uint8)

        def at(tracks: list[Array]) -> list[Array]:
            bounded = [np.clip(t - low, -1e6, 1e6) for t in tracks]
            return [np.round(t * 2**_SHIFT).astype(np.int32) for t in bounded]

        draw(layer, at)
        self._blend(layer, low[0], low[1], color, alpha)

    def _clipped(self, layer: Array, x: int, y: int) -> tuple[Array, int, int]:
        """The part of a layer that lies on the canvas, and where."""
        height, width = self._canvas.shape[:2]
        layer = layer[max(0, -y) : max(0, height - y), max(0, -x) : max(0, width - x)]
        return layer, max(0, x), max(0, y)

    def _blend(self, layer: Array, x: int, y: int, color: Color, alpha: float) -> None:
        region = self._canvas[y : y + layer.shape[0], x : x + layer.shape[1]]
        share = layer[..., None].astype(np.float32) * (min(max(alpha, 0.0), 1.0) / 255)
        paint = np.array(to_rgb(color), dtype=np.float32) * 255
        region[:] = (region * (1 - share) + paint * share + 0.5).astype(np.uint8)


def _fill(layer: Array, polygons: list[Array]) -> None:
    cv2.fillPoly(layer, polygons, 255, cv2.LINE_AA, _SHIFT)


def _stroke(layer: Array, tracks: list[Array], width: int) -> None:
    cv2.polylines(layer, tracks, False, 255, width, cv2.LINE_AA, _SHIFT)


def _dashes(track: Array, pattern: Sequence[float], width: int) -> list[Array]:
    """Cut every piece of a track into (2, 2) dashes."""
    # A stroke's round ends reach half its width beyond, its soft edge half a pixel more.
    on, period = max(pattern[0] * width - width - 1, 0), sum(pattern) * width
    dashes = []
    for start, end in itertools.pairwise(track):
        length = float(np.linalg.norm(end - start))
        for distance in np.arange(0, length, period):
            ends = np.array([[distance], [min(distance + on, length)]]) / length
            dashes.append(start + ends * (end - start))
    return dashes


def _label(text: str, size: float) -> tuple[Array, Array]:
    """Coverage of the letters and of the label around them, of equal shape."""
    thick = max(1, round(size / 14))
    scale = cv2.getFontScaleFromHeight(_FONT, max(1, round(size * 0.75)), thick)
    (width, height), below = cv2.getTextSize(text, _FONT, scale, thick)
    pad = max(1, round(size / 8))
    letters = np.zeros((height + below + 2 * pad, width + 2 * pad), dtype=np.uint8)
    cv2.putText(letters, text, (pad, pad + height), _FONT, scale, 255, thick, cv2.LINE_AA)
    return letters, np.full_like(letters, 255)


def _rotate(layer: Array, degrees: float) -> Array:
    height, width = layer.shape
    matrix: Array = np.array(
        cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    )
    extent = np.abs(matrix[:, :2]) @ (width, height)
    size = np.ceil(extent).astype(int)
    matrix[:, 2] += (size - (width, height)) / 2
    return np.asarray(cv2.warpAffine(layer, matrix, size.tolist()))
