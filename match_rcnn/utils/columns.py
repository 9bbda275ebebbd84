"""The entries of a JSON list as columns, with one clear error for what does not fit; and which
entries of columns are equal."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from match_rcnn.utils.arrays import FloatArray, IntArray
from match_rcnn.utils.json_stream import Lift, stream_arrays


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


def stream_list(path: str | Path, lift: Lift | None = None) -> Iterator[list[Any]]:
    """Batches of the entries of a file that is one list. Args: lift: as in ``stream_arrays``.

    Raises:
        FileNotFoundError, ValueError: it is not there, or something else; the message names it.
    """
    seen = False
    for key, items in stream_arrays(path, lift=lift):
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


def find(known: IntArray, asked: IntArray) -> IntArray:
    """(N,) places of ``asked`` in the rising ``known``, -1 where it is not there."""
    if len(known) == 0:
        return np.full(len(asked), -1, dtype=np.int64)
    place = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    return np.where(known[place] == asked, place, -1)


def join(known: IntArray, asked: IntArray) -> tuple[IntArray, IntArray]:
    """All pairs of equal values, as indices: first into ``asked``, rising, then into ``known``,
    which must rise."""
    first = np.searchsorted(known, asked, side="left")
    counts = np.searchsorted(known, asked, side="right") - first
    place = np.repeat(np.arange(len(asked)), counts)
    within = np.arange(len(place)) - np.repeat(np.cumsum(counts) - counts, counts)
    return place, first[place] + within


def joint_codes(known: Sequence[IntArray], asked: Sequence[IntArray]) -> tuple[IntArray, IntArray]:
    """One number for each row of several columns, equal where the rows are; -1 for rows of
    ``asked`` that ``known`` cannot have."""
    codes: IntArray = np.zeros(len(known[0]), dtype=np.int64)
    wanted: IntArray = np.zeros(len(asked[0]), dtype=np.int64)
    lost = np.zeros(len(asked[0]), dtype=bool)
    for column, asked_column in zip(known, asked, strict=True):
        values, inverse = np.unique(column, return_inverse=True)
        place = find(values, asked_column)
        lost |= place < 0
        codes, wanted = codes * len(values) + inverse, wanted * len(values) + place
    return codes, np.where(lost, -1, wanted)
