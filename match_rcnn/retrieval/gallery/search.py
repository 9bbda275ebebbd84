"""Searching one version of a gallery: exactly, or through an index with exact scores at the end.

Shapes: ``N`` rows of the version, ``n`` rows that the index covers, ``Q`` queries, ``d`` the
vector's length, ``k`` results.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from match_rcnn.modeling.similarity import CATEGORY
from match_rcnn.retrieval.gallery.index import GalleryIndex
from match_rcnn.retrieval.gallery.items import GalleryError, GalleryItem, MissingPackageError
from match_rcnn.retrieval.gallery.store import BLOCK, OWN, Snapshot, quoted
from match_rcnn.retrieval.scoring import MatchScorer, PreparedGallery
from match_rcnn.utils.arrays import BoolArray, Float32Array, FloatArray, IntArray

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
Found = tuple[FloatArray, IntArray]

_ALL = (None, None)  # the key of the selection of everything
_ASKED = 2**12  # items that a function is asked about at once
_SELECTIONS = 16  # kept
# Less saves no time, and would be tuned to what the queries of the gallery itself happen to be.
_LEAST_EFFORT = {"flat": 1, "ivf": 8, "hnsw": 32}


@dataclass(eq=False)
class Selection:
    """The items that a search may return: their positions, rising; a key that equal selections of a
    version share, if that can be told; and, once it was asked for, which rows of the index they are
    (n,), and what it does not cover."""

    rows: IntArray
    key: Any = None
    split: "tuple[BoolArray, Selection] | None" = None


def _select(snapshot: Snapshot, categories: tuple[str, ...] | None, sql: str | None) -> Selection:
    conditions = [] if categories is None else [f"category IN ({quoted(categories)})"]
    conditions += [] if sql is None else [f"({sql})"]
    asked = " AND ".join(conditions)
    rows = snapshot.select(asked) if asked else np.arange(snapshot.num_rows)
    return Selection(rows, (categories, sql))


class SnapshotSearch:
    """Searches of one version. Args: load: its index; cache_bytes: what may be kept in memory
    between searches: selections that need more are read from the disk, block by block, in each."""

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
        self._table: Any = None
        self._cache_bytes = cache_bytes
        self._cache: dict[Any, PreparedGallery] = {}
        # Not of a method: a cycle of references would keep what is cached for long.
        self._selected = lru_cache(maxsize=_SELECTIONS)(partial(_select, snapshot))

    def select(self, categories: tuple[str, ...] | None, where: Where | None = None) -> Selection:
        """The items of the categories that ``where`` lets pass. Raises: ValueError: wrong SQL."""
        sql, accept = where if isinstance(where, tuple) else (where, None)
        if callable(sql):
            sql, accept = None, sql
        found = self._selected(categories, sql)
        if accept is None:
            return found
        blocks = [found.rows[i : i + _ASKED] for i in range(0, len(found.rows), _ASKED)]
        passed = [bool(accept(item)) for block in blocks for item in self.items(block)]
        return Selection(found.rows[np.array(passed, bool)])

    def top_k(self, queries: Float32Array, k: int, selection: Selection, method: str) -> Found:
        """The best ``k`` of the selection, all of it if it has fewer. Raises: ValueError, or what
        :meth:`loaded` does, for "index"."""
        if method not in METHODS:
            raise ValueError(f"expected a method of {', '.join(METHODS)}; got {method!r}")
        there = "index" in self.snapshot.state and self.snapshot.num_rows > EXACT_BELOW
        if method == "index" or (method == "auto" and there):
            try:
                self.loaded()
                if len(selection.rows) > (FEW if method == "index" else EXACT_BELOW):
                    return self.through(queries, k, selection)
            except (MissingPackageError, OSError, GalleryError) as error:
                if method == "index":
                    raise
                logger.warning("searching without the index: %s", error)
        return self.exact(queries, k, selection)

    def loaded(self) -> GalleryIndex:
        """The index, read when it is first asked for."""
        if self.index is None:
            self.index = self._load()
        return self.index

    @cached_property
    def placed(self) -> tuple[IntArray, IntArray]:
        """(n,) where the rows of the index are in the version, -1 for those that are gone; and (N,)
        where the version's are in the index, -1 for those that it does not cover."""
        positions = self.snapshot.positions(self.loaded().row_ids)
        rows, there = np.full(self.snapshot.num_rows, -1, np.int64), positions >= 0
        rows[positions[there]] = np.flatnonzero(there)
        return positions, rows

    def items(self, rows: IntArray) -> list[GalleryItem]:
        """The items at these positions, from memory or beside the index where they are."""
        if self._table is None and self._cache:
            self._table = self.snapshot.table(OWN)
        if self._table is not None:
            return self._picked(self._table, rows)
        inside = np.full(len(rows), -1) if self.index is None else self.placed[1][rows]
        found = np.empty(len(rows), object)
        near = inside >= 0
        if self.index is not None:
            found[near] = self._picked(self.index.items, inside[near])
        if not near.all():
            found[~near] = self.snapshot.decode(self.snapshot.take(rows[~near], OWN))
        return list(found)

    def _picked(self, table: Any, rows: IntArray) -> list[GalleryItem]:
        # A take of Arrow's own may join all chunks of a table first.
        return [self.snapshot.decode(table.slice(row, 1))[0] for row in rows.tolist()]

    def vectors(self, rows: IntArray, name: str = "vector") -> npt.NDArray[Any]:
        """(m, d) of these positions, from where they are read most quickly; or (m, *shape) of
        another feature, among them the categories' indices."""
        if name == CATEGORY:
            kinds = [item.category for item in self.items(rows)]
            return np.array([self.snapshot.taxonomy.index(k.id) if k else -1 for k in kinds])
        if name != "vector":
            return self.snapshot.vectors(rows, name)
        if _ALL in self._cache:
            return self._cache[_ALL].rows[torch.from_numpy(rows)].numpy()
        inside = np.full(1, -1) if self.index is None else self.placed[1][rows]
        if self.index is not None and (inside >= 0).all():
            return np.asarray(self.index.vectors[inside])
        return self.snapshot.vectors(rows)

    def exact(self, queries: Float32Array, k: int, selection: Selection) -> Found:
        """The best ``k`` of the selection by :class:`MatchScorer`; ties by position."""
        kept = self._kept(selection)
        if kept is not None:
            scores, indices = self.scorer.top_k(queries, kept, k)
            return scores.numpy(), selection.rows[indices.numpy()]
        found: Found = (np.zeros((len(queries), 0)), np.zeros((len(queries), 0), np.int64))
        for start in range(0, len(selection.rows), BLOCK):
            rows = selection.rows[start : start + BLOCK]
            scores, indices = self.scorer.top_k(queries, self.vectors(rows), k)
            found = merge(found, (scores.numpy(), rows[indices.numpy()]), k)
        return found

    def _kept(self, selection: Selection) -> PreparedGallery | None:
        """The selection's vectors in memory; None where there is no room for them."""
        key, number = selection.key, len(selection.rows)
        if key is None:
            return None
        if key in self._cache:
            return self._cache[key]
        if number <= FEW and (self.index is not None or _ALL in self._cache):
            return None  # read as quickly as prepared
        # The vectors, and what MatchScorer.prepare makes of them.
        room = self._cache_bytes // (4 * (2 * self.scorer.dim + 1)) - number
        if not number or room < 0:
            return None
        while sum(map(len, self._cache.values())) > room:
            self._cache.pop(next(iter(self._cache)))
        self._cache[key] = self.scorer.prepare(self.vectors(selection.rows), keep=True)
        return self._cache[key]

    def through(self, queries: Float32Array, k: int, selection: Selection) -> Found:
        """The best by the index, and by an exact search of what it does not cover."""
        index, (positions, rows) = self.loaded(), self.placed
        if selection.split is None:
            chosen = rows[selection.rows]
            mask: BoolArray = np.zeros(len(positions), bool)
            mask[chosen[chosen >= 0]] = True
            key = None if selection.key is None else ("beside", selection.key)
            selection.split = mask, Selection(selection.rows[chosen < 0], key)
        inside, outside = selection.split
        wanted = min(k, int(np.count_nonzero(inside)))
        scores = np.full((len(queries), wanted), -np.inf)
        found = np.zeros((len(queries), wanted), np.int64)
        for i, proposed in enumerate(index.propose(queries, wanted, inside) if wanted else []):
            near = np.flatnonzero(inside) if proposed is None else proposed
            near = near[np.argsort(positions[near])]
            exact = self.scorer.top_k(queries[i : i + 1], index.vectors[near], wanted)
            scores[i], best = exact.scores[0].numpy(), exact.indices[0].numpy()
            found[i] = positions[near[best]]
        if not len(outside.rows):
            return scores, found
        return merge((scores, found), self.exact(queries, k, outside), k)

    def tune(self, k: int, target: float, number: int) -> dict[str, float | int]:
        """Give the index the least effort that reaches ``target`` recall at ``k``, and report it:
        with items of the gallery itself as queries, each without itself in the results."""
        index, own = self.loaded(), np.arange(self.snapshot.num_rows)
        if len(own) > number:
            own = np.sort(np.random.default_rng(1).choice(own, number, replace=False))
        k = max(1, min(k, len(own) - 1))
        queries, everything = self.vectors(own), self.select(None)
        exact = without(self.exact(queries, k + 1, everything), own, k)
        index.effort = min(_LEAST_EFFORT[index.kind], index.max_effort)
        while True:
            found = without(self.through(queries, k + 1, everything), own, k)
            reached = recall(found, exact)
            if reached >= target or index.effort >= index.max_effort:
                break
            index.effort = min(2 * index.effort, index.max_effort)
        return {"effort": index.effort, "recall": reached, "k": k, "queries": len(own)}


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
