"""Searching one version of a gallery: exactly, or through an index with exact scores at the end.

Shapes: ``N`` rows of the version, ``n`` rows that the index covers, ``Q`` queries, ``d`` the
vector's length, ``k`` results.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from match_rcnn.retrieval.gallery.faiss import CandidateIndex
from match_rcnn.retrieval.gallery.index import GalleryIndex, ItemTable, Placed
from match_rcnn.retrieval.gallery.items import GalleryError, GalleryItem, MissingPackageError
from match_rcnn.retrieval.gallery.store import Snapshot, quoted
from match_rcnn.retrieval.prepared import PairScore, PreparedGallery
from match_rcnn.retrieval.scoring import MatchScorer, as_tensor
from match_rcnn.utils.arrays import BoolArray, Float32Array, IntArray

logger = logging.getLogger(__name__)

METHODS = ("auto", "exact", "index")
#: Of so many items or fewer, "auto" takes the exact search: it is as fast, and misses nothing.
EXACT_BELOW = 20_000
#: Of so many or fewer, the index is not asked: their own vectors beside it are read as quickly.
FEW = 4096

Predicate = Callable[[GalleryItem], bool]
#: SQL over the gallery's columns, a function of an item, or both.
Where = str | Predicate | tuple[str, Predicate]
#: (Q, k) float64 scores, falling, and (Q, k) positions.
Found = tuple[npt.NDArray[np.float64], IntArray]

# Rows that are scored at once where the whole is not kept in memory.
_BLOCK = 2**16
# For so few queries, differences are quicker than what a product needs first.
_FEW_QUERIES = 8
_CACHED = 2**16  # entries of float64 differences that stay in a processor's cache
_ASKED = 2**12  # items that a function is asked about at once
_SELECTIONS = 64  # kept
# Candidates beyond k that the index proposes, since its own order is only about right.
_WIDER = 4
_LEAST_WIDTH = 64
# Less saves no time, and would be tuned to what the queries of the gallery itself happen to be.
_LEAST_EFFORT = {"flat": 1, "ivf": 8, "hnsw": 32}


@dataclass(eq=False)
class Selection:
    """The items that a search may return.

    Attributes:
        mask: (N,) which positions.
        key: equal for equal selections of a version; None where there is no telling.
    """

    mask: BoolArray
    key: Any = None
    split: "tuple[BoolArray, Selection] | None" = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.count = int(np.count_nonzero(self.mask))

    def by_index(self, placed: Placed) -> "tuple[BoolArray, Selection]":
        """(n,) which rows of the index, and what it does not cover; kept."""
        if self.split is None:
            there = placed.positions >= 0
            inside = there.copy()
            inside[there] = self.mask[placed.positions[there]]
            outside = self.mask.copy()
            outside[placed.positions[there]] = False
            key = None if self.key is None else ("beside", self.key)
            self.split = inside, Selection(outside, key)
        return self.split


class SnapshotSearch:
    """Searches of one version.

    Args:
        load: the version's index.
        cache_bytes: how much may be kept in memory between searches; selections that need more are
            read from the disk, block by block, in every search.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        scorer: MatchScorer,
        cache_bytes: int,
        load: Callable[[], GalleryIndex],
    ) -> None:
        self.snapshot = snapshot
        self.scorer = scorer
        self.index: GalleryIndex | None = None
        self._load = load
        self._placed: Placed | None = None
        self._table: ItemTable | None = None
        self._free = cache_bytes
        self._cache: OrderedDict[Any, tuple[IntArray, PreparedGallery]] = OrderedDict()
        self._selections: OrderedDict[Any, Selection] = OrderedDict()

    def select(self, categories: tuple[str, ...] | None, where: Where | None = None) -> Selection:
        """The items of one of the categories that ``where`` lets pass.

        Raises:
            ValueError: the SQL means nothing.
        """
        sql, accept = where if isinstance(where, tuple) else (where, None)
        if callable(sql):
            sql, accept = None, sql
        key = (categories, sql)
        if key not in self._selections:
            self._selections[key] = self._ask(categories, sql)
            if len(self._selections) > _SELECTIONS:
                self._selections.popitem(last=False)
        self._selections.move_to_end(key)
        return self._selections[key] if accept is None else self._filter(key, accept)

    def _ask(self, categories: tuple[str, ...] | None, sql: str | None) -> Selection:
        conditions = [] if categories is None else [f"category IN ({quoted(categories)})"]
        conditions += [] if sql is None else [f"({sql})"]
        mask = np.full(self.snapshot.num_rows, not conditions)
        if conditions:
            mask[self.snapshot.select(" AND ".join(conditions))] = True
        return Selection(mask, (categories, sql))

    def _filter(self, key: Any, accept: Predicate) -> Selection:
        mask = np.zeros(self.snapshot.num_rows, bool)
        rows = np.flatnonzero(self._selections[key].mask)
        for start in range(0, len(rows), _ASKED):
            block = rows[start : start + _ASKED]
            mask[block] = [bool(accept(item)) for item in self.items(block)]
        return Selection(mask)

    def top_k(self, queries: Float32Array, k: int, selection: Selection, method: str) -> Found:
        """The best ``k`` of the selection, all of it if it has fewer.

        Raises:
            ValueError: an unknown method.
            GalleryError: "index", but there is none.
            MissingPackageError: "index", but FAISS is not installed.
        """
        if method not in METHODS:
            raise ValueError(f"expected a method of {', '.join(METHODS)}; got {method!r}")
        if self._takes_index(selection, method):
            return self.through(self.loaded().finder, queries, k, selection)
        return self.exact(queries, k, selection)

    def _takes_index(self, selection: Selection, method: str) -> bool:
        there = self.snapshot.state.get("index") is not None
        if method == "exact" or (
            method == "auto" and not (there and self.snapshot.num_rows > EXACT_BELOW)
        ):
            return False
        try:
            self.loaded()
        except (MissingPackageError, OSError, GalleryError) as error:
            if method == "index":
                raise
            logger.warning("searching without the index: %s", error)
            return False
        return selection.count > (FEW if method == "index" else EXACT_BELOW)

    def loaded(self) -> GalleryIndex:
        """The index, read when it is first asked for."""
        if self.index is None:
            self.index = self._load()
        return self.index

    @property
    def placed(self) -> Placed:
        if self._placed is None:
            self._placed = Placed(self.loaded(), self.snapshot)
        return self._placed

    def items(self, rows: IntArray) -> list[GalleryItem]:
        """The items at these positions, from memory or beside the index where they are."""
        if self._table is None and self._cache:
            self._table = ItemTable.of(self.snapshot)
        if not len(rows):
            return []
        if self._table is not None:
            return self.snapshot.decode(self._table.take(rows))
        if self.index is None:
            return self.snapshot.items(rows)
        inside = self.placed.rows[rows]
        found = np.empty(len(rows), object)
        near, far = np.flatnonzero(inside >= 0), np.flatnonzero(inside < 0)
        if len(near):
            found[near] = self.snapshot.decode(self.index.copy.items.take(inside[near]))
        found[far] = self.snapshot.items(rows[far])
        return list(found)

    def vectors(self, rows: IntArray) -> Float32Array:
        """(m, d) of these positions, which rise, from where they are read most quickly."""
        if (None, None) in self._cache:
            return self._cache[None, None][1].rows[torch.from_numpy(rows)].numpy()
        if self.index is None:
            return self.snapshot.vectors(rows)
        inside = self.placed.rows[rows]
        if (inside >= 0).all():
            return np.asarray(self.index.copy.vectors[inside])
        return self.snapshot.vectors(rows)

    def exact(self, queries: Float32Array, k: int, selection: Selection) -> Found:
        """The best ``k`` of the selection by :class:`MatchScorer`; ties by position."""
        cached = self._cached(selection)
        if cached is not None:
            rows, items = cached
            scores, indices = self.scorer.top_k(queries, items, k)
            return scores.numpy(), rows[indices.numpy()]
        found: Found = (np.zeros((len(queries), 0)), np.zeros((len(queries), 0), np.int64))
        rows = np.flatnonzero(selection.mask)
        if len(rows) <= _BLOCK:
            blocks = iter([(slice(None), self.vectors(rows))] if len(rows) else [])
        else:
            blocks = self.snapshot.blocks(rows, _BLOCK)
        for part, vectors in blocks:
            found = merge(found, self._top_of(queries, k, rows[part], vectors), k)
        return found

    def _cached(self, selection: Selection) -> tuple[IntArray, PreparedGallery] | None:
        """The selection's rows and vectors in memory; None where there is no room for them."""
        key = selection.key
        if key is None:
            return None
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        rows = np.flatnonzero(selection.mask)
        if len(rows) <= FEW and (self.index is not None or (None, None) in self._cache):
            return None  # read as quickly as prepared
        if not len(rows) or not self._make_room(self._size(rows)):
            return None
        items = self.scorer.prepare(self.vectors(rows), keep=True)
        self._cache[key] = rows, items
        self._free -= self._size(rows)
        return rows, items

    def _top_of(
        self, queries: Float32Array, k: int, rows: IntArray, vectors: Float32Array
    ) -> Found:
        if len(queries) > _FEW_QUERIES:
            scores, indices = self.scorer.top_k(queries, vectors, k)
            return scores.numpy(), rows[indices.numpy()]
        parts: list[Found] = []
        for query in queries:
            exact = score_vectors(self.scorer, query, vectors)
            best = np.argsort(-exact, kind="stable")[:k]
            parts.append((exact[best], rows[best]))
        shape = (len(queries), min(k, len(rows)))
        return (
            np.array([s for s, _ in parts]).reshape(shape),
            np.array([r for _, r in parts], np.int64).reshape(shape),
        )

    def _make_room(self, size: int) -> bool:
        if size > self._free + sum(self._size(rows) for rows, _ in self._cache.values()):
            return False
        while size > self._free:
            _, (rows, _) = self._cache.popitem(last=False)
            self._free += self._size(rows)
        return True

    def _size(self, rows: IntArray) -> int:
        # The vectors, and what MatchScorer.prepare makes of them.
        return len(rows) * 4 * (2 * self.scorer.dim + 1)

    def through(
        self, finder: CandidateIndex, queries: Float32Array, k: int, selection: Selection
    ) -> Found:
        """The best by the index, and by an exact search of what it does not cover."""
        inside, outside = selection.by_index(self.placed)
        positions, copy = self.placed.positions, self.loaded().copy
        wanted = min(k, int(np.count_nonzero(inside)))
        best = (
            np.full((len(queries), wanted), -np.inf),
            np.zeros((len(queries), wanted), np.int64),
        )
        for i, proposed in enumerate(propose(finder, queries, wanted, inside)):
            rows = np.flatnonzero(inside) if proposed is None else proposed
            exact = score_vectors(self.scorer, queries[i], copy.vectors[rows])
            order = np.lexsort((positions[rows], -exact))[:wanted]
            best[0][i], best[1][i] = exact[order], positions[rows[order]]
        if not outside.count:
            return best
        return merge(best, self.exact(queries, k, outside), k)

    def queries_of_its_own(self, number: int) -> IntArray:
        """Positions of some items, spread over the gallery, to measure recall with."""
        rows: IntArray = np.arange(self.snapshot.num_rows)
        if len(rows) > number:
            rows = np.sort(np.random.default_rng(1).choice(rows, number, replace=False))
        return rows

    def tune(self, k: int, target: float, number: int) -> dict[str, float | int]:
        """Give the index the least effort that reaches ``target`` recall at ``k``, and report it.

        Measured with items of the gallery itself as queries, each without itself in the results.

        Returns:
            ``effort``, ``recall``, ``k`` and ``queries`` (how many).
        """
        finder, own = self.loaded().finder, self.queries_of_its_own(number)
        k = max(1, min(k, len(own) - 1))
        queries, everything = self.vectors(own), self.select(None)
        exact = without(self.exact(queries, k + 1, everything), own, k)
        finder.effort = min(_LEAST_EFFORT[finder.kind], finder.max_effort)
        while True:
            found = without(self.through(finder, queries, k + 1, everything), own, k)
            reached = recall(found, exact)
            if reached >= target or finder.effort >= finder.max_effort:
                break
            finder.effort = min(2 * finder.effort, finder.max_effort)
        return {"effort": finder.effort, "recall": reached, "k": k, "queries": len(own)}


def propose(
    finder: CandidateIndex, queries: Float32Array, wanted: int, mask: BoolArray
) -> list[IntArray | None]:
    """At least ``wanted`` candidates of each query; None where the index finds fewer."""
    proposed: list[IntArray | None] = [np.zeros(0, np.int64)] * len(queries)
    effort, width = finder.effort, max(_WIDER * wanted, _LEAST_WIDTH)
    lacking = list(range(len(queries))) if wanted else []
    while lacking:
        effort = min(effort, finder.max_effort)
        found = finder.candidates(queries[lacking], width, mask, effort)
        for i, row in zip(lacking, found, strict=True):
            enough = (row >= 0).sum() >= wanted
            proposed[i] = row[row >= 0] if enough else None
        lacking = [i for i in lacking if proposed[i] is None]
        if effort >= finder.max_effort:
            break
        effort *= 2
    return proposed


def score_vectors(
    scorer: MatchScorer, query: Float32Array, vectors: Float32Array
) -> npt.NDArray[np.float64]:
    """(m,) exact scores of one query, (d,), with (m, d) items."""
    score, one = PairScore(scorer.weight, scorer.bias), torch.from_numpy(query)[None]
    chunks = as_tensor(vectors).split(max(1, _CACHED // scorer.dim))
    return torch.cat([score.differences(one, chunk) for chunk in chunks]).numpy()


def merge(left: Found, right: Found, k: int) -> Found:
    """The best ``k`` of two results for the same queries; of equal scores by position."""
    scores = np.concatenate([left[0], right[0]], axis=1)
    rows = np.concatenate([left[1], right[1]], axis=1)
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)


def recall(found: Found, exact: Found) -> float:
    """The mean share of the exact results that were found; an item with as good a score as the
    last of them counts as one of them. 1 where nothing is to be found."""
    if not exact[0].size:
        return 1.0
    good = found[0] >= exact[0][:, -1:]
    return float(np.minimum(good.sum(1), exact[0].shape[1]).mean() / exact[0].shape[1])


def without(found: Found, rows: IntArray, k: int) -> Found:
    """(Q, k) results without each query's own row. Args: found: of k + 1 results; rows: (Q,)."""
    others = found[1] != rows[:, None]
    # A query whose own row was not found loses its last result instead.
    others[others.all(1), -1] = False
    shape = (len(rows), found[0].shape[1] - 1)
    return found[0][others].reshape(shape)[:, :k], found[1][others].reshape(shape)[:, :k]
