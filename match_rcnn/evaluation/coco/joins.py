"""Which entries of integer columns are equal."""

from collections.abc import Sequence

import numpy as np

from match_rcnn.data.taxonomy import IntArray


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
