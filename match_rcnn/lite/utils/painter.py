"""Shapes and text over an image.

Coordinates and colours are those of :mod:`vis_image`; sizes of letters, dots and lines are before
the output's scale.
"""

import colorsys
import math
from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np

from .colormap import random_color
from .generic_mask import GenericMask
from .vis_image import Array, Color, VisImage, to_rgb

OPACITY = 0.5


class Painter:
    """The primitives of drawing; every method gives the drawing so far.

    Args:
        img_rgb: (H, W, 3) RGB, 0 to 255.
        scale: size of the output over that of the image.
        font_size_scale: times the usual size of the letters.
    """

    def __init__(self, img_rgb: Array, scale: float = 1.0, font_size_scale: float = 1.0) -> None:
        self.img = np.asarray(img_rgb).clip(0, 255).astype(np.uint8)
        self.output = VisImage(self.img, scale=scale)
        size = math.sqrt(self.output.height * self.output.width)
        self._default_font_size = max(size // 90, 10 // scale) * font_size_scale

    def get_output(self) -> VisImage:
        """The drawing; ``get_image()`` and ``save(path)`` are its ways out."""
        return self.output

    def draw_text(
        self,
        text: str,
        position: Sequence[float],
        *,
        font_size: float | None = None,
        color: Color = "g",
        horizontal_alignment: str = "center",
        rotation: float = 0,
    ) -> VisImage:
        """Write a line of text.

        Args:
            text: what to write.
            position: x, y of the label's upper edge: the end or middle that the alignment says.
            font_size: before the output's scale; None takes one that fits the image.
            color: made lighter if it is too dark to be read.
            horizontal_alignment: "left", "center" or "right".
            rotation: in degrees, against the clock.
        """
        size = (font_size or self._default_font_size) * self.output.scale
        rgb = np.maximum(to_rgb(color), 0.2)
        rgb[np.argmax(rgb)] = max(0.8, np.max(rgb))
        # In points of which matplotlib makes 1.4 pixels at its usual 100 per inch; the label is
        # higher than its letters.
        self.output.text(
            text, position, size * 1.9, rgb, alignment=horizontal_alignment, rotation=rotation
        )
        return self.output

    def draw_box(
        self,
        box_coord: Iterable[float],
        alpha: float = OPACITY,
        edge_color: Color = "g",
        line_style: str = "-",
    ) -> VisImage:
        """Draw the outline of the box x0, y0, x1, y1."""
        x0, y0, x1, y1 = (float(v) for v in box_coord)
        corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
        width = max(self._default_font_size / 4, 1) * self.output.scale
        self.output.line(corners, edge_color, width, alpha=alpha, style=line_style, closed=True)
        return self.output

    def draw_circle(
        self, circle_coord: Sequence[float], color: Color, radius: float = 3
    ) -> VisImage:
        """Draw a dot of ``radius`` (before the output's scale) at x, y."""
        self.output.circle(circle_coord, radius * self.output.scale, color)
        return self.output

    def draw_line(
        self,
        x_data: Sequence[float],
        y_data: Sequence[float],
        color: Color,
        linestyle: str = "-",
        linewidth: float | None = None,
    ) -> VisImage:
        """Join the points (x_data[i], y_data[i])."""
        width = max(linewidth or self._default_font_size / 3, 1) * self.output.scale
        self.output.line(np.stack([x_data, y_data], axis=1), color, width, style=linestyle)
        return self.output

    def draw_polygon(
        self,
        segment: Any,
        color: Color,
        edge_color: Color | None = None,
        alpha: float = OPACITY,
    ) -> VisImage:
        """Fill a polygon, (n, 2) or flat, and draw its outline, by default darker where the
        filling is opaque."""
        points = np.asarray(segment, dtype=np.float64).reshape(-1, 2)
        self.output.fill([points], color, alpha)
        edge_color = self._edge_color(color, alpha) if edge_color is None else edge_color
        self.output.line(points, edge_color, self._edge_width(), closed=True)
        return self.output

    def draw_binary_mask(
        self,
        binary_mask: Any,
        color: Color | None = None,
        *,
        edge_color: Color | None = None,
        text: str | None = None,
        alpha: float = OPACITY,
        area_threshold: float = 10,
    ) -> VisImage:
        """Lay a colour over a mask.

        Args:
            binary_mask: (H, W); anything but 0 is foreground.
            color: at random if None.
            edge_color: of the outline; if None, as in ``draw_polygon``, and none for a mask with
                holes.
            text: written into the mask.
            alpha: opacity.
            area_threshold: connected parts of fewer pixels are left out.
        """
        color = random_color(rgb=True, maximum=1) if color is None else color
        mask = _large_parts(np.asarray(binary_mask).astype(np.uint8), area_threshold)
        if not mask.any():
            return self.output
        shape = GenericMask(mask, *mask.shape)
        self.output.shade(mask, color, alpha)
        if edge_color is None and not shape.has_holes:
            edge_color = self._edge_color(color, alpha)
        if edge_color is not None:
            for polygon in shape.polygons:
                outline = polygon.reshape(-1, 2)
                self.output.line(outline, edge_color, self._edge_width(), closed=True)
        if text is not None:
            self._draw_text_in_mask(mask, text, self._change_color_brightness(color, 0.7))
        return self.output

    def draw_soft_mask(
        self,
        soft_mask: Any,
        color: Color | None = None,
        *,
        text: str | None = None,
        alpha: float = OPACITY,
    ) -> VisImage:
        """Lay a colour over the image, as strongly as (H, W) ``soft_mask`` in [0, 1] says."""
        color = random_color(rgb=True, maximum=1) if color is None else color
        coverage = np.asarray(soft_mask)
        self.output.shade(coverage, color, alpha)
        if text is not None:
            lighter = self._change_color_brightness(color, 0.7)
            self._draw_text_in_mask((coverage > 0.5).astype(np.uint8), text, lighter)
        return self.output

    def _edge_color(self, color: Color, alpha: float) -> Color:
        return self._change_color_brightness(color, -0.7) if alpha > 0.8 else color

    def _edge_width(self) -> float:
        return max(self._default_font_size // 15 * self.output.scale, 1)

    def _draw_text_in_mask(self, mask: Array, text: str, color: Color) -> None:
        """In the middle of the largest connected part."""
        count, parts, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        if count > 1:
            largest = int(np.argmax(stats[1:, cv2.CC_STAT_AREA])) + 1
            y, x = np.median(np.nonzero(parts == largest), axis=1)
            self.draw_text(text, (x, y), color=color)

    def _change_color_brightness(
        self, color: Color, brightness_factor: float
    ) -> tuple[float, float, float]:
        """The colour with its lightness changed by that share, in [-1, 1]."""
        if not -1 <= brightness_factor <= 1:
            raise ValueError(f"expected a factor in [-1, 1], got {brightness_factor}")
        hue, light, saturation = colorsys.rgb_to_hls(*to_rgb(color))
        light = min(max(light * (1 + brightness_factor), 0.0), 1.0)
        return to_rgb(np.clip(colorsys.hls_to_rgb(hue, light, saturation), 0, 1))


def _large_parts(mask: Array, least: float) -> Array:
    """A mask without its connected parts of fewer than ``least`` pixels."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats(
        (mask > 0).astype(np.uint8), connectivity=8
    )
    keep = stats[:, cv2.CC_STAT_AREA] >= least
    keep[0] = False
    return keep[parts].astype(np.uint8)
