"""Exact search of a gallery's snapshot, of all items or of some.

Shapes: ``N`` rows of the snapshot, ``Q`` queries, ``d`` the vector's length, ``k`` results.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from match_rcnn.retrieval.gallery.items import BoolArray, FloatArray, GalleryItem, IntArray
from match_rcnn.retrieval.gallery.storage import Snapshot
from match_rcnn.retrieval.prepared import PairScore, PreparedGallery
from match_rcnn.retrieval.scoring import MatchScorer

Predicate = Callable[[GalleryItem], bool]
#: (Q, k) float64 scores, falling, and (Q, k) rows of the snapshot.
Found = tuple[npt.NDArray[np.float64], IntArray]

# Rows that are read from the disk and scored at once where the whole is not kept in memory.
_BLOCK = 2**16
# For so few queries, differences are quicker than what a product needs first.
_FEW = 8
_CHUNK = 2**12  # rows whose differences are held at once


@dataclass(frozen=True, eq=False)
class Selection:
    """The items that a search may return.

    Attributes:
        mask: (N,) which rows.
        key: equal for equal selections of a snapshot; None where there is no telling.
    """

    mask: BoolArray
    key: tuple[int, ...] | None

    @property
    def count(self) -> int:
        return int(np.count_nonzero(self.mask))


def select(
    snapshot: Snapshot, categories: tuple[int, ...] | None, where: Predicate | None
) -> Selection:
    """The items that are there, of one of the categories, and of which ``where`` is true."""
    mask = snapshot.alive
    if categories is not None:
        mask = mask & np.isin(snapshot.categories, categories)
    if where is None:
        return Selection(mask, categories or ())
    mask = mask.copy()
    for row in np.flatnonzero(mask).tolist():
        mask[row] = bool(where(snapshot.item(row)))
    return Selection(mask, None)


class ExactSearch:
    """The best items by :class:`MatchScorer`, in memory where they fit.

    Args:
        cache_bytes: how much may be kept in memory between searches; selections that need more are
            read from the disk, block by block, in every search.
    """

    def __init__(self, snapshot: Snapshot, scorer: MatchScorer, cache_bytes: int) -> None:
        self.snapshot = snapshot
        self.scorer = scorer
        self._free = cache_bytes
        self._cache: OrderedDict[tuple[int, ...], tuple[IntArray, PreparedGallery]] = OrderedDict()

    def top_k(self, queries: FloatArray, k: int, selection: Selection) -> Found:
        """The best ``k`` of the selection, all of it if it has fewer; ties by row."""
        cached = self._cached(selection)
        if cached is not None:
            rows, items = cached
            scores, indices = self.scorer.top_k(queries, items, k)
            return scores.numpy(), rows[indices.numpy()]
        found: Found = (np.zeros((len(queries), 0)), np.zeros((len(queries), 0), np.int64))
        rows = np.flatnonzero(selection.mask)
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            found = merge(found, self._block_top_k(queries, k, block), k)
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
        if not len(rows) or not self._make_room(self._size(rows)):
            return None
        items = self.scorer.prepare(self.snapshot.vectors(rows), keep=True)
        self._cache[key] = rows, items
        self._free -= self._size(rows)
        return rows, items

    def _block_top_k(self, queries: FloatArray, k: int, rows: IntArray) -> Found:
        vectors = self.snapshot.vectors(rows)
        if len(queries) > _FEW:
            scores, indices = self.scorer.top_k(queries, vectors, k)
            return scores.numpy(), rows[indices.numpy()]
        parts: list[Found] = []
        for query in queries:
            exact = score_vectors(self.scorer, query, vectors)
            best = np.argsort(-exact, kind="stable")[:k]
            parts.append((exact[best], rows[best]))
        return np.stack([s for s, _ in parts]), np.stack([r for _, r in parts])

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


def score_vectors(
    scorer: MatchScorer, query: FloatArray, vectors: FloatArray
) -> npt.NDArray[np.float64]:
    """(m,) exact scores of one query, (d,), with (m, d) items."""
    score, one = PairScore(scorer.weight, scorer.bias), torch.from_numpy(query)[None]
    chunks = torch.from_numpy(vectors).split(_CHUNK)
    return torch.cat([score.differences(one, chunk) for chunk in chunks]).numpy()


def merge(left: Found, right: Found, k: int) -> Found:
    """The best ``k`` of two results for the same queries; of equal scores the left one's first."""
    scores = np.concatenate([left[0], right[0]], axis=1)
    rows = np.concatenate([left[1], right[1]], axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)
