"""The augmentations themselves.

Random numbers are drawn from ``numpy.random`` in detectron2's order, so that one seed gives the
same augmented images on both hosts.
"""

# ruff: noqa: NPY002 (the global generator: detectron2 draws from it, and workers seed it)

import sys
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from fvcore.transforms.transform import (
    HFlipTransform,
    NoOpTransform,
    Transform,
    VFlipTransform,
)
from numpy.typing import NDArray

from .augmentation import Augmentation
from .transform import ResizeTransform

__all__ = ["RandomFlip", "ResizeShortestEdge"]


class RandomFlip(Augmentation):
    """Flip horizontally or vertically with probability ``prob``.

    Raises:
        ValueError: not exactly one of ``horizontal`` and ``vertical`` is chosen.
    """

    def __init__(
        self, prob: float = 0.5, *, horizontal: bool = True, vertical: bool = False
    ) -> None:
        if horizontal == vertical:
            raise ValueError(
                "RandomFlip flips in one direction: exactly one of horizontal and vertical must "
                f"be True, got horizontal={horizontal}, vertical={vertical}"
            )
        self.prob, self.horizontal, self.vertical = prob, horizontal, vertical

    def get_transform(self, image: NDArray[Any]) -> Transform:
        height, width = image.shape[:2]
        if np.random.uniform() >= self.prob:
            return NoOpTransform()
        return HFlipTransform(width) if self.horizontal else VFlipTransform(height)


class ResizeShortestEdge(Augmentation):
    """Bring the short edge to a wanted length, the long one to at most ``max_size``.

    Args:
        short_edge_length: pixels; with ``sample_style`` "range" the two ends (both included) of
            the interval to draw from, with "choice" the lengths to choose among. One number means
            just that. A length of 0 leaves the image as it is.
        max_size: the long edge's limit; it wins over the short edge.
        sample_style: "range" or "choice".

    Raises:
        ValueError: another style, or a range of other than two lengths.
    """

    def __init__(
        self,
        short_edge_length: int | Sequence[int],
        max_size: int = sys.maxsize,
        sample_style: Literal["range", "choice"] = "range",
    ) -> None:
        single = isinstance(short_edge_length, int)
        lengths: Any = (short_edge_length,) * 2 if single else short_edge_length
        if sample_style not in ("range", "choice"):
            raise ValueError(f"expected to sample by 'range' or 'choice', got {sample_style!r}")
        if sample_style == "range" and len(lengths) != 2:
            raise ValueError(f"a range of lengths has two ends, got {lengths}")
        self.short_edge_length = lengths
        self.max_size, self.sample_style = max_size, sample_style

    def get_transform(self, image: NDArray[Any]) -> Transform:
        if self.sample_style == "range":
            shortest, longest = self.short_edge_length
            length = int(np.random.randint(shortest, longest + 1))
        else:
            length = int(np.random.choice(self.short_edge_length))
        if length == 0:
            return NoOpTransform()
        size = image.shape[0], image.shape[1]
        return ResizeTransform(*size, *self.get_output_shape(*size, length, self.max_size))

    @staticmethod
    def get_output_shape(
        height: int, width: int, short_edge_length: int, max_size: int
    ) -> tuple[int, int]:
        """(height, width) after resizing.

        Both edges are rounded at the end, half up: 333 x 1000 with a short edge of 800 and at
        most 1333 gives 444 x 1333.
        """
        scale = short_edge_length / min(height, width)
        edges = [float(short_edge_length), scale * max(height, width)]
        if max(edges) > max_size:
            shrink = max_size / max(edges)
            edges = [edge * shrink for edge in edges]
        short, long = (int(edge + 0.5) for edge in edges)
        return (short, long) if height < width else (long, short)
