"""A gallery: the embeddings of a catalogue, searched by the embeddings of a photo.

Example::

    gallery = Gallery.create("shop.gallery", scorer, fingerprint)
    gallery.add([GalleryItem("sku-1", DEEPFASHION2.category(9))], embeddings)
    for hit in gallery.search(query, k=20, category="skirt", where="price < 50")[0]:
        print(hit.item.id, hit.score)

Shapes: ``d`` the embedding's length, ``Q`` queries, ``k`` results of a query.

How it is stored is told in ``store.py``, how it is searched in ``search.py``, and of the index
beside it in ``index.py`` and ``faiss.py``.
"""

import logging
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from match_rcnn.data.taxonomy import DEEPFASHION2, Taxonomy
from match_rcnn.retrieval.gallery.export import EXPORTS, ExportForm
from match_rcnn.retrieval.gallery.index import GalleryIndex
from match_rcnn.retrieval.gallery.items import (
    CategoryFilter,
    Fingerprint,
    GalleryError,
    GalleryItem,
    Hit,
    optional_module,
    parse_filter,
)
from match_rcnn.retrieval.gallery.search import SnapshotSearch, Where, recall
from match_rcnn.retrieval.gallery.store import KEEP, Store
from match_rcnn.retrieval.scoring import MatchScorer
from match_rcnn.utils.arrays import Float32Array, IntArray

logger = logging.getLogger(__name__)

FORMAT = 2
CACHE_BYTES = 512 * 1024 * 1024
#: What results can be grouped by, one of each group: the product where it is known, else the photo.
GROUPS: dict[str, Callable[[GalleryItem], str]] = {
    "product": lambda item: item.group,
    "photo": lambda item: f"image:{item.image}" if item.image is not None else f"id:{item.id}",
}
_INDEX_NAME = re.compile(r"index-[0-9a-f]{16}")


class Gallery:
    """Items with stable ids, their metadata and vectors, to look at, search and change.

    Made by :meth:`create` or :meth:`open`. Each change is written whole or not at all, and starts
    from the newest version; any number of processes may write. An object shows the version of its
    opening, its last change or its last :meth:`refresh`, whatever others do. It is for one thread.
    """

    def __init__(self, folder: str | Path, cache_bytes: int = CACHE_BYTES) -> None:
        self.uri = _uri(folder)
        self._cache_bytes = cache_bytes
        self._store = Store(f"{self.uri}/items.lance")
        if not self._store.exists():
            _refuse(self.uri)
        self._look()
        about = self._snapshot.about
        if about["format"] != FORMAT:
            raise GalleryError(f"{self.uri} is not of format {FORMAT}; build the gallery again")
        #: Scores a query with an item.
        self.scorer = MatchScorer(np.array(about["weight"], np.float64), about["bias"])
        self._search = self._searching()

    @classmethod
    def create(
        cls,
        folder: str | Path,
        scorer: MatchScorer,
        fingerprint: Fingerprint | None = None,
        notes: Mapping[str, Any] | None = None,
        taxonomy: Taxonomy = DEEPFASHION2,
    ) -> "Gallery":
        """An empty gallery.

        Args:
            folder: made if missing; or the address of an object store, such as ``s3://shop/gallery``.
            scorer: how embeddings are compared; kept in the gallery.
            fingerprint: of the model that makes the embeddings.
            notes: whatever JSON can hold, for :attr:`notes`.
            taxonomy: of the items' categories; kept in the gallery.

        Raises:
            GalleryError: there is a gallery already.
            MissingPackageError: Lance is not installed.
        """
        uri = _uri(folder)
        if Store(f"{uri}/items.lance").exists():
            raise GalleryError(f"there is a gallery at {uri} already; open it or remove it")
        if "://" not in uri:
            Path(uri).mkdir(parents=True, exist_ok=True)
        _photos(uri, "create", [])
        about = {
            "format": FORMAT,
            "dim": scorer.dim,
            "weight": scorer.weight.tolist(),
            "bias": scorer.bias,
            "fingerprint": None if fingerprint is None else asdict(fingerprint),
            "taxonomy": taxonomy.to_dict(),
            "notes": dict(notes or {}),
        }
        try:
            Store.create(f"{uri}/items.lance", about)
        except OSError as error:
            raise GalleryError(f"{uri}: another process makes a gallery there") from error
        return cls(folder)

    @classmethod
    def open(
        cls,
        folder: str | Path,
        fingerprint: Fingerprint | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> "Gallery":
        """A gallery that is there; opening reads next to nothing of it.

        Args:
            fingerprint: of the model whose embeddings are going to be added or searched for.
            cache_bytes: of memory that exact searches may keep vectors in. A gallery that needs
                more (8 d bytes an item) is read from the disk in each exact search.

        Raises:
            FileNotFoundError: there is no gallery.
            GalleryError: it was made by other weights, or in an older form.
            MissingPackageError: Lance is not installed.
        """
        gallery = cls(folder, cache_bytes)
        own = gallery.fingerprint
        if fingerprint is not None and (own is None or not own.matches(fingerprint)):
            raise GalleryError(
                f"{gallery.uri} was made by other weights: "
                f"gallery {own or 'without a fingerprint'}, model {fingerprint}. "
                "Embeddings of two models cannot be compared: use the gallery's model, "
                "or build the gallery again with this one"
            )
        return gallery

    @property
    def folder(self) -> Path:
        """Where it is on the disk."""
        return Path(self.uri)

    @property
    def fingerprint(self) -> Fingerprint | None:
        """Of the model that made the vectors."""
        noted = self._snapshot.about["fingerprint"]
        return None if noted is None else Fingerprint(**noted)

    @property
    def taxonomy(self) -> Taxonomy:
        """Of the items' categories."""
        return self._snapshot.taxonomy

    @property
    def dim(self) -> int:
        """d."""
        return self.scorer.dim

    @property
    def notes(self) -> dict[str, Any]:
        """What the gallery's maker noted."""
        return {**self._snapshot.about["notes"], **self._snapshot.state.get("notes", {})}

    @property
    def images(self) -> frozenset[str]:
        """The images that were indexed, those without a garment too."""
        return frozenset(self._photos.to_table()["image"].to_pylist())

    @property
    def columns(self) -> dict[str, str]:
        """The fields that ``where`` can ask for -> ``string``, ``double`` or ``bool``."""
        return self._snapshot.columns

    @property
    def index_info(self) -> dict[str, Any] | None:
        """Of the FAISS index: ``kind``, ``effort``, ``recall`` at ``k``, over ``queries`` queries;
        and ``items``, how many it covers of those that are there. None: there is no index."""
        info = self._snapshot.state.get("index")
        if info is None:
            return None
        covered = int(np.count_nonzero(self._search.placed.positions >= 0))
        shown = {k: info[k] for k in ("kind", "effort", "recall", "k", "queries")}
        return {**shown, "items": covered} if covered else None

    def __len__(self) -> int:
        return self._snapshot.num_rows

    def __contains__(self, item_id: str) -> bool:
        return bool(self._snapshot.find([item_id])[0] >= 0)

    def __iter__(self) -> Iterator[GalleryItem]:
        return self._snapshot.all_items()

    def get(self, item_id: str) -> GalleryItem:
        """
        Raises:
            ValueError: no item has this id.
        """
        return self._snapshot.items(self._rows([item_id]))[0]

    def vectors(self, ids: Sequence[str]) -> Float32Array:
        """(m, d) a copy of the items' vectors.

        Raises:
            ValueError: there is no item of an id.
        """
        rows, back = np.unique(self._rows(ids), return_inverse=True)
        return self._snapshot.vectors(rows)[back] if len(rows) else self._nothing()

    def refresh(self) -> None:
        """See what other processes have changed."""
        if self._store.newest().version != self._snapshot.version:
            self._look()
            old, self._search = self._search, self._searching()
            if old.snapshot.state.get("index") == self._snapshot.state.get("index"):
                self._search.index = old.index

    def search(
        self,
        queries: Float32Array,
        k: int = 20,
        *,
        category: CategoryFilter = None,
        where: Where | None = None,
        method: str = "auto",
        group_by: str | None = None,
    ) -> list[list[Hit]]:
        """The best ``k`` items of each query, best first; fewer only where fewer are allowed.

        Args:
            queries: (Q, d), or (d,) for one.
            category: only items of this category, or of one of these.
            where: only items that pass: a condition in SQL over the columns of ``store.py`` and
                :attr:`columns`, such as ``"price < 50 AND shop IN ('a', 'b')"``; a function of an
                item, which is asked about every item that is left; or a pair of both.
            method: "exact": every item. "index": through the index of :meth:`build_index`.
                "auto": through the index where there is one and more than 20,000 items are
                allowed.
            group_by: "photo": the best item of each photo only; "product": of each product where
                it is known, else of each photo.

        Raises:
            ValueError: queries of another shape or not finite, SQL that means nothing, an unknown
                category, method or group.
            GalleryError, ImportError: "index" without an index, or without FAISS.
        """
        rows = self._queries(queries)
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        if group_by is not None and group_by not in GROUPS:
            raise ValueError(f"expected to group by {' or '.join(GROUPS)}, got {group_by!r}")
        selection = self._search.select(parse_filter(category, self.taxonomy), where)
        wanted = k
        while True:
            hits = self._hits(*self._search.top_k(rows, wanted, selection, method))
            if group_by is None:
                return hits
            firsts = [_firsts(found, GROUPS[group_by])[:k] for found in hits]
            if wanted >= selection.count or all(len(found) == k for found in firsts):
                return firsts
            wanted *= 4

    def _hits(self, scores: Any, found: IntArray) -> list[list[Hit]]:
        items = iter(self._search.items(found.reshape(-1)))
        return [[Hit(next(items), score) for score in row] for row in scores.tolist()]

    def measure_recall(
        self, queries: Float32Array, k: int = 20, category: CategoryFilter = None
    ) -> float:
        """The share of the exact search's ``k`` results that the index finds. Args: as search."""
        selection = self._search.select(parse_filter(category, self.taxonomy))
        rows = self._queries(queries)
        return recall(
            self._search.top_k(rows, k, selection, "index"),
            self._search.top_k(rows, k, selection, "exact"),
        )

    def add(self, items: Iterable[GalleryItem], vectors: Iterable[Any]) -> int:
        """Add items, all or none; returns how many.

        Args:
            items: with ids that the gallery does not have.
            vectors: (n, d), or any iterable of as many (d,); both are read a block at a time.

        Raises:
            ValueError: an id is there already or comes twice, a vector has another length or is not
                finite, or there are more of the one than of the other.
            GalleryError: other processes changed the gallery again and again.
        """
        return self._changed(self._store.add(self._known(items), vectors))

    def replace(self, items: Iterable[GalleryItem], vectors: Iterable[Any]) -> int:
        """Put new items and vectors in the place of those with the same ids, all or none.

        Raises:
            ValueError, GalleryError: as for :meth:`add`, or an id is not there.
        """
        return self._changed(self._store.replace(self._known(items), vectors))

    def remove(self, ids: Iterable[str], missing_ok: bool = False) -> int:
        """Remove items, all or none; returns how many.

        Raises:
            ValueError: there is no item of an id, and ``missing_ok`` is not set.
            GalleryError: as for :meth:`add`.
        """
        return self._changed(self._store.remove(list(dict.fromkeys(ids)), missing_ok))

    def take_in(
        self, items: Sequence[GalleryItem], vectors: Sequence[Any], images: Iterable[str]
    ) -> None:
        """Items of photos that are indexed with them, for :attr:`images`; those whose ids are there
        replace them. An end in the middle leaves items of photos that do not count as indexed."""
        items, ids = list(self._known(items)), [item.id for item in items]
        self.adopt(ids, self._store.write_apart(items, vectors), images)

    def write_apart(self, items: Sequence[GalleryItem], vectors: Sequence[Any]) -> list[str]:
        """Write items that do not count before :meth:`adopt`, of this process or another."""
        return self._store.write_apart(self._known(items), vectors)

    def adopt(self, ids: Sequence[str], written: Sequence[str], images: Iterable[str]) -> None:
        """As :meth:`take_in`, of what :meth:`write_apart` gave."""
        self._store.adopt(ids, written)
        self._store.tend()
        _photos(self.uri, "append", images)
        self._look()
        self._search = self._searching()

    def note(self, **notes: Any) -> None:
        """Add to :attr:`notes`."""
        self.refresh()
        self._store.note(notes={**self._snapshot.state.get("notes", {}), **notes})
        self.refresh()

    def compact(self, keep: timedelta = KEEP) -> None:
        """Write the gallery anew without what was removed, and give back the space of versions that
        are older than ``keep``: a reader of such a one must refresh.

        An index is built anew too, where items came or went since.
        """
        self._store.compact(keep)
        _photos(self.uri, "compact", [], keep)
        self.refresh()
        noted, info = self._snapshot.state.get("index"), self.index_info
        if noted is not None and info is None:
            self._store.note(index=None)
            self.refresh()
        elif noted is not None and not self._search.placed.whole:
            self.build_index(noted["kind"], target_recall=noted["target"], k=noted["k"])
        self._sweep()

    def build_index(
        self,
        kind: str = "ivf",
        *,
        target_recall: float = 0.95,
        k: int = 20,
        num_queries: int = 200,
    ) -> dict[str, Any]:
        """Build the FAISS index that :meth:`search` goes through; returns :attr:`index_info`.

        Items that are added later are searched exactly beside the index; items that are removed are
        passed over. Build it again when they are many. It needs the vectors' bytes once more, and a
        quarter of them for the index itself.

        Args:
            kind: "ivf" (clusters), "hnsw" (a graph; slower to build) or "flat" (all items).
            target_recall: of the exact search's ``k`` results; the index gets the effort that
                reaches it for ``num_queries`` items of the gallery as queries.

        Raises:
            ImportError: FAISS is not installed.
            GalleryError: the gallery is empty.
        """
        self.refresh()
        if not len(self):
            raise GalleryError(f"{self.uri} is empty: there is nothing to build an index of")
        built = GalleryIndex.build(self._snapshot, self.scorer, kind, self._local)
        search = self._searching()
        search.index = GalleryIndex(built, self.scorer, 1)
        tuned = search.tune(k, target_recall, num_queries)
        if "://" in self.uri:
            _copy_folder(str(built), f"{self.uri}/{built.name}")
        noted = {"name": built.name, "kind": kind, "target": target_recall, **tuned}
        self._store.note(index=noted)
        self._look()
        self._search = self._searching()
        self._search.index = search.index
        self._sweep()
        info = self.index_info
        assert info is not None
        return info

    def export(self, where: Any, to: str = "parquet", **options: Any) -> ExportForm:
        """Write all items for a vector database, see ``export.py``; returns how to ask it.

        Args:
            where: "parquet": the file's path; "qdrant", "milvus": a client; "pgvector": a
                connection of psycopg.
            options: such as ``collection`` or ``table``.

        Raises:
            ImportError: a package is not installed.
        """
        if to not in EXPORTS:
            raise ValueError(f"expected an export to {', '.join(EXPORTS)}; got {to!r}")
        return EXPORTS[to](self._snapshot, self.scorer, where, **options)

    def _look(self) -> None:
        self._snapshot = self._store.newest()
        self._photos = optional_module("lance").dataset(f"{self.uri}/photos.lance")

    def _searching(self) -> SnapshotSearch:
        return SnapshotSearch(self._snapshot, self.scorer, self._cache_bytes, self._load_index)

    def _changed(self, number: int) -> int:
        if number:
            self._store.tend()
        self.refresh()
        return number

    @property
    def _local(self) -> Path:
        """Where the index lies that is mapped: in the gallery, or a copy of it."""
        if "://" not in self.uri:
            return Path(self.uri)
        return Path(tempfile.gettempdir()) / "match_rcnn"

    def _load_index(self) -> GalleryIndex:
        """
        Raises:
            GalleryError: there is none, or its name is none.
            MissingPackageError: FAISS is not installed.
            FileNotFoundError: the gallery has gone on, and this version's index is deleted.
        """
        info = self._snapshot.state.get("index")
        if info is None:
            raise GalleryError(
                f"{self.uri} has no index to search through; build_index() makes one"
            )
        if not _INDEX_NAME.fullmatch(info["name"]):
            raise GalleryError(f"{self.uri} is damaged: its index is called {info['name']!r}")
        folder = self._local / info["name"]
        if "://" in self.uri and not (folder / "index.json").is_file():
            _copy_folder(f"{self.uri}/{info['name']}", str(folder))
        return GalleryIndex(folder, self.scorer, info["effort"])

    def _sweep(self) -> None:
        """Delete indices that the newest version does not name; what others map stays mapped."""
        kept = (self._snapshot.state.get("index") or {}).get("name")
        if "://" not in self.uri:
            for folder in Path(self.uri).glob("index-*"):
                if folder.name != kept:
                    shutil.rmtree(folder, ignore_errors=True)

    def _known(self, items: Iterable[GalleryItem]) -> Iterator[GalleryItem]:
        known = {c.name: c for c in self.taxonomy.categories}
        for item in items:
            if item.category is not None and item.category != known.get(item.category.name):
                raise ValueError(
                    f"item {item.id!r}: {item.category.name!r} is no category of the gallery's "
                    f"taxonomy {self.taxonomy.name!r}"
                )
            yield item

    def _queries(self, queries: Float32Array) -> Float32Array:
        rows = np.atleast_2d(np.asarray(queries, np.float32))
        if rows.ndim != 2 or rows.shape[1] != self.dim:
            raise ValueError(f"expected queries of shape (Q, {self.dim}), got {np.shape(queries)}")
        if not np.isfinite(rows).all():
            raise ValueError("the queries hold embeddings that are not finite")
        return rows

    def _rows(self, ids: Sequence[str]) -> IntArray:
        rows = self._snapshot.find(ids)
        if (rows < 0).any():
            missing = [i for i, row in zip(ids, rows, strict=True) if row < 0]
            raise ValueError(f"{self.uri} has no item {missing[0]!r} ({len(missing)} such ids)")
        return rows

    def _nothing(self) -> Float32Array:
        return np.zeros((0, self.dim), np.float32)


def _uri(folder: str | Path) -> str:
    return str(folder).rstrip("/")


def _refuse(uri: str) -> None:
    if "://" not in uri and (Path(uri) / "manifest.json").is_file():
        raise GalleryError(
            f"{uri} is a gallery of format 1; tools/build_gallery.py --convert {uri} NEW makes one "
            f"of format {FORMAT} of it"
        )
    raise FileNotFoundError(f"no gallery at {uri}: {uri}/items.lance is not there")


def _photos(uri: str, mode: str, images: Iterable[str], keep: timedelta = KEEP) -> None:
    """Make, extend or compact the list of indexed photos."""
    lance, arrow = optional_module("lance"), optional_module("pyarrow")
    uri = f"{uri}/photos.lance"
    if mode == "compact":
        lance.dataset(uri).optimize.compact_files()
        lance.dataset(uri).cleanup_old_versions(older_than=keep)
        return
    table = arrow.table({"image": arrow.array(sorted(images), arrow.string())})
    with suppress(OSError) if mode == "create" else nullcontext():  # of who was killed after it
        lance.write_dataset(table, uri, mode=mode)


def _copy_folder(source: str, target: str) -> None:
    arrow = optional_module("pyarrow.fs")
    arrow.copy_files(source, target)


def _firsts(hits: list[Hit], group: Callable[[GalleryItem], str]) -> list[Hit]:
    """The first hit of each group."""
    best: dict[str, Hit] = {}
    for hit in hits:
        best.setdefault(group(hit.item), hit)
    return list(best.values())
