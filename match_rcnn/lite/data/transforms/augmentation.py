"""Policies that look at the image and decide on a Transform.

Shapes: an image is (H, W, C), or (H, W) where it has one channel; uint8 or float.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
from fvcore.transforms.transform import Transform, TransformList
from numpy.typing import NDArray

__all__ = ["AugInput", "Augmentation", "AugmentationList"]


class AugInput:
    """An image that augmentations change."""

    def __init__(self, image: NDArray[Any]) -> None:
        assert isinstance(image, np.ndarray), f"an image is an array, not {type(image)}"
        assert image.ndim in (2, 3), f"an image has 2 or 3 dimensions, not {image.shape}"
        self.image = image

    def transform(self, tfm: Transform) -> None:
        """Put the transformed image in the place of the image."""
        self.image = tfm.apply_image(self.image)


class Augmentation:
    """A policy, often random, that gives a Transform.

    Subclasses write :meth:`get_transform`. Randomness comes from ``numpy.random``, which every
    loader worker seeds for itself.
    """

    def get_transform(self, image: NDArray[Any]) -> Transform:
        """Decide on the transform for this image."""
        raise NotImplementedError(f"{type(self).__name__} does not define get_transform")

    def __call__(self, aug_input: AugInput) -> Transform:
        """Decide, change the input accordingly, and tell what was done to it."""
        transform = self.get_transform(aug_input.image)
        aug_input.transform(transform)
        return transform

    def __repr__(self) -> str:
        """``Name(argument=value)`` with the constructor arguments that are not the default."""
        parameters = inspect.signature(type(self)).parameters.values()
        values = [(p, getattr(self, p.name)) for p in parameters if hasattr(self, p.name)]
        shown = (f"{p.name}={value!r}" for p, value in values if value is not p.default)
        return f"{type(self).__name__}({', '.join(shown)})"


class AugmentationList(Augmentation):
    """Augmentations or transforms one after the other; each sees what those before have made."""

    def __init__(self, augs: Sequence[Augmentation | Transform]) -> None:
        wrong = [a for a in augs if not isinstance(a, Augmentation | Transform)]
        assert not wrong, f"expected Augmentations and Transforms, got {wrong}"
        self.augs = list(augs)

    def __call__(self, aug_input: AugInput) -> TransformList:
        return TransformList([_apply(aug, aug_input) for aug in self.augs])


def _apply(aug: Augmentation | Transform, aug_input: AugInput) -> Transform:
    if isinstance(aug, Augmentation):
        return aug(aug_input)
    aug_input.transform(aug)
    return aug
