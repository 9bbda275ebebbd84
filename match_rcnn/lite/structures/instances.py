"""The instances of one image, as a table whose columns are fields."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Instances:
    """Fields of equal length about the instances of one image.

    Any public attribute that is set becomes a field: a tensor, Boxes, Keypoints, masks, a list.
    Indexing takes the same rows of every field.

    Args:
        image_size: (height, width) in pixels.
        **kwargs: fields to begin with.
    """

    def __init__(self, image_size: tuple[int, int], **kwargs: Any) -> None:
        self._image_size, self._fields = image_size, dict[str, Any]()
        for name in kwargs:
            self.set(name, kwargs[name])

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width)"""
        return self._image_size

    def __setattr__(self, name: str, value: Any) -> None:
        (object.__setattr__ if name[0] == "_" else Instances.set)(self, name, value)

    def __getattr__(self, name: str) -> Any:
        # Looked up in __dict__, since copying and unpickling ask before there are fields.
        fields = self.__dict__.get("_fields", {})
        if name not in fields:
            raise AttributeError(f"no field {name!r} in these Instances, only {list(fields)}")
        return fields[name]

    def set(self, name: str, value: Any) -> None:
        """Set the field ``name``.

        Raises:
            ValueError: the length differs from that of the fields already there.
        """
        if self._fields and len(value) != len(self):
            raise ValueError(
                f"expected a field {name!r} of length {len(self)} as the others have, "
                f"got {len(value)}"
            )
        self._fields[name] = value

    def has(self, name: str) -> bool:
        return name in self._fields

    def remove(self, name: str) -> None:
        del self._fields[name]

    def get(self, name: str) -> Any:
        return self._fields[name]

    def get_fields(self) -> dict[str, Any]:
        """The fields by name: the dict itself, not a copy."""
        return self._fields

    def to(self, *args: Any, **kwargs: Any) -> "Instances":
        """New instances, with ``to(...)`` called on every field that has it."""
        return self._map(lambda v: v.to(*args, **kwargs) if hasattr(v, "to") else v)

    def _map(self, function: Any) -> "Instances":
        result = Instances(self._image_size)
        for name, value in self._fields.items():
            result.set(name, function(value))
        return result

    def __getitem__(self, item: int | slice | Tensor) -> "Instances":
        """The rows ``item`` of every field, as new instances; an int gives one row.

        Raises:
            IndexError: an int beyond the instances, or a mask of another length.
        """
        if isinstance(item, (int, np.integer)) and not isinstance(item, bool):
            item = int(item)
            if not -len(self) <= item < len(self):
                raise IndexError(f"index {item} is out of range for {len(self)} instances")
            # A slice, since an int would take the first dimension away from a tensor.
            item = slice(item, None, len(self))
        elif isinstance(item, Tensor) and item.dtype == torch.bool:
            if item.shape != (len(self),):
                raise IndexError(f"a mask of shape {tuple(item.shape)} for {len(self)} instances")
            # A mask would be searched, and on a GPU waited for, once for every field.
            item = item.nonzero()[:, 0]
        return self._map(lambda v: v[item])

    def __len__(self) -> int:
        for value in self._fields.values():
            return len(value)
        raise NotImplementedError("Instances without fields have no length")

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError("Instances cannot be iterated over; index them instead")

    @staticmethod
    def cat(instance_lists: "Sequence[Instances]") -> "Instances":
        """All instances, one list after the other.

        Args:
            instance_lists: at least one; equal image sizes and equal fields.

        Raises:
            ValueError: nothing to concatenate, image sizes that differ, or a field of a type
                that has no ``cat``.
        """
        if not instance_lists or not all(isinstance(i, Instances) for i in instance_lists):
            raise ValueError("expected at least one Instances, and nothing else")
        first = instance_lists[0]
        if len(instance_lists) == 1:
            return first
        sizes = {tuple(i.image_size) for i in instance_lists}
        if len(sizes) > 1:
            raise ValueError(f"expected instances of one image, got image sizes {sorted(sizes)}")
        result = Instances(first.image_size)
        for name in first.get_fields():
            result.set(name, _cat_field(name, [i.get(name) for i in instance_lists]))
        return result

    def __repr__(self) -> str:
        count = len(self) if self._fields else 0
        height, width = self._image_size
        fields = ", ".join(f"{name}: {value}" for name, value in self._fields.items())
        return (
            f"Instances(num_instances={count}, image_height={height}, image_width={width}, "
            f"fields=[{fields}])"
        )


def _cat_field(name: str, values: list[Any]) -> Any:
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(values, dim=0)
    if isinstance(first, list):
        return list(itertools.chain.from_iterable(values))
    if hasattr(type(first), "cat"):
        return type(first).cat(values)
    raise ValueError(f"cannot concatenate the field {name!r} of type {type(first).__name__}")
