"""Policies that look at the data and decide on a Transform.

An :class:`Augmentation` names the inputs that it needs in the signature of ``get_transform``; an
:class:`AugInput` holds them and lets itself be transformed.

Shapes: image (H, W) or (H, W, C), uint8 in 0..255 or float; boxes (N, 4) XYXY in pixels;
sem_seg (H, W) integer labels.
"""

# ruff: noqa: NPY002 (the global generator: detectron2 draws from it, and workers seed it)

import inspect
import pprint
from collections.abc import Sequence
from typing import Any

import numpy as np
from fvcore.transforms.transform import Transform, TransformList
from numpy.typing import NDArray

__all__ = [
    "AugInput",
    "Augmentation",
    "AugmentationList",
    "StandardAugInput",
    "TransformGen",
    "apply_augmentations",
    "apply_transform_gens",
]

_VARIABLE_LENGTH = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Augmentation:
    """A policy, often random, that gives a Transform.

    Subclasses write ``get_transform(self, image)``, or with other parameters named after the
    attributes of the AugInput that they need. Randomness comes from ``numpy.random``, which every
    loader worker seeds for itself.
    """

    input_args: tuple[str, ...] | None = None
    """Attributes of the input that go to ``get_transform``; by default its parameters' names. A
    single parameter stands for the image, whatever it is called."""

    def _init(self, params: dict[str, Any] | None = None) -> None:
        """Make attributes of constructor arguments: ``self._init(locals())``."""
        for name, value in (params or {}).items():
            if name != "self" and not name.startswith("_"):
                setattr(self, name, value)

    def get_transform(self, *args: Any) -> Transform:
        """Decide on the transform for this input."""
        raise NotImplementedError(f"{type(self).__name__} does not define get_transform")

    def __call__(self, aug_input: Any) -> Transform:
        """Transform ``aug_input`` in place and return the transform that was applied.

        Raises:
            AttributeError: the input lacks something that ``get_transform`` asks for.
        """
        transform = self.get_transform(*self._arguments_from(aug_input))
        assert isinstance(transform, Transform), (
            f"{type(self).__name__}.get_transform must return a Transform, got {type(transform)}"
        )
        aug_input.transform(transform)
        return transform

    def _arguments_from(self, aug_input: Any) -> list[Any]:
        if self.input_args is None:
            self.input_args = self._input_names()
        for name in self.input_args:
            if not hasattr(aug_input, name):
                raise AttributeError(
                    f"{type(self).__name__}.get_transform needs input attribute '{name}', but "
                    f"{type(aug_input).__name__} has none. Give it one, or another augmentation."
                )
        return [getattr(aug_input, name) for name in self.input_args]

    def _input_names(self) -> tuple[str, ...]:
        parameters = inspect.signature(self.get_transform).parameters
        if len(parameters) == 1:
            return ("image",)
        if any(p.kind in _VARIABLE_LENGTH for p in parameters.values()):
            raise TypeError(
                f"{type(self).__name__}.get_transform takes *args or **kwargs, so the inputs that "
                "it needs are unknown: name them, or write __call__ as well."
            )
        return tuple(parameters)

    def _rand_range(
        self, low: float = 1.0, high: float | None = None, size: int | None = None
    ) -> Any:
        """Uniform random numbers in [low, high), or in [0, low) when ``high`` is not given."""
        if high is None:
            low, high = 0.0, low
        return np.random.uniform(low, high, [] if size is None else size)

    def __repr__(self) -> str:
        """``Name(argument=value)`` with the constructor arguments that are not the default."""
        shown = []
        for name, parameter in inspect.signature(type(self)).parameters.items():
            if parameter.kind in _VARIABLE_LENGTH or not hasattr(self, name):
                return super().__repr__()
            value = getattr(self, name)
            if value is not parameter.default:
                text = pprint.pformat(value)
                shown.append(f"{name}={'...' if chr(10) in text else text}")
        return f"{type(self).__name__}({', '.join(shown)})"

    __str__ = __repr__


class _FixedTransform(Augmentation):
    """The policy that always decides on the same transform."""

    def __init__(self, transform: Transform) -> None:
        self.transform = transform

    def get_transform(self, *args: Any) -> Transform:
        return self.transform

    def __call__(self, aug_input: Any) -> Transform:
        aug_input.transform(self.transform)
        return self.transform

    def __repr__(self) -> str:
        return repr(self.transform)

    __str__ = __repr__


def as_augmentation(augmentation: Augmentation | Transform) -> Augmentation:
    """A Transform as an Augmentation; an Augmentation as it is."""
    if isinstance(augmentation, Augmentation):
        return augmentation
    assert isinstance(augmentation, Transform), (
        f"expected an Augmentation or a Transform, got {augmentation!r}"
    )
    return _FixedTransform(augmentation)


class AugmentationList(Augmentation):
    """Augmentations one after the other; each one sees what those before it have made.

    It has no ``get_transform``: a transform depends on the input that the one before left.
    """

    def __init__(self, augs: Sequence[Augmentation | Transform]) -> None:
        self.augs = [as_augmentation(aug) for aug in augs]

    def __call__(self, aug_input: Any) -> TransformList:
        return TransformList([aug(aug_input) for aug in self.augs])

    def __repr__(self) -> str:
        return f"AugmentationList[{', '.join(str(aug) for aug in self.augs)}]"

    __str__ = __repr__


class AugInput:
    """An image, and optionally boxes and a label map, that are transformed together.

    Anything else with the attributes that the augmentations need and a ``transform(tfm)`` method
    serves as well.
    """

    def __init__(
        self,
        image: NDArray[Any],
        *,
        boxes: NDArray[Any] | None = None,
        sem_seg: NDArray[Any] | None = None,
    ) -> None:
        assert isinstance(image, np.ndarray), f"image must be a numpy array, got {type(image)}"
        assert image.ndim in (2, 3), f"image must be (H, W) or (H, W, C), got {image.shape}"
        self.image = image
        self.boxes = boxes
        self.sem_seg = sem_seg

    def transform(self, tfm: Transform) -> None:
        """Replace everything held here by its transformed self."""
        self.image = tfm.apply_image(self.image)
        if self.boxes is not None:
            self.boxes = tfm.apply_box(self.boxes)
        if self.sem_seg is not None:
            self.sem_seg = tfm.apply_segmentation(self.sem_seg)

    def apply_augmentations(
        self, augmentations: Sequence[Augmentation | Transform]
    ) -> TransformList:
        """The same as ``AugmentationList(augmentations)(self)``."""
        return AugmentationList(augmentations)(self)


def apply_augmentations(
    augmentations: Sequence[Augmentation | Transform], inputs: Any
) -> tuple[Any, TransformList]:
    """Augment an AugInput or a bare image; returns the same kind of thing and the transforms.

    Kept for code that has it; ``AugmentationList(augmentations)(aug_input)`` is the way now.
    """
    if isinstance(inputs, np.ndarray):
        aug_input = AugInput(inputs)
        transforms = aug_input.apply_augmentations(augmentations)
        return aug_input.image, transforms
    return inputs, inputs.apply_augmentations(augmentations)


# Names of detectron2's past.
StandardAugInput = AugInput
TransformGen = Augmentation
apply_transform_gens = apply_augmentations
