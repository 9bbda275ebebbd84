"""Colours that are easy to tell apart."""

import colorsys
import functools
import random
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["colormap", "random_color", "random_colors"]

FloatArray = npt.NDArray[np.float32]

_COUNT = 80
#: Steps of the golden ratio never come back near an earlier hue soon.
_GOLDEN = 0.618033988749895


@functools.lru_cache
def _palette() -> FloatArray:
    """(80, 3) red, green, blue in [0, 1]: hues that spread, strong and pale in turn."""
    shades = [(0.85, 0.95), (0.6, 1.0), (0.95, 0.7), (0.4, 0.95)]
    rows = [colorsys.hsv_to_rgb((i * _GOLDEN) % 1.0, *shades[i % 4]) for i in range(_COUNT)]
    return np.array(rows, dtype=np.float32)


def colormap(rgb: bool = False, maximum: int = 255) -> FloatArray:
    """(80, 3) float32 colours.

    Args:
        rgb: red first, or else blue first.
        maximum: 255 or 1.
    """
    colors = _palette() * _checked(maximum)
    return colors if rgb else colors[:, ::-1].copy()


def _checked(maximum: Any) -> int:
    if maximum not in (1, 255):
        raise ValueError(f"expected maximum 1 or 255, got {maximum}")
    return int(maximum)


def random_color(rgb: bool = False, maximum: int = 255) -> FloatArray:
    """(3,) one of the colours, drawn from numpy's generator."""
    return colormap(rgb, maximum)[np.random.randint(0, _COUNT)]  # noqa: NPY002


def random_colors(N: int, rgb: bool = False, maximum: int = 255) -> list[FloatArray]:
    """``N`` different colours, at most 80."""
    colors = colormap(rgb, maximum)
    return [colors[i] for i in random.sample(range(_COUNT), N)]
