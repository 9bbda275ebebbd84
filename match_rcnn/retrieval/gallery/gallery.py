"""A gallery: the embeddings of a catalogue, searched by the embeddings of a photo::

    gallery = Gallery.create("shop.gallery", scorer, fingerprint)
    gallery.add([GalleryItem("sku-1", DEEPFASHION2.category(9))], embeddings)
    for hit in gallery.search(query, k=20, category="skirt", where="price < 50")[0]:
        print(hit.item.id, hit.score)

On the disk, or in an object store::

    GALLERY/items.lance/     items and vectors (store.py)
    GALLERY/photos.lance/    the photos that were indexed, if a catalogue was
    GALLERY/index-NAME/      an index of one version (index.py)

Shapes: ``d`` the embedding's length, ``Q`` queries, ``k`` results of a query.
"""

import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import timedelta
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np

from match_rcnn.data.taxonomy import DEEPFASHION2, Taxonomy
from match_rcnn.modeling.similarity import CATEGORY
from match_rcnn.retrieval.gallery.export import ScoreForm, export
from match_rcnn.retrieval.gallery.index import FILES, GalleryIndex, build_index
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
from match_rcnn.retrieval.gallery.store import KEEP, OWN, Snapshot, Store
from match_rcnn.retrieval.scoring import MatchScorer
from match_rcnn.retrieval.second_stage import SecondStage
from match_rcnn.utils.arrays import Float32Array, FloatArray, IntArray
from match_rcnn.utils.files import located

FORMAT = 2
CACHE_BYTES = 512 * 1024 * 1024
#: Where indices of galleries in object stores are copied to, since they are mapped.
CACHE = Path(os.path.expanduser("~/.cache/match_rcnn"))
#: What results can be grouped by, one of each group: the product where it is known, else the photo.
GROUPS: dict[str, Callable[[GalleryItem], str]] = {
    "product": lambda item: item.group,
    "photo": lambda item: f"image:{item.image}" if item.image is not None else f"id:{item.id}",
}
Options = dict[str, str] | None


class Gallery:
    """Items with stable ids, their metadata and vectors, to look at, search and change.

    Each change is written whole or not at all, and starts from the newest version; any number of
    processes may write. An object shows the version of its opening, its last change or its last
    :meth:`refresh`, whatever others do. It is for one thread.

    Args:
        folder: or the address of an object store, such as ``s3://shop/gallery``.
        cache_bytes: of memory that exact searches may keep vectors in. A gallery that needs more
            (8 d bytes an item) is read from the disk in each exact search.
        options: of the object store, as Lance names them, such as ``{"aws_endpoint": ...}``.

    Raises: FileNotFoundError, GalleryError (it is of an older form), MissingPackageError (Lance).
    """

    def __init__(
        self, folder: str | Path, cache_bytes: int = CACHE_BYTES, options: Options = None
    ) -> None:
        self.uri, self._cache_bytes = str(located(folder)), cache_bytes
        far = "://" in self.uri
        #: Where an index is mapped: in the gallery, or a copy of it.
        self._local = CACHE if far else self.folder
        session = optional_module("lance.file").LanceFileSession
        self._remote: Any = session(self.uri, storage_options=options) if far else None
        self._store = Store(f"{self.uri}/items.lance", options)
        self._photos = Store(f"{self.uri}/photos.lance", options)
        #: As :meth:`take_in`, of items that do not count before :meth:`adopt`, of this process or
        #: another, is given what this returns.
        self.write_apart = self._store.write
        snapshot = self._store.find()
        if snapshot is None:
            if (self.folder / "manifest.json").is_file():
                raise GalleryError(
                    f"{self.uri} is a gallery of format 1; match-rcnn index --convert "
                    f"{self.uri} --output NEW makes one of format {FORMAT} of it"
                )
            raise FileNotFoundError(f"no gallery at {self.uri}: items.lance is not there")
        about = snapshot.about
        if about["format"] != FORMAT:
            raise GalleryError(f"{self.uri} is not of format {FORMAT}; build the gallery again")
        self.fingerprint = Fingerprint(**about["fingerprint"]) if about["fingerprint"] else None
        self.scorer = MatchScorer(np.array(about["weight"], np.float64), about["bias"])
        self.taxonomy = snapshot.taxonomy
        self._look(snapshot)

    @classmethod
    def create(
        cls,
        folder: str | Path,
        scorer: MatchScorer,
        fingerprint: Fingerprint | None = None,
        notes: Mapping[str, Any] | None = None,
        taxonomy: Taxonomy = DEEPFASHION2,
        options: Options = None,
        features: Mapping[str, Sequence[int]] | None = None,
    ) -> "Gallery":
        """An empty gallery, with what is kept in it: how embeddings are compared, the fingerprint
        of the model that makes them, whatever JSON can hold, the items' categories, and what a
        similarity compares beside the vector: names and shapes (``Similarity.features``). Raises:
        GalleryError: there is one already."""
        uri = str(located(folder))
        store, photos = (Store(f"{uri}/{name}.lance", options) for name in ("items", "photos"))
        if store.find() is not None:
            raise GalleryError(f"there is a gallery at {uri} already; open it or remove it")
        with suppress(OSError):  # photos of who was killed after this
            photos.put(_photo_table([]), "create")
        score = {"dim": scorer.dim, "weight": scorer.weight.tolist(), "bias": scorer.bias}
        about = {**score, "taxonomy": taxonomy.to_dict(), "notes": dict(notes or {})}
        known = {"vector", CATEGORY}
        shapes = {n: list(shape) for n, shape in (features or {}).items() if n not in known}
        about |= {"features": shapes} if shapes else {}
        made_by = None if fingerprint is None else asdict(fingerprint)
        try:
            store.create({"format": FORMAT, "fingerprint": made_by, **about})
        except OSError as error:
            raise GalleryError(f"{uri}: no gallery can be made there: {error}") from error
        return cls(folder, options=options)

    @classmethod
    def open(
        cls,
        folder: str | Path,
        fingerprint: Fingerprint | None = None,
        cache_bytes: int = CACHE_BYTES,
        options: Options = None,
    ) -> "Gallery":
        """A gallery that is there; opening reads next to nothing of it. Args and raises: as the
        class; GalleryError also where it was made by another model than this fingerprint's."""
        gallery = cls(folder, cache_bytes, options)
        own = gallery.fingerprint
        if fingerprint is not None and (own is None or not own.matches(fingerprint)):
            raise GalleryError(
                f"{gallery.uri} was made by other weights: gallery {own or 'without a fingerprint'}"
                f", model {fingerprint}. Embeddings of two models cannot be compared: use the "
                "gallery's model, or build the gallery again with this one"
            )
        return gallery

    @property
    def folder(self) -> Path:
        """Where it is on the disk."""
        return Path(self.uri)

    @property
    def notes(self) -> dict[str, Any]:
        """What the gallery's maker noted."""
        return {**self._snapshot.about["notes"], **self._snapshot.state.get("notes", {})}

    @property
    def images(self) -> frozenset[str]:
        """The images that were indexed, those without a garment too."""
        return frozenset(self._indexed.to_table()["image"].to_pylist())

    @property
    def columns(self) -> dict[str, str]:
        """The fields that ``where`` can ask for -> ``string``, ``double`` or ``bool``."""
        return self._snapshot.columns

    @property
    def index_info(self) -> dict[str, Any] | None:
        """Of the FAISS index: ``kind``, ``effort``, ``recall`` at ``k``, over ``queries`` queries;
        and ``items``, how many it covers of those that are there. None: there is no index."""
        info = self._snapshot.state.get("index")
        covered = int((self._search.placed[0] >= 0).sum()) if info else 0
        shown = ("kind", "effort", "recall", "k", "queries")
        return {**{k: info[k] for k in shown}, "items": covered} if info and covered else None

    def __len__(self) -> int:
        return self._snapshot.num_rows

    def __contains__(self, item_id: str) -> bool:
        return bool(self._snapshot.find([item_id])[0] >= 0)

    def __iter__(self) -> Iterator[GalleryItem]:
        batches = self._snapshot.batches(OWN)
        return (item for batch in batches for item in self._snapshot.decode(batch))

    def get(self, item_id: str) -> GalleryItem:
        """Raises: ValueError: no item has this id."""
        return self._search.items(self._snapshot.find([item_id], there=True))[0]

    def vectors(self, ids: Sequence[str], name: str = "vector") -> Float32Array:
        """(m, d) a copy of the items' vectors, or (m, *shape) of a feature of this name. Raises:
        ValueError: there is no item of an id, or no feature of the name."""
        if name not in self._snapshot.shapes:
            raise ValueError(f"{self.uri} keeps {self._snapshot.shapes} of an item, not {name!r}")
        return self._snapshot.vectors(self._snapshot.find(ids, there=True), name)

    def refresh(self) -> None:
        """See what other processes have changed."""
        newest = self._store.newest()
        if newest.version != self._snapshot.version:
            self._look(newest)

    def search(
        self,
        queries: Float32Array,
        k: int = 20,
        *,
        category: CategoryFilter = None,
        where: Where | None = None,
        method: str = "auto",
        group_by: str | None = None,
        second: SecondStage | None = None,
    ) -> list[list[Hit]]:
        """The best ``k`` items of each query, best first; fewer only where fewer are allowed.

        Args:
            queries: (Q, d), or (d,) for one.
            category: only items of this category, or of one of these.
            where: only items that pass: a condition in SQL over the columns of ``store.py`` and
                :attr:`columns`, such as ``"price < 50 AND shop IN ('a', 'b')"``; a function of an
                item, which is asked about every item that is left; or a pair of both.
            method: "exact"; "index": through that of :meth:`build_index`; "auto": through it where
                it is there and more than 20,000 items are allowed.
            group_by: only the best item of each "photo", or "product" (a photo's, if not known).
            second: the similarity that orders the first items of all that pass (before they are
                grouped), and these queries' features; behind the shortlist they follow as they are.

        Raises: ValueError; GalleryError, ImportError: "index" without an index, or without FAISS;
        the gallery has not the features that the similarity needs.
        """
        rows = self._queries(queries)
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        if group_by is not None and group_by not in GROUPS:
            raise ValueError(f"expected to group by {' or '.join(GROUPS)}, got {group_by!r}")
        selection = self._search.select(parse_filter(category, self.taxonomy), where)
        wanted = k
        if second is not None:
            second = self._checked(second, rows)
            wanted = max(k, second.shortlist)
        while True:
            scores, found = self._search.top_k(rows, wanted, selection, method)
            said = np.full(scores.shape, np.nan)
            if second is not None:
                scores, found, said = second.reordered(scores, found, self._search.vectors)
            if group_by is None:
                return self._hits(scores[:, :k], found[:, :k], said[:, :k])
            firsts = [_firsts(r, GROUPS[group_by])[:k] for r in self._hits(scores, found, said)]
            if wanted >= len(selection.rows) or all(len(row) == k for row in firsts):
                return firsts
            wanted *= 4

    def _hits(self, scores: FloatArray, rows: IntArray, said: FloatArray) -> list[list[Hit]]:
        items = iter(self._search.items(rows.reshape(-1)))
        both = np.stack([scores, said], axis=-1).tolist()
        return [[Hit(next(items), s, None if isnan(t) else t) for s, t in row] for row in both]

    def _checked(self, second: SecondStage, rows: Float32Array) -> SecondStage:
        """With the vectors that are asked for."""
        needed = {name: tuple(shape) for name, shape in second.similarity.features().items()}
        for name, shape in needed.items():
            if {CATEGORY: (), **self._snapshot.shapes}.get(name) != shape:
                raise GalleryError(
                    f"{self.uri} keeps {self._snapshot.shapes} of an item, and the similarity "
                    f"compares {needed}: index the catalogue again, into a new gallery, with the "
                    "model that has this similarity, or search without it (--shortlist 0)"
                )
        return second._replace(features={**second.features, "vector": rows}).checked(len(rows))

    def measure_recall(
        self, queries: Float32Array, k: int = 20, category: CategoryFilter = None
    ) -> float:
        """The share of the exact search's ``k`` results that the index finds. Args: as search."""
        asked = self._queries(queries), k
        selection = self._search.select(parse_filter(category, self.taxonomy))
        found, exact = (self._search.top_k(*asked, selection, how) for how in ("index", "exact"))
        return recall(found, exact)

    def add(self, items: Iterable[GalleryItem], vectors: Iterable[Any]) -> int:
        """Add items with ids that are not there, all or none; returns how many. Vectors are (n, d),
        or any iterable of as many (d,); both are read a block at a time. Raises: ValueError: one
        does not fit; GalleryError: other processes changed the gallery again and again."""
        return self._changed(*self._store.write(items, vectors), there=False)

    def replace(self, items: Iterable[GalleryItem], vectors: Iterable[Any]) -> int:
        """As :meth:`add`, in the place of items with the same ids, which must be there."""
        return self._changed(*self._store.write(items, vectors), there=True)

    def remove(self, ids: Iterable[str], missing_ok: bool = False) -> int:
        """Remove items, all or none; returns how many. Raises: as :meth:`add`."""
        return self._changed(list(dict.fromkeys(ids)), [], None if missing_ok else True)

    def take_in(
        self, items: Sequence[GalleryItem], vectors: Sequence[Any], images: Iterable[str]
    ) -> None:
        """Items of photos that are indexed with them, for :attr:`images`; those whose ids are there
        replace them. An end in the middle leaves items of photos that do not count as indexed."""
        self.adopt(*self.write_apart(items, vectors), images)

    def adopt(self, ids: Sequence[str], written: Sequence[str], images: Iterable[str]) -> None:
        """As :meth:`take_in`, of what :meth:`write_apart` gave."""
        self._changed(ids, written, None)
        self._photos.put(_photo_table(images), "append")
        self._look()

    def note(self, **notes: Any) -> None:
        """Add to :attr:`notes`."""
        self.refresh()
        self._store.note(notes={**self._snapshot.state.get("notes", {}), **notes})
        self.refresh()

    def compact(self, keep: timedelta = KEEP) -> None:
        """Write the gallery anew without what was removed, and give back the space of versions that
        are older than ``keep``: a reader of such a one must refresh. An index is built anew too,
        where items came or went since."""
        self._store.compact(keep)
        self._photos.dataset().optimize.compact_files()
        self._photos.dataset().cleanup_old_versions(older_than=keep)
        self._look()
        noted, info = self._snapshot.state.get("index"), self.index_info
        if noted is not None and info is None:
            self._store.note(index=None)
            self.refresh()
        elif noted is not None and not all((rows >= 0).all() for rows in self._search.placed):
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
        """Build the FAISS index that :meth:`search` goes through, of one of ``index.KINDS``, with
        the effort that finds the target's share of the exact ``k`` results for so many items of the
        gallery as queries; returns :attr:`index_info`.

        Items that are added later are searched exactly beside it, those that are removed are passed
        over: build it again when they are many. Raises: ImportError, GalleryError (it is empty).
        """
        self._look()
        if not len(self):
            raise GalleryError(f"{self.uri} is empty: there is nothing to build an index of")
        built = build_index(self._snapshot, self.scorer, kind, self._local)
        self._search.index = index = GalleryIndex(built, 1)
        tuned = self._search.tune(k, target_recall, num_queries)
        for name in FILES if self._remote else ():
            self._remote.upload_file(built / name, f"{built.name}/{name}")
        noted = {"name": built.name, "kind": kind, "target": target_recall}
        self._store.note(index={**noted, **tuned})
        self._look()
        self._search.index = index
        self._sweep()
        return self.index_info or {}

    def export(self, where: Any, to: str = "parquet", **options: str) -> ScoreForm:
        """Write all items for a vector database, see ``export.py``; returns how to ask it. Args:
        where: the path ("parquet"), a client ("qdrant", "milvus") or a psycopg connection
        ("pgvector"); options: ``metric``, ``collection`` or ``table``."""
        return export(self._snapshot, self.scorer, where, to, **options)

    def _look(self, newest: Snapshot | None = None) -> None:
        """See the newest version; the index that is loaded stays where it is that one's."""
        old: SnapshotSearch | None = getattr(self, "_search", None)
        self._snapshot = newest or self._store.newest()
        self._indexed = self._photos.dataset()
        cached = self._cache_bytes
        self._search = SnapshotSearch(self._snapshot, self.scorer, cached, self._load_index)
        if old and old.snapshot.state.get("index") == self._snapshot.state.get("index"):
            self._search.index = old.index

    def _changed(self, ids: Sequence[str], written: Sequence[str], there: bool | None) -> int:
        """Make a change; returns how many items came, or else went."""
        number = self._store.change(ids, written, there) if ids else 0
        if written or number:
            self._store.tend()
        self.refresh()
        return len(ids) if written else number

    def _load_index(self) -> GalleryIndex:
        """Raises: GalleryError: there is none, or its name is none; MissingPackageError; OSError:
        the gallery has gone on, and this version's index is deleted."""
        info = self._snapshot.state.get("index")
        if info is None:
            raise GalleryError(f"{self.uri} has no index to search through; build_index() does")
        name = info["name"]
        if not re.fullmatch(r"index-[0-9a-f]{16}", name):
            raise GalleryError(f"{self.uri} is damaged: its index is called {name!r}")
        folder = self._local / name
        for file in FILES if self._remote and not (folder / FILES[-1]).is_file() else ():
            folder.mkdir(parents=True, exist_ok=True)
            partial = folder / f"{file}.{uuid.uuid4().hex}"
            self._remote.download_file(f"{name}/{file}", partial)
            partial.replace(folder / file)
        return GalleryIndex(folder, info["effort"])

    def _sweep(self) -> None:
        """Delete indices that the newest version does not name; what others map stays mapped."""
        kept = (self._snapshot.state.get("index") or {}).get("name")
        for folder in self.folder.glob("index-*"):
            if folder.name != kept:
                shutil.rmtree(folder, ignore_errors=True)

    def _queries(self, queries: Float32Array) -> Float32Array:
        rows, dim = np.atleast_2d(np.asarray(queries, np.float32)), self.scorer.dim
        if rows.ndim != 2 or rows.shape[1] != dim:
            raise ValueError(f"expected queries of shape (Q, {dim}), got {np.shape(queries)}")
        if not np.isfinite(rows).all():
            raise ValueError("the queries hold embeddings that are not finite")
        return rows


def _photo_table(images: Iterable[str]) -> Any:
    arrow = optional_module("pyarrow")
    return arrow.table({"image": arrow.array(sorted(images), arrow.string())})


def _firsts(hits: list[Hit], group: Callable[[GalleryItem], str]) -> list[Hit]:
    """The first hit of each group."""
    best: dict[str, Hit] = {}
    for hit in hits:
        best.setdefault(group(hit.item), hit)
    return list(best.values())
