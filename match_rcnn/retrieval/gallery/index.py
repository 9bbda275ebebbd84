"""Searching a snapshot: exactly, or through its FAISS index with exact scores at the end.

Shapes: ``N`` rows of the snapshot, ``Q`` queries, ``d`` the vector's length, ``k`` results.
"""

import logging
from functools import cached_property

import numpy as np

from match_rcnn.retrieval.gallery.faiss import CandidateIndex, MissingPackageError, read_index
from match_rcnn.retrieval.gallery.items import BoolArray, FloatArray, GalleryError, IntArray
from match_rcnn.retrieval.gallery.search import (
    ExactSearch,
    Found,
    Predicate,
    Selection,
    merge,
    score_vectors,
    select,
)
from match_rcnn.retrieval.gallery.storage import Snapshot
from match_rcnn.retrieval.scoring import MatchScorer

logger = logging.getLogger(__name__)

METHODS = ("auto", "exact", "index")
#: Of so many items or fewer, "auto" takes the exact search: it is as fast, and misses nothing.
EXACT_BELOW = 20_000

# Candidates beyond k that the index proposes, since its own order is only about right.
_WIDER = 4
_LEAST_WIDTH = 64
# Less saves no time, and would be tuned to what the queries of the gallery itself happen to be.
_LEAST_EFFORT = {"flat": 1, "ivf": 8, "hnsw": 32}


class SnapshotSearch:
    """Searches of one state of a gallery.

    Args:
        cache_bytes: see :class:`ExactSearch`.
    """

    def __init__(self, snapshot: Snapshot, scorer: MatchScorer, cache_bytes: int) -> None:
        self.snapshot = snapshot
        self.scorer = scorer
        self.exact = ExactSearch(snapshot, scorer, cache_bytes)
        self._selections: dict[tuple[int, ...] | None, Selection] = {}

    def select(
        self, categories: tuple[int, ...] | None, where: Predicate | None = None
    ) -> Selection:
        """The items that a search may return."""
        if where is not None:
            return select(self.snapshot, categories, where)
        if categories not in self._selections:
            self._selections[categories] = select(self.snapshot, categories, None)
        return self._selections[categories]

    def top_k(self, queries: FloatArray, k: int, selection: Selection, method: str) -> Found:
        """The best ``k`` of the selection, all of it if it has fewer.

        Raises:
            ValueError: an unknown method.
            GalleryError: "index", but there is none.
            MissingPackageError: "index", but FAISS is not installed.
        """
        if method not in METHODS:
            raise ValueError(f"expected a method of {', '.join(METHODS)}; got {method!r}")
        if self._takes_index(selection, method):
            return self.through(self.index, queries, k, selection)
        return self.exact.top_k(queries, k, selection)

    @cached_property
    def index(self) -> CandidateIndex:
        """
        Raises:
            GalleryError: there is none.
            MissingPackageError: FAISS is not installed.
            FileNotFoundError: the gallery has gone on, and this state's index is deleted.
        """
        info = self.snapshot.manifest.index
        if info is None:
            raise GalleryError(
                f"{self.snapshot.folder} has no index to search through; build_index() makes one"
            )
        path = self.snapshot.folder / info["file"]
        index = read_index(path, info["kind"], self.scorer, info["settings"])
        index.effort = info["effort"]
        return index

    def keep_index_of(self, older: "SnapshotSearch") -> None:
        """Take over an index that an older state has loaded, where it is the same."""
        mine, theirs = self.snapshot.manifest.index, older.snapshot.manifest.index
        if mine is not None and mine == theirs and "index" in vars(older):
            self.index = older.index

    def _takes_index(self, selection: Selection, method: str) -> bool:
        if method != "auto":
            return method == "index"
        if self.snapshot.manifest.index is None or selection.count <= EXACT_BELOW:
            return False
        try:
            return bool(self.index)
        except (MissingPackageError, FileNotFoundError) as error:
            logger.warning("searching without the index: %s", error)
            return False

    def covered(self, info: dict[str, object] | None = None) -> slice:
        """The rows of the segment that an index covers; none where there is no index."""
        info = info or self.snapshot.manifest.index or {}
        for segment, start in zip(self.snapshot.segments, self.snapshot.starts, strict=False):
            if segment.name == info.get("segment"):
                return slice(int(start), int(start) + segment.rows)
        return slice(0, 0)

    def through(
        self,
        index: CandidateIndex,
        queries: FloatArray,
        k: int,
        selection: Selection,
        rows: slice | None = None,
    ) -> Found:
        """The best by the index, and by an exact search of the rows that it does not cover."""
        rows = rows or self.covered()
        inside, outside = selection.mask[rows], selection.mask.copy()
        outside[rows] = False
        wanted = min(k, int(np.count_nonzero(inside)))
        scores, found = np.full((len(queries), wanted), -np.inf), np.zeros((len(queries), wanted))
        best = (scores, found.astype(np.int64))
        for i, proposed in enumerate(self._propose(index, queries, wanted, inside)):
            if proposed is None:
                own = np.zeros_like(selection.mask)
                own[rows] = inside
                whole = self.exact.top_k(queries[i : i + 1], wanted, Selection(own, None))
                best[0][i], best[1][i] = whole[0][0], whole[1][0]
                continue
            vectors = self.snapshot.vectors(proposed + rows.start)
            exact = score_vectors(self.scorer, queries[i], vectors)
            order = np.lexsort((proposed, -exact))[:wanted]
            best[0][i], best[1][i] = exact[order], proposed[order] + rows.start
        if not outside.any():
            return best
        key = None if selection.key is None else (-1, *selection.key)
        return merge(best, self.exact.top_k(queries, k, Selection(outside, key)), k)

    @staticmethod
    def _propose(
        index: CandidateIndex,
        queries: FloatArray,
        wanted: int,
        mask: BoolArray,
    ) -> list[IntArray | None]:
        """At least ``wanted`` candidates of each query; None where the index finds fewer."""
        proposed: list[IntArray | None] = [np.zeros(0, np.int64)] * len(queries)
        if not wanted:
            return proposed
        effort = index.effort
        width = max(_WIDER * wanted, _LEAST_WIDTH)
        lacking = list(range(len(queries)))
        while lacking:
            effort = min(effort, index.max_effort)
            found = index.candidates(queries[lacking], width, mask, effort)
            for i, row in zip(lacking, found, strict=True):
                enough = (row >= 0).sum() >= wanted
                proposed[i] = row[row >= 0] if enough else None
            lacking = [i for i in lacking if proposed[i] is None]
            if effort >= index.max_effort:
                break
            effort *= 2
        return proposed

    def queries_of_its_own(self, number: int) -> IntArray:
        """Rows of some items, spread over the gallery, to measure recall with."""
        rows = np.flatnonzero(self.snapshot.alive)
        if len(rows) > number:
            rows = np.sort(np.random.default_rng(1).choice(rows, number, replace=False))
        return rows


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


def tune(
    search: SnapshotSearch,
    index: CandidateIndex,
    rows: slice,
    *,
    k: int,
    target: float,
    number: int,
) -> dict[str, float | int]:
    """Give the index the least effort that reaches ``target`` recall at ``k``, and report it.

    Measured with items of the gallery itself as queries, each without itself in the results.

    Returns:
        ``effort``, ``recall``, ``k`` and ``queries`` (how many).
    """
    own = search.queries_of_its_own(number)
    k = max(1, min(k, len(own) - 1))
    queries, everything = search.snapshot.vectors(own), search.select(None)
    exact = without(search.exact.top_k(queries, k + 1, everything), own, k)
    index.effort = min(_LEAST_EFFORT[index.kind], index.max_effort)
    while True:
        found = without(search.through(index, queries, k + 1, everything, rows), own, k)
        reached = recall(found, exact)
        if reached >= target or index.effort >= index.max_effort:
            break
        index.effort = min(2 * index.effort, index.max_effort)
    return {"effort": index.effort, "recall": reached, "k": k, "queries": len(own)}
