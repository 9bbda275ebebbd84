"""Things before the clothes: bags, phones, hands, plants, people's backs, stickers."""

import numpy as np

from match_rcnn.data.synthetic.canvas import Canvas, Layer
from match_rcnn.data.synthetic.curves import FloatArray
from match_rcnn.data.synthetic.looks import random_colour

_LAYER = Layer(None, "occluder")


def draw_occluder(
    canvas: Canvas, rng: np.random.Generator, box: FloatArray, skin: tuple[float, ...], size: float
) -> None:
    """Put something before the garment in ``box`` (x1, y1, x2, y2 in pixels).

    Args:
        skin: colour of a hand that holds it.
        size: 1 for the usual size; shops have smaller ones.
    """
    height, width = canvas.size
    low = np.clip(box[:2], [0, 0], [width, height])
    high = np.clip(box[2:], [0, 0], [width, height])
    centre = low + rng.uniform(0.1, 0.9, 2) * (high - low)
    extent = size * float(np.clip(max(high - low), 8, max(canvas.size)))
    kinds = (_bag, _phone, _plant, _object, _sticker, _edge)
    kind = kinds[int(rng.choice(len(kinds), p=[0.26, 0.2, 0.14, 0.16, 0.1, 0.14]))]
    kind(canvas, rng, centre, extent, np.array(skin))


def _paint(canvas: Canvas, outline: FloatArray, colour: FloatArray) -> None:
    canvas.paint([outline], colour, _LAYER, rounded=0.25)
    canvas.stroke([outline], 1.2, colour * 0.5, closed=True, opacity=0.7)


def _turn(points: FloatArray, angle: float, centre: FloatArray) -> FloatArray:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.asarray(points @ np.array([[cos, sin], [-sin, cos]]) + centre)


def _box(width: float, height: float) -> FloatArray:
    return np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [width / 2, height / 2]


def _bag(
    canvas: Canvas, rng: np.random.Generator, centre: FloatArray, extent: float, _: FloatArray
) -> None:
    w, h = extent * rng.uniform(0.22, 0.45), extent * rng.uniform(0.2, 0.42)
    colour = np.array(random_colour(rng))
    body = np.array([[-0.85, -1], [0.85, -1], [1, 1], [-1, 1]]) * [w / 2, h / 2]
    side = rng.choice([-1.0, 1.0])
    ends = np.array([[-0.3 * w, -h / 2], [side * extent * 0.4, -extent * 1.1], [0.3 * w, -h / 2]])
    line = ends + centre
    canvas.stroke([line[:2], line[1:]], max(2.0, 0.02 * extent), colour * 0.8, _LAYER)
    _paint(canvas, _turn(body, float(rng.normal(0, 0.15)), centre), colour)


def _phone(
    canvas: Canvas, rng: np.random.Generator, centre: FloatArray, extent: float, skin: FloatArray
) -> None:
    w = extent * rng.uniform(0.1, 0.2)
    hand = np.stack([np.cos(np.linspace(0, 6.28, 20)), np.sin(np.linspace(0, 6.28, 20))], axis=1)
    drop = np.array([0.0, w * 0.8])
    away = np.array([rng.uniform(-0.6, 0.6), 1.0]) * extent
    arm = np.array([[-0.4 * w, 0], [0.4 * w, 0]])
    _paint(canvas, np.concatenate([arm + centre + drop, arm[::-1] + centre + away]), skin)
    _paint(canvas, hand * [w * 0.8, w * 0.65] + centre + drop, skin)
    colour = np.array([rng.uniform(15, 60)] * 3)
    _paint(canvas, _turn(_box(w, w * 2), float(rng.normal(0, 0.2)), centre), colour)


def _plant(
    canvas: Canvas, rng: np.random.Generator, centre: FloatArray, extent: float, _: FloatArray
) -> None:
    colour = np.array([rng.uniform(30, 90), rng.uniform(90, 160), rng.uniform(30, 80)])
    root = np.add(centre, (0.0, extent * 0.4))
    for _leaf in range(int(rng.integers(4, 9))):
        length, angle = extent * rng.uniform(0.25, 0.6), rng.uniform(-1.2, 1.2)
        leaf = np.array([[0, 0], [-0.14, -0.4], [0, -1], [0.14, -0.4]]) * length
        _paint(canvas, _turn(leaf, float(angle), root), colour * rng.uniform(0.7, 1.1))


def _object(
    canvas: Canvas, rng: np.random.Generator, centre: FloatArray, extent: float, _: FloatArray
) -> None:
    t = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    radius = 1 + 0.15 * rng.normal(0, 1, 16)
    shape = np.stack([np.cos(t) * rng.uniform(0.5, 1.3), np.sin(t)], axis=1) * radius[:, None]
    size = extent * rng.uniform(0.1, 0.3)
    _paint(canvas, shape * size + centre, np.array(random_colour(rng)))


def _sticker(
    canvas: Canvas, rng: np.random.Generator, centre: FloatArray, extent: float, _: FloatArray
) -> None:
    w, h = extent * rng.uniform(0.3, 0.7), extent * rng.uniform(0.06, 0.16)
    angle = float(rng.normal(0, 0.2))
    _paint(canvas, _turn(_box(w, h), angle, centre), np.array(random_colour(rng)))
    dark = np.array(random_colour(rng))
    for x in np.linspace(-0.42, 0.42, 7):
        letter = np.add(_box(w * 0.07, h * rng.uniform(0.3, 0.6)), (x * w, 0.0))
        canvas.paint([_turn(letter, angle, centre)], dark, _LAYER)


def _edge(
    canvas: Canvas, rng: np.random.Generator, centre: FloatArray, extent: float, _: FloatArray
) -> None:
    """Something large that reaches in from the picture's edge: a table, a door, a passer-by."""
    height, width = canvas.size
    colour = np.array(random_colour(rng)) * 0.8
    if rng.random() < 0.5:
        y = max(centre[1], rng.uniform(0.5, 0.85) * height)
        tilt = rng.normal(0, 0.03) * width
        outline = np.array(
            [[-4, y], [width + 4, y + tilt], [width + 4, height + 4], [-4, height + 4]]
        )
    else:
        left = centre[0] < width / 2
        reach = rng.uniform(0.12, 0.38) * width
        x = min(centre[0], reach) if left else max(centre[0], width - reach)
        edge = -4.0 if left else width + 4.0
        lean = rng.normal(0, 0.06) * width
        outline = np.array([[edge, -4], [x + lean, -4], [x, height + 4], [edge, height + 4]])
    _paint(canvas, outline, colour)
