"""A gallery as its readers see it.

Shapes: ``d`` the embedding's length, ``Q`` queries, ``k`` results of a query.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from match_rcnn.retrieval.gallery.export import export_parquet
from match_rcnn.retrieval.gallery.index import SnapshotSearch, recall
from match_rcnn.retrieval.gallery.items import (
    CategoryFilter,
    Fingerprint,
    FloatArray,
    GalleryError,
    GalleryItem,
    Hit,
    IntArray,
    parse_filter,
)
from match_rcnn.retrieval.gallery.search import Predicate
from match_rcnn.retrieval.gallery.storage import Manifest, Snapshot
from match_rcnn.retrieval.scoring import MatchScorer

CACHE_BYTES = 512 * 1024 * 1024

_Self = TypeVar("_Self", bound="GalleryReader")


class GalleryReader:
    """Items with stable ids, their metadata and vectors, to look at and to search.

    An object shows one state of the gallery, that of its opening or its last :meth:`refresh`,
    whatever other processes do to it. An object is for one thread.
    """

    def __init__(self, folder: str | Path, cache_bytes: int = CACHE_BYTES) -> None:
        self.folder = Path(folder)
        self._cache_bytes = cache_bytes
        self._snapshot = Snapshot.newest(self.folder)
        manifest = self._snapshot.manifest
        #: Scores a query with an item.
        self.scorer = MatchScorer(np.array(manifest.weight, np.float64), manifest.bias)
        self._search = SnapshotSearch(self._snapshot, self.scorer, cache_bytes)

    @classmethod
    def open(
        cls: type[_Self],
        folder: str | Path,
        fingerprint: Fingerprint | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> _Self:
        """A gallery that is there; opening reads next to nothing of it.

        Args:
            fingerprint: of the model whose embeddings are going to be added or searched for.
            cache_bytes: of memory that exact searches may keep vectors in. A gallery that needs
                more (8 d bytes an item) is read from the disk in each exact search.

        Raises:
            FileNotFoundError: there is no gallery.
            GalleryError: it was made by other weights, or is damaged.
        """
        gallery = cls(folder, cache_bytes)
        if fingerprint is not None:
            gallery._check(fingerprint)
        return gallery

    def _check(self, fingerprint: Fingerprint) -> None:
        own = self.fingerprint
        if own is None or not own.matches(fingerprint):
            raise GalleryError(
                f"{self.folder} was made by other weights: "
                f"gallery {own or 'without a fingerprint'}, model {fingerprint}. "
                "Embeddings of two models cannot be compared: use the gallery's model, "
                "or build the gallery again with this one"
            )

    @property
    def fingerprint(self) -> Fingerprint | None:
        """Of the model that made the vectors."""
        return self._snapshot.manifest.fingerprint

    @property
    def dim(self) -> int:
        """d."""
        return self.scorer.dim

    @property
    def notes(self) -> dict[str, Any]:
        """What the gallery's maker noted."""
        return dict(self._snapshot.manifest.notes)

    @property
    def index_info(self) -> dict[str, Any] | None:
        """Of the FAISS index: ``kind``, ``effort``, ``recall`` at ``k``, over ``queries`` queries;
        and ``items``, how many it covers of those that are there. None: there is no index."""
        info = self._snapshot.manifest.index
        if info is None:
            return None
        covered = int(np.count_nonzero(self._snapshot.alive[self._search.covered()]))
        return {
            **{k: info[k] for k in ("kind", "effort", "recall", "k", "queries")},
            "items": covered,
        }

    def __len__(self) -> int:
        return self._snapshot.manifest.num_items

    def __contains__(self, item_id: str) -> bool:
        return bool(self._snapshot.find([item_id])[0] >= 0)

    def __iter__(self) -> Iterator[GalleryItem]:
        snapshot = self._snapshot
        return (snapshot.item(row) for row in np.flatnonzero(snapshot.alive).tolist())

    def get(self, item_id: str) -> GalleryItem:
        """
        Raises:
            ValueError: no item has this id.
        """
        return self._snapshot.item(int(self._rows([item_id])[0]))

    def vectors(self, ids: Sequence[str]) -> FloatArray:
        """(m, d) a copy of the items' vectors.

        Raises:
            ValueError: there is no item of an id.
        """
        return self._snapshot.vectors(self._rows(ids))

    def refresh(self) -> None:
        """See what other processes have changed."""
        if Manifest.read(self.folder).version != self._snapshot.manifest.version:
            self._snapshot, old = Snapshot.newest(self.folder), self._search
            self._search = SnapshotSearch(self._snapshot, self.scorer, self._cache_bytes)
            self._search.keep_index_of(old)

    def search(
        self,
        queries: FloatArray,
        k: int = 20,
        *,
        category: CategoryFilter = None,
        where: Predicate | None = None,
        method: str = "auto",
    ) -> list[list[Hit]]:
        """The best ``k`` items of each query, best first; fewer only where fewer are allowed.

        Args:
            queries: (Q, d), or (d,) for one.
            category: only items of this category, or of one of these.
            where: only items of which this is true. It is asked of every item that ``category``
                lets pass, which takes a second or two per hundred thousand.
            method: "exact": every item. "index": through the index of :meth:`build_index`.
                "auto": through the index where there is one and more than 20,000 items are
                allowed.

        Raises:
            ValueError: queries of another shape or not finite, an unknown category or method.
            GalleryError, ImportError: "index" without an index, or without FAISS.
        """
        rows = np.atleast_2d(np.asarray(queries, np.float32))
        if rows.ndim != 2 or rows.shape[1] != self.dim:
            raise ValueError(f"expected queries of shape (Q, {self.dim}), got {np.shape(queries)}")
        if not np.isfinite(rows).all():
            raise ValueError("the queries hold embeddings that are not finite")
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        selection = self._search.select(parse_filter(category), where)
        scores, found = self._search.top_k(rows, k, selection, method)
        item = self._snapshot.item
        return [
            [Hit(item(row), score) for score, row in zip(*pair, strict=True)]
            for pair in zip(scores.tolist(), found.tolist(), strict=True)
        ]

    def measure_recall(
        self, queries: FloatArray, k: int = 20, category: CategoryFilter = None
    ) -> float:
        """The share of the exact search's ``k`` results that the index finds. Args: as search."""
        selection = self._search.select(parse_filter(category))
        rows = np.atleast_2d(np.asarray(queries, np.float32))
        return recall(
            self._search.top_k(rows, k, selection, "index"),
            self._search.top_k(rows, k, selection, "exact"),
        )

    @property
    def images(self) -> frozenset[str]:
        """The images that were indexed, those without a garment too."""
        return self._snapshot.images

    @property
    def adopted(self) -> tuple[str, ...]:
        """Names of the segments that the last :meth:`adopt` took in."""
        return self._snapshot.manifest.adopted

    def export(self, path: str | Path, rows_per_group: int = 2**14) -> int:
        """Write all items to a Parquet file, for a vector database; see ``gallery_export.py``.

        Returns:
            How many.

        Raises:
            ImportError: pyarrow is not installed.
        """
        return export_parquet(self._snapshot, self.scorer, Path(path), rows_per_group)

    def _rows(self, ids: Sequence[str]) -> IntArray:
        rows = self._snapshot.find(ids)
        if (rows < 0).any():
            missing = [i for i, row in zip(ids, rows, strict=True) if row < 0]
            raise ValueError(f"{self.folder} has no item {missing[0]!r} ({len(missing)} such ids)")
        return rows
