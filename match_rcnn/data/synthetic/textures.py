"""Prints: functions of cloth coordinates that say how much of a second colour shows.

Shapes: ``u`` (across) and ``v`` (along), (h, w) float32 in body units; ``soft`` is the width of
an edge in body units (about a pixel). Every pattern returns (h, w) weights in [0, 1].
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Print:
    """A print on cloth.

    Attributes:
        kind: a key of ``PATTERNS``.
        scale: the period in body units.
        duty: share of the second colour, 0 to 1.
        angle: rotation, radians.
        phase: displacement in periods.
        seed: of the pattern's own irregularity.
    """

    kind: str
    scale: float
    duty: float
    angle: float
    phase: float
    seed: int


def weights(cloth: Print, u: Field, v: Field, soft: float) -> tuple[Any, Any]:
    """(second, third) colour weights of ``cloth`` at ``u``, ``v``."""
    cos, sin = np.float32(np.cos(cloth.angle)), np.float32(np.sin(cloth.angle))
    across = u * cos + v * sin + np.float32(cloth.phase * cloth.scale)
    along = v * cos - u * sin + np.float32(cloth.phase * cloth.scale)
    return PATTERNS[cloth.kind](cloth, across, along, soft)


def _edge(distance: Any, soft: float) -> Any:
    """1 where ``distance`` is positive, soft at 0."""
    return np.clip(distance / np.float32(soft) + np.float32(0.5), 0, 1)


def _stripe(x: Any, period: float, duty: float, soft: float) -> Any:
    cycle = x / np.float32(period)
    distance = np.abs(cycle - np.floor(cycle) - np.float32(0.5)) * np.float32(period)
    return _edge(np.float32(duty * period / 2) - distance, soft)


def _plain(cloth: Print, u: Any, v: Any, soft: float) -> tuple[Any, Any]:
    return np.zeros_like(u), np.zeros_like(u)


def _stripes(cloth: Print, u: Any, v: Any, soft: float) -> tuple[Any, Any]:
    return _stripe(v, cloth.scale, cloth.duty, soft), np.zeros_like(u)


def _double_stripes(cloth: Print, u: Any, v: Any, soft: float) -> tuple[Any, Any]:
    third = _stripe(v + np.float32(cloth.scale * 0.5), cloth.scale, 0.15, soft)
    return _stripe(v, cloth.scale, cloth.duty * 0.6, soft), third


def _gingham(cloth: Print, u: Any, v: Any, soft: float) -> tuple[Any, Any]:
    one, two = (_stripe(x, cloth.scale, cloth.duty, soft) for x in (u, v))
    return (one + two) / 2, np.zeros_like(u)


def _tartan(cloth: Print, u: Any, v: Any, soft: float) -> tuple[Any, Any]:
    second, _ = _gingham(cloth, u, v, soft)
    shift = np.float32(cloth.scale * 0.5)
    thin = [_stripe(x + shift, cloth.scale, 0.12, soft) for x in (u, v)]
    return second * np.float32(0.8), np.maximum(thin[0], thin[1]) * np.float32(0.8)


def _grid(cloth: Print, u: Any, v: Any, soft: float) -> tuple[Any, Any]:
    lines = [_stripe(x, cloth.scale, cloth.duty * 0.35, soft) for x in (u, v)]
    return np.maximum(lines[0], lines[1]), np.zeros_like(u)


def _cells(cloth: Print, u: Any, v: Any) -> tuple[Any, Any, Any]:
    """Place within a brick lattice's cell (in periods from its centre) and the cell's hash."""
    row = np.floor(v / np.float32(cloth.scale))
    x = u / np.float32(cloth.scale) + np.float32(0.5) * np.mod(row, 2)
    column = np.floor(x)
    code = (row.astype(np.int64) * 31 + column.astype(np.int64) * 57 + cloth.seed) & 255
    return x - column - np.float32(0.5), v / np.float32(cloth.scale) - row - np.float32(0.5), code


def _dots(cloth: Print, u: Any, v: Any, soft: float) -> tuple[Any, Any]:
    x, y, _ = _cells(cloth, u, v)
    radius = 0.12 + 0.3 * cloth.duty
    distance = (np.float32(radius) - np.sqrt(x * x + y * y)) * np.float32(cloth.scale)
    return _edge(distance, soft), np.zeros_like(u)


def _flowers(cloth: Print, u: Any, v: Any, soft: float) -> tuple[Any, Any]:
    x, y, code = _cells(cloth, u, v)
    table = np.random.default_rng(cloth.seed).uniform(-0.14, 0.14, (3, 256)).astype(np.float32)
    x, y = x + table[0][code], y + table[1][code]
    radius = np.sqrt(x * x + y * y)
    petals = 3 + cloth.seed % 4
    turn = np.arctan2(y, x) * np.float32(petals) + table[2][code] * np.float32(20)
    size = np.float32(0.16 + 0.16 * cloth.duty) * (1 + np.float32(0.35) * np.cos(turn))
    scale = np.float32(cloth.scale)
    heart = _edge((np.float32(0.09) - radius) * scale, soft)
    return _edge((size - radius) * scale, soft), heart


def _zigzag(cloth: Print, u: Any, v: Any, soft: float) -> tuple[Any, Any]:
    period = np.float32(cloth.scale * 1.5)
    cycle = u / period
    tooth = np.abs(cycle - np.floor(cycle) - np.float32(0.5)) * period
    return _stripe(v + tooth, cloth.scale, cloth.duty, soft), np.zeros_like(u)


def _blobs(cloth: Print, u: Any, v: Any, soft: float) -> tuple[Any, Any]:
    rng = np.random.default_rng(cloth.seed)
    total = np.zeros_like(u)
    for angle, frequency, phase in zip(
        rng.uniform(0, np.pi, 5), rng.uniform(2.5, 6.0, 5), rng.uniform(0, 6.3, 5), strict=True
    ):
        step = np.float32(frequency / cloth.scale / 2)
        wave = u * np.float32(np.cos(angle)) + v * np.float32(np.sin(angle))
        total += np.sin(wave * step + np.float32(phase))
    level = np.float32(1.2 - 2.0 * cloth.duty)
    return np.clip((total - level) * 4, 0, 1), np.clip((-total - level - 0.7) * 4, 0, 1)


def _gradient(cloth: Print, u: Any, v: Any, soft: float) -> tuple[Any, Any]:
    middle = np.float32(0.3 + 0.6 * cloth.duty)
    return np.clip((v - middle) * np.float32(1.2) + 0.5, 0, 1), np.zeros_like(u)


def _block(cloth: Print, u: Any, v: Any, soft: float) -> tuple[Any, Any]:
    return _edge(v - np.float32(0.25 + 0.5 * cloth.duty), soft), np.zeros_like(u)


def _chest_band(cloth: Print, u: Any, v: Any, soft: float) -> tuple[Any, Any]:
    centre, width = np.float32(0.38 + 0.2 * cloth.phase), np.float32(0.04 + 0.12 * cloth.duty)
    inner = _edge(width * np.float32(0.3) - np.abs(v - centre), soft)
    return _edge(width - np.abs(v - centre), soft), inner


def _speckle(cloth: Print, u: Any, v: Any, soft: float) -> tuple[Any, Any]:
    code = (
        np.floor(u / np.float32(0.012)).astype(np.int64) * 73
        + np.floor(v / np.float32(0.012)).astype(np.int64) * 151
    )
    table = np.random.default_rng(cloth.seed).random(1021).astype(np.float32)
    noise = table[np.mod(code * code + code, 1021)]
    return noise * np.float32(0.55 * cloth.duty + 0.1), np.zeros_like(u)


_Pattern = Callable[[Print, Any, Any, float], tuple[Any, Any]]
PATTERNS: dict[str, _Pattern] = {
    "plain": _plain,
    "stripes": _stripes,
    "double stripes": _double_stripes,
    "gingham": _gingham,
    "tartan": _tartan,
    "grid": _grid,
    "dots": _dots,
    "flowers": _flowers,
    "zigzag": _zigzag,
    "blobs": _blobs,
    "gradient": _gradient,
    "block": _block,
    "chest band": _chest_band,
    "speckle": _speckle,
}
_KINDS = tuple(PATTERNS)
#: Plain cloth is the commonest, as in shops.
_SHARES = np.array([11, 3, 1.5, 1.2, 1.2, 1, 1.8, 2.4, 0.7, 1, 0.8, 0.8, 0.8, 1.6])


def random_print(rng: np.random.Generator) -> Print:
    """A print."""
    kind = _KINDS[int(rng.choice(len(_KINDS), p=_SHARES / _SHARES.sum()))]
    angle = 0.0
    if kind in ("stripes", "double stripes"):
        angle = float(rng.choice([0.0, 0.0, np.pi / 2, np.pi / 4]))
    elif kind in ("gingham", "tartan", "grid"):
        angle = float(rng.choice([0.0, 0.0, np.pi / 4]))
    scale = float(np.exp(rng.uniform(np.log(0.06), np.log(0.2))))
    if kind == "flowers":
        scale *= 1.3
    return Print(
        kind,
        scale,
        duty=float(rng.uniform(0.25, 0.75)),
        angle=angle,
        phase=float(rng.uniform(0, 1)),
        seed=int(rng.integers(0, 10_000)),
    )


# Fabrics: what the cloth looks like whatever is printed on it -------------------------------------


def _wave(x: Any, period: float) -> Any:
    return np.sin(x * np.float32(2 * np.pi / period))


def _denim(u: Any, v: Any) -> tuple[Any, Any]:
    """A diagonal twill, washed out in vertical bands."""
    twill = np.float32(0.16) * _wave(u + v, 0.045)
    return 1 + twill, np.float32(0.14) * (1 + _wave(u, 0.3))


def _knit(u: Any, v: Any) -> tuple[Any, Any]:
    """Columns of stitches, each a V."""
    column = u / np.float32(0.09)
    slope = np.abs(column - np.floor(column) - np.float32(0.5)) * np.float32(0.09)
    return 1 + np.float32(0.24) * _wave(v + slope, 0.06), np.zeros_like(u)


def _ribbed(u: Any, v: Any) -> tuple[Any, Any]:
    return 1 + np.float32(0.26) * _wave(u, 0.055), np.zeros_like(u)


def _leather(u: Any, v: Any) -> tuple[Any, Any]:
    """Dark, with hard reflections."""
    gloss = _wave(u + np.float32(0.15) * _wave(v, 0.5), 0.21)
    return np.full_like(u, 0.75), np.float32(0.6) * np.clip(gloss - np.float32(0.55), 0, 1)


def _lace(u: Any, v: Any) -> tuple[Any, Any]:
    """A net with holes, through which it is dark."""
    holes = np.clip(_wave(u + v, 0.1) * _wave(u - v, 0.1) * 3 - np.float32(0.4), 0, 1)
    return 1 - np.float32(0.5) * holes, np.zeros_like(u)


def _chiffon(u: Any, v: Any) -> tuple[Any, Any]:
    """Pale, in soft pleats."""
    pleats = 1 + np.float32(0.1) * _wave(u + np.float32(0.1) * v, 0.13)
    return pleats, np.full_like(u, 0.35)


#: How much light the cloth throws back, and how much white lies over it; cotton is none of them.
FABRICS: dict[str, Callable[[Any, Any], tuple[Any, Any]]] = {
    "denim": _denim,
    "knit": _knit,
    "ribbed": _ribbed,
    "leather": _leather,
    "lace": _lace,
    "chiffon": _chiffon,
}


def woven(fabric: str, colour: Any, u: Field, v: Field) -> Any:
    """(h, w, 3) printed colours as they look on a fabric."""
    light, white = FABRICS[fabric](u, v)
    colour = colour * light[..., None]
    return colour + white[..., None] * (np.float32(255) - colour)
