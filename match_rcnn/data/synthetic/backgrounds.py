"""What stands behind: studio grounds for shops, rooms, streets and clutter for consumers."""

from typing import Any

import cv2
import numpy as np

from match_rcnn.data.synthetic.canvas import Canvas
from match_rcnn.data.synthetic.curves import FloatArray
from match_rcnn.data.synthetic.looks import random_colour
from match_rcnn.data.synthetic.textures import random_print, weights


def draw_background(canvas: Canvas, rng: np.random.Generator, shop: bool, flat: bool) -> None:
    """Draw a ground over the whole canvas."""
    if shop:
        _studio(canvas, rng)
        return
    if flat:
        _surface(canvas, rng)
    elif rng.random() < 0.6:
        _room(canvas, rng)
    else:
        _street(canvas, rng)
    _set_back(canvas, rng)


def _set_back(canvas: Canvas, rng: np.random.Generator) -> None:
    """Out of focus and paler than what the photo is of."""
    sigma = float(rng.uniform(0.002, 0.012) * max(canvas.size))
    contrast = np.float32(rng.uniform(0.45, 0.85))
    blurred = cv2.GaussianBlur(canvas.image, (0, 0), sigma)
    tone = blurred.mean(axis=(0, 1))
    canvas.image[:] = tone + (blurred - tone) * contrast


def rectangle(x0: float, y0: float, x1: float, y1: float) -> FloatArray:
    """(4, 2) corners."""
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=float)


def _whole(canvas: Canvas) -> FloatArray:
    height, width = canvas.size
    return rectangle(-2, -2, width + 2, height + 2)


def _gradient(canvas: Canvas, top: Any, bottom: Any) -> None:
    height, _ = canvas.size
    t = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    canvas.image[:] = np.asarray(top, np.float32) * (1 - t) + np.asarray(bottom, np.float32) * t


def _studio(canvas: Canvas, rng: np.random.Generator) -> None:
    height, width = canvas.size
    kind = rng.random()
    tone = np.array([rng.uniform(205, 250)] * 3) + rng.normal(0, 5, 3)
    if kind < 0.35:
        tone = np.array([252.0, 252.0, 252.0])
    elif kind < 0.5:
        tone = np.array(random_colour(rng)) * 0.5 + 118
    _gradient(canvas, tone, tone * rng.uniform(0.88, 1.0))
    if rng.random() < 0.3:
        edge = rng.uniform(0.75, 0.95) * height
        canvas.paint([rectangle(-2, edge, width + 2, height + 2)], tone * 0.9)


def _textured(canvas: Canvas, outline: FloatArray, rng: np.random.Generator, soft: float) -> None:
    """A patterned surface: wallpaper, rug, bedspread; as busy as clothes are."""
    cloth = random_print(rng)
    one, two = (np.array(random_colour(rng), np.float32) for _ in range(2))
    two = one + (two - one) * np.float32(rng.uniform(0.15, 0.7))
    size = max(canvas.size) / np.float32(rng.uniform(1.5, 3.0))

    def colours(x: Any, y: Any) -> Any:
        second, _ = weights(cloth, x / size, y / size, 1.5 / float(size))
        return one + second[..., None] * (two - one)

    canvas.paint([outline], colours, opacity=soft)


def _surface(canvas: Canvas, rng: np.random.Generator) -> None:
    """Seen from above: a bed, a floor, a table."""
    tone = np.array(random_colour(rng)) * 0.7 + 50
    _gradient(canvas, tone, tone * rng.uniform(0.8, 1.0))
    if rng.random() < 0.6:
        _textured(canvas, _whole(canvas), rng, 0.8)
    height, width = canvas.size
    for _ in range(int(rng.integers(0, 4))):
        _blob(canvas, rng, rng.uniform(0, width), rng.uniform(0, height), max(canvas.size) * 0.12)


def _room(canvas: Canvas, rng: np.random.Generator) -> None:
    height, width = canvas.size
    wall = np.array(random_colour(rng)) * 0.6 + 80
    _gradient(canvas, wall * rng.uniform(0.85, 1.05), wall)
    if rng.random() < 0.3:
        _textured(canvas, _whole(canvas), rng, 0.6)
    floor = rng.uniform(0.6, 0.95) * height
    outline = rectangle(-2, floor, width + 2, height + 2)
    canvas.paint([outline], np.array(random_colour(rng)) * 0.7)
    if rng.random() < 0.5:
        _textured(canvas, outline, rng, 0.7)
    for _ in range(int(rng.integers(1, 5))):
        _furniture(canvas, rng, floor)
    if rng.random() < 0.3:
        _rack(canvas, rng)


def _furniture(canvas: Canvas, rng: np.random.Generator, floor: float) -> None:
    """A door, window, mirror, shelf or cupboard."""
    height, width = canvas.size
    x, w = rng.uniform(-0.1, 1.0) * width, rng.uniform(0.1, 0.4) * width
    bottom = floor if rng.random() < 0.6 else rng.uniform(0.2, 0.7) * height
    top = bottom - rng.uniform(0.15, 0.6) * height
    colour = np.array(random_colour(rng))
    outline = rectangle(x, top, x + w, bottom)
    canvas.paint([outline], colour)
    canvas.stroke([outline], 2, colour * 0.6, closed=True)
    for i in range(int(rng.integers(0, 4))):
        y = top + (bottom - top) * (i + 1) / 5
        canvas.stroke([np.array([[x, y], [x + w, y]])], 2, colour * 0.7)


def _rack(canvas: Canvas, rng: np.random.Generator) -> None:
    """Hanging cloth: the colours of clothes in shapes that are none of the thirteen."""
    height, width = canvas.size
    x = rng.uniform(-0.2, 0.7) * width
    y0 = rng.uniform(0.05, 0.3) * height
    for _ in range(int(rng.integers(3, 8))):
        w = rng.uniform(0.03, 0.08) * width
        outline = rectangle(x, y0, x + w, y0 + rng.uniform(0.25, 0.5) * height)
        canvas.paint([outline], random_colour(rng), rounded=0.5)
        x += w


def _street(canvas: Canvas, rng: np.random.Generator) -> None:
    height, width = canvas.size
    sky = np.add(rng.uniform(150, 230), [0.0, 8.0, 20.0])
    _gradient(canvas, sky, sky * 0.9)
    ground = rng.uniform(0.6, 0.9) * height
    x = -0.1 * width
    while x < width:
        w = rng.uniform(0.15, 0.45) * width
        _building(canvas, rng, x, w, ground)
        x += w
    tone = np.array([rng.uniform(90, 170)] * 3)
    canvas.paint([rectangle(-2, ground, width + 2, height + 2)], tone)
    for _ in range(int(rng.integers(0, 5))):
        x, size = rng.uniform(0, width), rng.uniform(0.06, 0.2) * max(canvas.size)
        green = (rng.uniform(30, 90), rng.uniform(80, 150), rng.uniform(30, 80))
        _blob(canvas, rng, x, ground - size * rng.uniform(0, 2), size, green)


def _building(
    canvas: Canvas, rng: np.random.Generator, x: float, width: float, ground: float
) -> None:
    top = rng.uniform(-0.1, 0.4) * ground
    colour = np.array(random_colour(rng)) * 0.6 + 60
    canvas.paint([rectangle(x, top, x + width, ground)], colour)
    columns, rows = int(rng.integers(2, 5)), int(rng.integers(3, 7))
    w, h = width / columns, (ground - top) / rows
    panes = [
        rectangle(x + (i + 0.2) * w, top + (j + 0.2) * h, x + (i + 0.8) * w, top + (j + 0.75) * h)
        for i in range(columns)
        for j in range(rows)
    ]
    canvas.paint(panes, colour * rng.uniform(0.4, 0.8))


def _blob(
    canvas: Canvas,
    rng: np.random.Generator,
    x: float,
    y: float,
    size: float,
    colour: Any = None,
) -> None:
    t = np.linspace(0, 2 * np.pi, 18, endpoint=False)
    radius = size * (1 + 0.25 * rng.normal(0, 1, 18).cumsum() / 4)
    outline = np.stack([x + radius * np.cos(t), y + radius * np.sin(t)], axis=1)
    canvas.paint([outline], random_colour(rng) if colour is None else colour, rounded=0.3)
