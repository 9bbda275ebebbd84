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
    BlendTransform,
    CropTransform,
    HFlipTransform,
    NoOpTransform,
    Transform,
    VFlipTransform,
)
from numpy.typing import NDArray
from PIL import Image

from .augmentation import Augmentation, as_augmentation
from .transform import ResizeTransform

__all__ = [
    "RandomApply",
    "RandomBrightness",
    "RandomContrast",
    "RandomCrop",
    "RandomFlip",
    "RandomLighting",
    "RandomSaturation",
    "Resize",
    "ResizeShortestEdge",
]

_BILINEAR = int(Image.Resampling.BILINEAR)
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, for R, G, B


class RandomApply(Augmentation):
    """Apply an augmentation (or transform) with probability ``prob``, else nothing."""

    def __init__(self, tfm_or_aug: Augmentation | Transform, prob: float = 0.5) -> None:
        assert 0.0 <= prob <= 1.0, f"prob must be between 0 and 1, got {prob}"
        self.prob = prob
        self.aug = as_augmentation(tfm_or_aug)

    def get_transform(self, *args: Any) -> Transform:
        return self.aug.get_transform(*args) if self._happens() else NoOpTransform()

    def __call__(self, aug_input: Any) -> Transform:
        return self.aug(aug_input) if self._happens() else NoOpTransform()

    def _happens(self) -> bool:
        return bool(self._rand_range() < self.prob)


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
                f"be True, got horizontal={horizontal}, vertical={vertical}. Use two for both."
            )
        self.prob, self.horizontal, self.vertical = prob, horizontal, vertical

    def get_transform(self, image: NDArray[Any]) -> Transform:
        height, width = image.shape[:2]
        if self._rand_range() >= self.prob:
            return NoOpTransform()
        return HFlipTransform(width) if self.horizontal else VFlipTransform(height)


class Resize(Augmentation):
    """Resize to ``shape``: (height, width), or one number for both."""

    def __init__(self, shape: int | Sequence[int], interp: int = _BILINEAR) -> None:
        self.shape = (shape, shape) if isinstance(shape, int) else tuple(shape)
        self.interp = interp

    def get_transform(self, image: NDArray[Any]) -> Transform:
        (height, width), (new_height, new_width) = image.shape[:2], self.shape
        return ResizeTransform(height, width, new_height, new_width, self.interp)


class ResizeShortestEdge(Augmentation):
    """Bring the short edge to a wanted length, the long one to at most ``max_size``.

    Args:
        short_edge_length: pixels; with ``sample_style`` "range" the two ends (both included) of
            the interval to draw from, with "choice" the lengths to choose among. One number means
            just that. A length of 0 leaves the image as it is.
        max_size: the long edge's limit; it wins over the short edge.
        sample_style: "range" or "choice".
        interp: a PIL resampling filter.
    """

    def __init__(
        self,
        short_edge_length: int | Sequence[int],
        max_size: int = sys.maxsize,
        sample_style: Literal["range", "choice"] = "range",
        interp: int = _BILINEAR,
    ) -> None:
        assert sample_style in ("range", "choice"), sample_style
        if isinstance(short_edge_length, int):
            short_edge_length = (short_edge_length, short_edge_length)
        assert sample_style == "choice" or len(short_edge_length) == 2, (
            "short_edge_length must be two values using 'range' sample style. "
            f"Got {short_edge_length}!"
        )
        self.short_edge_length = short_edge_length
        self.max_size = max_size
        self.sample_style = sample_style
        self.interp = interp

    def get_transform(self, image: NDArray[Any]) -> Transform:
        if self.sample_style == "range":
            low, high = self.short_edge_length
            length = int(np.random.randint(low, high + 1))
        else:
            length = int(np.random.choice(self.short_edge_length))
        if length == 0:
            return NoOpTransform()
        height, width = image.shape[:2]
        new_size = self.get_output_shape(height, width, length, self.max_size)
        return ResizeTransform(height, width, *new_size, self.interp)

    @staticmethod
    def get_output_shape(
        oldh: int, oldw: int, short_edge_length: int, max_size: int
    ) -> tuple[int, int]:
        """(height, width) after resizing.

        Both edges are rounded at the end, half up: 333 x 1000 with a short edge of 800 and at
        most 1333 gives 444 x 1333.
        """
        size = short_edge_length * 1.0
        scale = size / min(oldh, oldw)
        if oldh < oldw:
            newh, neww = size, scale * oldw
        else:
            newh, neww = scale * oldh, size
        longest = max(newh, neww)
        if longest > max_size:
            shrink = max_size * 1.0 / longest
            newh, neww = newh * shrink, neww * shrink
        return int(newh + 0.5), int(neww + 0.5)


class RandomCrop(Augmentation):
    """Cut out a region at a random place.

    Polygons under a crop need the package ``shapely``, which fvcore's CropTransform imports.

    Args:
        crop_type: what ``crop_size`` means, for an image of H x W:
            "relative": the fractions of H and W to keep, in (0, 1];
            "relative_range": their lower ends; each is drawn from [size, 1];
            "absolute": height and width in pixels, at most those of the image;
            "absolute_range": each edge is drawn from [min(edge, a), min(edge, b)] pixels.
        crop_size: two numbers.

    Raises:
        ValueError: unknown ``crop_type``, or sizes that do not fit it.
    """

    CROP_TYPES = ("relative_range", "relative", "absolute", "absolute_range")

    def __init__(self, crop_type: str, crop_size: Sequence[float]) -> None:
        if crop_type not in self.CROP_TYPES:
            raise ValueError(f"crop_type must be one of {self.CROP_TYPES}, got {crop_type!r}")
        if crop_type == "absolute_range" and crop_size[0] > crop_size[1]:
            raise ValueError(f"an absolute_range needs low <= high, got {tuple(crop_size)}")
        self.crop_type, self.crop_size = crop_type, crop_size

    def get_transform(self, image: NDArray[Any]) -> Transform:
        height, width = image.shape[:2]
        crop_height, crop_width = self.get_crop_size((height, width))
        y = np.random.randint(height - crop_height + 1)
        x = np.random.randint(width - crop_width + 1)
        return CropTransform(x, y, crop_width, crop_height)

    def get_crop_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of a region for an image of ``image_size`` (height, width)."""
        if self.crop_type == "absolute_range":
            low, high = (int(size) for size in self.crop_size)
            height, width = (
                np.random.randint(min(edge, low), min(edge, high) + 1) for edge in image_size
            )
            return int(height), int(width)
        if self.crop_type == "absolute":
            height, width = (
                min(int(s), edge) for s, edge in zip(self.crop_size, image_size, strict=True)
            )
            return height, width
        return self._relative_size(image_size)

    def _relative_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        fractions = np.asarray(self.crop_size, dtype=np.float64)
        if self.crop_type == "relative_range":
            # The lower ends are single precision in detectron2; sizes must round alike.
            lowest = fractions.astype(np.float32)
            fractions = lowest + np.random.rand(2) * (1 - lowest)
        height, width = image_size
        return int(height * fractions[0] + 0.5), int(width * fractions[1] + 0.5)


class _RandomIntensity(Augmentation):
    """Mix the image with something: weight w of the image, 1 - w of the other, w in an interval."""

    def __init__(self, intensity_min: float, intensity_max: float) -> None:
        self.intensity_min, self.intensity_max = intensity_min, intensity_max

    def get_transform(self, image: NDArray[Any]) -> Transform:
        weight = np.random.uniform(self.intensity_min, self.intensity_max)
        return BlendTransform(
            src_image=self._other(image), src_weight=1 - weight, dst_weight=weight
        )

    def _other(self, image: NDArray[Any]) -> Any:
        raise NotImplementedError


class RandomContrast(_RandomIntensity):
    """Contrast times a factor in (intensity_min, intensity_max); 1 keeps the image."""

    def _other(self, image: NDArray[Any]) -> Any:
        return image.mean()


class RandomBrightness(_RandomIntensity):
    """Brightness times a factor in (intensity_min, intensity_max); 1 keeps the image."""

    def _other(self, image: NDArray[Any]) -> Any:
        return 0


class RandomSaturation(_RandomIntensity):
    """Saturation of an RGB image times a factor in the interval; 0 would make it grey."""

    def _other(self, image: NDArray[Any]) -> Any:
        assert image.shape[-1] == 3, f"RandomSaturation needs an RGB image, got {image.shape}"
        return image.dot(_LUMA)[:, :, None]


class RandomLighting(Augmentation):
    """AlexNet's colour noise: shift an RGB image along the principal components of ImageNet.

    Args:
        scale: standard deviation of the weight of each component.
    """

    # Published with AlexNet's reimplementations: components of ImageNet's RGB values in 0..1.
    EIGENVECTORS = np.array(
        [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
    )
    EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def get_transform(self, image: NDArray[Any]) -> Transform:
        assert image.shape[-1] == 3, f"RandomLighting needs an RGB image, got {image.shape}"
        weights = np.random.normal(scale=self.scale, size=3)
        shift = self.EIGENVECTORS.dot(weights * self.EIGENVALUES)
        return BlendTransform(src_image=shift, src_weight=1.0, dst_weight=1.0)
