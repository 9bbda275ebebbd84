"""Landmarks and masks of COCO files as columns.

Shapes used below: ``N`` items, ``n`` landmarks of a category, ``L`` of all (DeepFashion2: 294).

A dense list of 3L numbers is zero outside the category. Where it comes as text, the zeros are cut
off as text, so that nine tenths of a dense file are compared, not parsed.
"""

import math
from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, pairwise
from typing import Any

import numpy as np
import orjson

from match_rcnn.data.taxonomy import Taxonomy
from match_rcnn.utils.arrays import FloatArray, IntArray
from match_rcnn.utils.columns import Entries

_FLAT = "must be a flat list of finite numbers"


@dataclass(frozen=True)
class Landmarks:
    """Landmarks of N items, each with those of its category only.

    Attributes:
        rows: (N,) an item's row in its category's table, -1: it has none.
        tables: by category id, (M, n, 3) x, y, visibility.
        foreign: by item, all (L, 3) of a dense list that is not zero outside the category.
    """

    rows: IntArray
    tables: dict[int, FloatArray]
    foreign: dict[int, FloatArray]

    def of(self, item: int, category_id: int) -> FloatArray | None:
        """(n, 3) of an item (a view)."""
        row = self.rows[item]
        return None if row < 0 else self.tables[category_id][row]

    def labelled(self, category_ids: IntArray) -> IntArray:
        """(N,) how many landmarks of each item are labelled (v > 0). Args: category_ids: (N,)."""
        counts: IntArray = np.zeros(len(self.rows), dtype=np.int64)
        for category_id, table in self.tables.items():
            members = np.flatnonzero((category_ids == category_id) & (self.rows >= 0))
            counts[members] = (table[self.rows[members], :, 2] > 0).sum(1)
        return counts

    def take(self, index: IntArray) -> "Landmarks":
        """Those of some items."""
        places = enumerate(index.tolist() if self.foreign else ())
        foreign = {new: self.foreign[old] for new, old in places if old in self.foreign}
        return Landmarks(self.rows[index], self.tables, foreign)


#: Some items of a batch, all of one category: its id, their places in the batch, and (M, n, 3).
Group = tuple[int, IntArray, FloatArray]


class LandmarkColumns:
    """Collects the ``keypoints`` of batches."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        self.taxonomy = taxonomy
        self._number = 0
        self._rows: list[IntArray] = []
        self._tables: dict[int, list[FloatArray]] = defaultdict(list)
        self._foreign: dict[int, FloatArray] = {}

    def parse(self, entries: Entries, category_ids: IntArray) -> list[Group]:
        """The ``keypoints`` of a batch, by category; entries without any are left out.

        Args:
            category_ids: (N,).

        Raises:
            ValueError: the message names the entry and what is wrong.
        """
        values = [item.get("keypoints") or None for item in entries.items]
        values = _cut_zeros(values, category_ids, self.taxonomy)
        lists = parse_lists(entries, "keypoints", values)
        groups = []
        for category_id in np.unique(category_ids).tolist():
            members = np.flatnonzero(category_ids == category_id)
            members = members[[lists[i] is not None for i in members.tolist()]]
            groups.append((category_id, members, self._table(entries, category_id, members, lists)))
        return groups

    def newest_foreign(self) -> list[tuple[int, FloatArray]]:
        """Of the batch that was parsed and not yet added: place and (L, 3)."""
        whole = self._foreign.items()
        return [(i - self._number, points) for i, points in whole if i >= self._number]

    def add(self, number: int, groups: Iterable[Group]) -> None:
        """Append a batch. Args: number: N."""
        rows: IntArray = np.full(number, -1, dtype=np.int64)
        for category_id, members, table in groups:
            if table.size:
                known = self._tables[category_id]
                rows[members] = np.arange(len(table)) + sum(map(len, known))
                known.append(table)
        self._rows.append(rows)
        self._number += number

    def _table(
        self, entries: Entries, category_id: int, members: IntArray, lists: list[Any]
    ) -> FloatArray:
        """(M, n, 3) of the members, all of one category."""
        try:
            category = self.taxonomy.category(category_id)
        except ValueError as error:
            raise entries.error(int(members[0]) if len(members) else 0, str(error)) from error
        compact, dense = 3 * category.num_landmarks, 3 * self.taxonomy.num_landmarks
        own = []
        for i in members.tolist():
            numbers = lists[i]
            if not isinstance(numbers, list) or len(numbers) not in (compact, dense):
                raise entries.error(i, self._expected(category_id, numbers))
            if len(numbers) != compact:
                before, after = 3 * category.slice.start, 3 * category.slice.stop
                if numbers[:before] + numbers[after:] != [0] * (dense - compact):
                    whole = _floats(entries, "keypoints", [numbers], [i])
                    self._foreign[self._number + i] = whole.reshape(-1, 3)
                numbers = numbers[before:after]
            own.append(numbers)
        flat = _floats(entries, "keypoints", own, members.tolist())
        return flat.reshape(len(own), category.num_landmarks, 3)

    def _expected(self, category_id: int, numbers: Any) -> str:
        if not isinstance(numbers, list):
            return f"keypoints {_FLAT}"
        category = self.taxonomy.category(category_id)
        return (
            f"expected keypoints of length 3*{self.taxonomy.num_landmarks} (dense) or "
            f"3*{category.num_landmarks} (compact) for category {category_id} "
            f"({category.name!r}), got {len(numbers)}"
        )

    def build(self) -> Landmarks:
        tables = {c: np.concatenate(parts) for c, parts in self._tables.items() if parts}
        rows = np.concatenate([np.zeros(0, dtype=np.int64), *self._rows])
        return Landmarks(rows, tables, self._foreign)


def _cut_zeros(values: list[Any], category_ids: IntArray, taxonomy: Taxonomy) -> list[Any]:
    """Dense lists that came as text become compact ones where the rest is all zeros."""
    first = next((v for v in values if type(v) is bytes), None)
    if first is None:
        return values
    comma = b", " if b", " in first else b","
    zero = b"0.0" if comma.join([b"0.0"] * 3) in first else b"0"
    around = zeros_around(taxonomy, zero, comma)
    cut = []
    for value, category_id in zip(values, category_ids.tolist(), strict=True):
        before, after, commas = around.get(category_id, (b"", b"", -1))
        if type(value) is bytes and value.startswith(before) and value.endswith(after):
            middle = value[len(before) : len(value) - len(after)]
            value = middle if middle.count(b",") == commas else value
        cut.append(value)
    return cut


@lru_cache(maxsize=8)
def zeros_around(
    taxonomy: Taxonomy, zero: bytes = b"0", comma: bytes = b","
) -> dict[int, tuple[bytes, bytes, int]]:
    """By category id: what a dense list has before and after the category's own numbers, and the
    commas between those."""
    return {
        c.id: (
            (zero + comma) * (3 * c.slice.start),
            (comma + zero) * (3 * (taxonomy.num_landmarks - c.slice.stop)),
            3 * c.num_landmarks - 1,
        )
        for c in taxonomy.categories
    }


def parse_lists(entries: Entries, key: str, values: Sequence[Any], depth: int = 1) -> list[Any]:
    """The values with those that are text parsed (see ``stream_arrays``, ``lift``)."""
    opening, closing = b"[" * depth, b"]" * depth
    texts = [value for value in values if type(value) is bytes]
    try:
        joined = (closing + b"," + opening).join(texts)
        parsed = iter(orjson.loads(b"[" + opening + joined + closing + b"]") if texts else [])
    except orjson.JSONDecodeError:
        for index, value in enumerate(values):
            if type(value) is bytes and not _is_json(opening + value + closing):
                raise entries.error(index, f"{key} {_FLAT}") from None
        raise AssertionError("a bad text without a bad entry") from None
    return [next(parsed) if type(value) is bytes else value for value in values]


def _is_json(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _floats(entries: Entries, key: str, lists: Sequence[Any], places: Iterable[int]) -> FloatArray:
    """All numbers of the lists, one list after the other. Args: places: of each in the batch."""
    try:
        flat = np.frombuffer(array("d", list(chain.from_iterable(lists))), dtype=np.float64)
        if np.isfinite(flat).all():
            return flat
    except (TypeError, OverflowError):
        pass
    for place, own in zip(places, lists, strict=True):
        if type(own) is not list or not all(map(_is_number, own)):
            raise entries.error(place, f"{key} {_FLAT}")
    raise AssertionError("a bad number without a bad list")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


class Segmentations(Sequence[Any]):
    """The masks of N items: each a list of polygons (float64 arrays x, y, x, y, ..., views of one
    array), what else the file has (a run-length mask, say), or None."""

    def __init__(
        self, numbers: FloatArray, ends: IntArray, polygons: IntArray, others: dict[int, Any]
    ) -> None:
        """
        Args:
            numbers: of all polygons.
            ends: (P + 1,) where each polygon's numbers begin and the last one's end.
            polygons: (N + 1,) likewise, where each item's polygons begin.
            others: by item, what is no list of polygons.
        """
        self.numbers = numbers
        self.ends = ends
        self.polygons = polygons
        self.others = others

    def __len__(self) -> int:
        return len(self.polygons) - 1

    def __getitem__(self, item: Any) -> Any:
        if item in self.others:
            return self.others[item]
        first, last = self.polygons[item : item + 2].tolist()
        ends = self.ends[first : last + 1].tolist()
        return [self.numbers[a:b] for a, b in pairwise(ends)]


class SegmentationColumns:
    """Collects the ``segmentation`` of batches."""

    def __init__(self) -> None:
        self._numbers: list[FloatArray] = []
        self._lengths: list[int] = []  # of polygons
        self._counts: list[int] = []  # polygons of items
        self._others: dict[int, Any] = {}

    def add(self, entries: Entries) -> None:
        """Take a batch.

        Raises:
            ValueError: the message names the entry and what is wrong.
        """
        values = [item.get("segmentation") for item in entries.items]
        items = parse_lists(entries, "a polygon of segmentation", values, depth=2)
        for index, polygons in enumerate(items):
            if not isinstance(polygons, list):
                self._others[entries.start + index] = polygons
                items[index] = []
            elif not all(isinstance(polygon, list) for polygon in polygons):
                raise entries.error(
                    index, "a polygon of segmentation is not a list of finite numbers"
                )
        polygons = list(chain.from_iterable(items))
        counts = [len(own) for own in items]
        places = np.repeat(np.arange(len(items)), counts).tolist()
        self._numbers.append(_floats(entries, "a polygon of segmentation", polygons, places))
        self._lengths += map(len, polygons)
        self._counts += counts

    def build(self) -> Segmentations:
        numbers = np.concatenate([np.zeros(0), *self._numbers])
        ends, polygons = (
            np.append(0, np.cumsum(np.array(own, dtype=np.int64)))
            for own in (self._lengths, self._counts)
        )
        return Segmentations(numbers, ends, polygons, self._others)
