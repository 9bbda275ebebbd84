"""The entries of a JSON list as columns, with one clear error for what does not fit."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from match_rcnn.data.taxonomy import FloatArray, IntArray
from match_rcnn.utils.json_stream import stream_arrays


class Entries:
    """A batch of objects of a file.

    Args:
        items: the objects.
        start: how many came before in the file.
        place: what messages name, such as ``"results.json, entry"``.
    """

    def __init__(self, items: Sequence[Any], start: int, place: str) -> None:
        self.items = items
        self.start = start
        self.place = place

    def error(self, index: int, reason: str) -> ValueError:
        """What is wrong with the ``index``-th of the batch."""
        return ValueError(f"{self.place} {self.start + index} (from 0): {reason}")

    def column(self, key: str) -> list[Any]:
        """Every entry's ``key``; an error where it is missing."""
        try:
            return [item[key] for item in self.items]
        except (KeyError, TypeError):
            index, item = next(
                (i, x) for i, x in enumerate(self.items) if not isinstance(x, dict) or key not in x
            )
            if not isinstance(item, dict):
                raise self.error(index, f"expected an object, got {item!r:.60}") from None
            has = ", ".join(map(repr, item))
            raise self.error(index, f"missing key {key!r}; it has {has}") from None

    def numbers(self, key: str, width: int | None = None) -> FloatArray:
        """(N,) or (N, width) finite numbers; an error where they are not."""
        shape = (len(self.items),) if width is None else (len(self.items), width)
        values = self.column(key)
        array = as_numbers(values)
        if array is not None and array.shape == shape:
            return array
        if not values:
            return np.zeros(shape)
        wanted = "a finite number" if width is None else f"{width} finite numbers"
        for index, value in enumerate(values):
            one = as_numbers([value])
            if one is None or one.shape[1:] != shape[1:]:
                raise self.error(index, f"{key} must be {wanted}, got {value!r:.60}")
        raise AssertionError("a bad column without a bad entry")

    def integers(self, key: str) -> IntArray:
        """(N,) whole numbers; an error where they are not."""
        array = self.numbers(key)
        whole = array.astype(np.int64)
        for index in np.flatnonzero(whole != array):
            raise self.error(int(index), f"{key} must be a whole number, got {array[index]}")
        return whole


def stream_list(path: str | Path) -> Iterator[list[Any]]:
    """Batches of the entries of a file that is one list.

    Raises:
        FileNotFoundError, ValueError: it is not there, or something else; the message names it.
    """
    seen = False
    for key, items in stream_arrays(path):
        if key is not None:
            raise ValueError(f"{path}: expected a list of entries, got an object with {key!r}")
        seen = True
        yield items
    if not seen:
        raise ValueError(f"{path}: expected a list of entries, got an object without a list")


def as_numbers(values: list[Any]) -> FloatArray | None:
    """The array of a (nested) list, ``None`` if it is ragged or not of finite numbers."""
    try:
        array = np.asarray(values)
    except ValueError:
        return None
    if array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        return None
    return array.astype(np.float64)
