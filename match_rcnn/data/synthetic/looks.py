"""The look of a garment: colours, print and details. With the cut (cuts.py) it is the product."""

import colorsys
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from match_rcnn.data.synthetic.cuts import DRESSES, LOWERS, OUTWEAR, SLINGS
from match_rcnn.data.synthetic.textures import (
    FABRICS,
    Field,
    Print,
    random_print,
    weights,
    woven,
)

Colour = tuple[float, float, float]
GRAPHICS = ("disc", "ring", "square", "triangle", "star", "heart", "lines", "cross")


@dataclass(frozen=True)
class Graphic:
    """A logo or picture on the chest: ``kind`` of GRAPHICS at (u, v), in body units."""

    kind: str
    u: float
    v: float
    size: float
    colour: Colour


@dataclass(frozen=True)
class Look:
    """Colours (RGB, 0 to 255), print and details of one style.

    Attributes:
        colours: base, second and third.
        cloth: the print.
        graphic: a picture on the chest.
        collar: colour of the collar's edge.
        band: width of a hem and cuff band in the second colour; 0 for none.
        pocket: -1 left, 1 right, 2 both, 0 none.
        buttons: how many in the middle front.
        side_stripe: width of a stripe along trouser legs and sleeves.
        belt: a belt or waist seam.
        fold: strength of the folds' shading.
        outline: darkness of the drawn edge.
        fabric: of textures.FABRICS: what the cloth itself looks like.
    """

    colours: tuple[Colour, Colour, Colour]
    cloth: Print
    graphic: Graphic | None = None
    collar: Colour | None = None
    band: float = 0.0
    pocket: int = 0
    buttons: int = 0
    side_stripe: float = 0.0
    belt: bool = False
    fold: float = 0.06
    outline: float = 0.35
    fabric: str = "cotton"

    def paint(self, u: Field, v: Field, soft: float, torso: bool) -> Any:
        """(h, w, 3) cloth colours at cloth coordinates; the graphic only on the torso."""
        second, third = weights(self.cloth, u, v, soft)
        base, two, three = (np.array(c, dtype=np.float32) for c in self.colours)
        colour = base + second[..., None] * (two - base)
        colour += third[..., None] * (three - colour)
        if self.fabric in FABRICS:
            colour = woven(self.fabric, colour, u, v)
        if torso and self.graphic is not None:
            mask = _graphic_mask(self.graphic, u, v, soft)[..., None]
            colour += mask * (np.array(self.graphic.colour, dtype=np.float32) - colour)
        return colour


def _graphic_mask(graphic: Graphic, u: Any, v: Any, soft: float) -> Any:
    size = np.float32(graphic.size)
    x, y = (u - np.float32(graphic.u)) / size, (v - np.float32(graphic.v)) / size
    radius = np.sqrt(x * x + y * y)
    turn = np.arctan2(x, -y)
    distance = {
        "disc": lambda: 1 - radius,
        "ring": lambda: 0.25 - np.abs(radius - 0.75),
        "square": lambda: 0.85 - np.maximum(np.abs(x), np.abs(y)),
        "triangle": lambda: np.minimum(0.8 - y, (y + 1) * 0.5 - np.abs(x) * 0.85),
        "star": lambda: 0.7 + 0.3 * np.cos(5 * turn) - radius,
        "heart": lambda: 1 - np.sqrt(x**2 + (y * 1.1 + 0.3 - 0.75 * np.sqrt(np.abs(x))) ** 2),
        "lines": lambda: np.minimum(
            np.minimum(1 - np.abs(x), 0.8 - np.abs(y)), 0.15 - np.abs(np.mod(y, 0.55) - 0.27)
        ),
        "cross": lambda: np.minimum(1 - radius, 0.28 - np.minimum(np.abs(x), np.abs(y))),
    }[graphic.kind]()
    return np.clip(distance * size / np.float32(soft) + 0.5, 0, 1).astype(np.float32)


#: What the dyers of a season offer, from white and black to green and pink.
_PALETTE = np.array(
    [
        (238, 236, 232),
        (36, 36, 40),
        (128, 130, 134),
        (36, 46, 84),
        (92, 118, 158),
        (205, 186, 158),
        (112, 82, 60),
        (186, 36, 48),
        (52, 110, 78),
        (226, 150, 166),
    ],
    dtype=float,
)


def random_colour(rng: np.random.Generator) -> Colour:
    """A cloth colour: nearly always of the season's palette, so that colour alone tells little."""
    if rng.random() < 0.9:
        return _colour(_PALETTE[int(rng.integers(len(_PALETTE)))] + rng.normal(0, 5, 3))
    hue, saturation, value = rng.random(), rng.uniform(0.25, 0.9), rng.uniform(0.35, 0.97)
    return _colour(np.array(colorsys.hsv_to_rgb(hue, saturation, value)) * 255)


def _colour(values: Any) -> Colour:
    red, green, blue = (float(v) for v in np.clip(values, 0, 255))
    return red, green, blue


def contrasting(rng: np.random.Generator, colour: Colour) -> Colour:
    """A colour that can be told from ``colour``."""
    other = random_colour(rng)
    for _ in range(6):
        if np.abs(np.subtract(other, colour)).sum() > 130:
            return other
        other = random_colour(rng)
    return (240.0, 240.0, 238.0) if sum(colour) < 380 else (30.0, 30.0, 34.0)


def random_look(rng: np.random.Generator, category_id: int) -> Look:
    """A style of a new product."""
    base = random_colour(rng)
    second = contrasting(rng, base)
    look = Look((base, second, contrasting(rng, second)), random_print(rng))
    look = replace(
        look,
        band=float(rng.uniform(0.025, 0.06)) if rng.random() < 0.2 else 0.0,
        side_stripe=float(rng.uniform(0.02, 0.04)) if rng.random() < 0.12 else 0.0,
        fold=float(rng.uniform(0.04, 0.1)),
        outline=float(rng.uniform(0.5, 0.8)),
    )
    if category_id in LOWERS:
        return replace(look, belt=bool(rng.random() < 0.35))
    if category_id not in SLINGS and rng.random() < 0.4:
        look = replace(look, collar=contrasting(rng, base))
    if category_id in OUTWEAR:
        pocket = int(rng.choice([0, 2, 2]))
        return replace(look, pocket=pocket, buttons=int(rng.choice([0, 3, 5])))
    look = replace(look, belt=category_id in DRESSES and bool(rng.random() < 0.4))
    if rng.random() < 0.35:
        return replace(look, graphic=random_graphic(rng, base))
    return replace(
        look, pocket=int(rng.choice([0, 0, 0, -1, 1])), buttons=int(rng.choice([0, 0, 0, 4, 7]))
    )


def random_graphic(rng: np.random.Generator, background: Colour) -> Graphic:
    """A picture that shows on ``background``."""
    kind = GRAPHICS[int(rng.integers(len(GRAPHICS)))]
    if rng.random() < 0.35:  # a small logo
        return Graphic(
            kind, float(rng.choice([-0.1, 0.1])), 0.3, 0.045, contrasting(rng, background)
        )
    size, height = float(rng.uniform(0.07, 0.14)), float(rng.uniform(0.34, 0.48))
    return Graphic(kind, 0.0, height, size, contrasting(rng, background))


def restyle(rng: np.random.Generator, look: Look) -> Look:
    """Another style of the same product: other colours, or another print."""
    if rng.random() < 0.7:
        return recolour(rng, look)
    return replace(look, cloth=_other_print(rng, look.cloth))


def recolour(rng: np.random.Generator, look: Look) -> Look:
    """The same print in other colours."""
    base = contrasting(rng, look.colours[0])
    second = look.colours[1]
    if np.abs(np.subtract(base, second)).sum() < 130 or rng.random() < 0.4:
        second = contrasting(rng, base)
    return replace(look, colours=(base, second, look.colours[2]))


def vary_look(rng: np.random.Generator, category_id: int, look: Look) -> Look:
    """A sister product's look: one thing differs, often a small one."""
    kind = rng.integers(6)
    if kind == 0:
        return replace(look, cloth=_other_print(rng, look.cloth))
    if kind == 1:
        scale = look.cloth.scale * float(rng.choice([0.6, 1.6]))
        changed = replace(look.cloth, scale=scale, seed=look.cloth.seed + 1)
        return replace(_nudge(rng, look, 16.0), cloth=changed)
    if kind == 2:
        return _nudge(rng, look, 38.0)
    if kind == 3:
        second = contrasting(rng, look.colours[1])
        return replace(look, colours=(look.colours[0], second, look.colours[2]))
    if kind == 4 and category_id not in LOWERS and category_id not in OUTWEAR:
        graphic = None if look.graphic else random_graphic(rng, look.colours[0])
        return replace(look, graphic=graphic, pocket=0, buttons=0)
    band = 0.0 if look.band else float(rng.uniform(0.03, 0.06))
    stripe = look.side_stripe if look.side_stripe or rng.random() < 0.5 else 0.03
    return replace(_nudge(rng, look, 12.0), band=band, side_stripe=stripe)


def _nudge(rng: np.random.Generator, look: Look, amount: float) -> Look:
    shift = rng.normal(0, 1, 3)
    shift *= amount / max(float(np.abs(shift).mean()), 1e-6)
    base, second, third = look.colours
    return replace(look, colours=(_colour(np.add(base, shift)), second, third))


def _other_print(rng: np.random.Generator, cloth: Print) -> Print:
    other = random_print(rng)
    for _ in range(8):
        if other.kind != cloth.kind:
            break
        other = random_print(rng)
    return other
