"""A gallery on disk: the embeddings of a catalogue, searched by the embeddings of a photo.

Example::

    gallery = Gallery.create("shop.gallery", scorer, fingerprint)
    gallery.add([GalleryItem("sku-1", parse_category("skirt"))], embeddings)
    for hit in gallery.search(query, k=20, category="skirt")[0]:
        print(hit.item.id, hit.score)

Shapes: ``d`` the embedding's length, ``Q`` queries, ``k`` results of a query.

How it lies on the disk is told in ``storage.py``; exact search in ``search.py``, an
index for large galleries in ``faiss.py``, catalogues of photos in ``indexing.py``.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from match_rcnn.retrieval.gallery.faiss import build_index
from match_rcnn.retrieval.gallery.index import tune
from match_rcnn.retrieval.gallery.items import (
    Fingerprint,
    GalleryError,
    GalleryItem,
    IntArray,
)
from match_rcnn.retrieval.gallery.reader import CACHE_BYTES, GalleryReader
from match_rcnn.retrieval.gallery.segments import Segment
from match_rcnn.retrieval.gallery.storage import Manifest, SegmentEntry, Writer
from match_rcnn.retrieval.scoring import MatchScorer
from match_rcnn.utils.files import write_json

#: So many segments of about one size become one, so that there are never many.
_MERGE = 8


class Gallery(GalleryReader):
    """A gallery to read, search and change; made by :meth:`create` or :meth:`open`.

    Each change is written whole or not at all, and starts from the newest state. Many processes may
    read, one may write at a time: GalleryError where another one does.
    """

    def __init__(self, folder: str | Path, cache_bytes: int = CACHE_BYTES) -> None:
        super().__init__(folder, cache_bytes)
        self._writer = Writer(self.folder)

    @classmethod
    def create(
        cls,
        folder: str | Path,
        scorer: MatchScorer,
        fingerprint: Fingerprint | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> "Gallery":
        """An empty gallery.

        Args:
            folder: made if missing.
            scorer: how embeddings are compared; kept in the gallery.
            fingerprint: of the model that makes the embeddings.
            notes: whatever JSON can hold, for :attr:`notes`.

        Raises:
            GalleryError: there is a gallery already.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with Writer(folder).lock():
            if (folder / "manifest.json").exists():
                raise GalleryError(f"there is a gallery at {folder} already; open it or remove it")
            weight = tuple(scorer.weight.tolist())
            Manifest(scorer.dim, weight, scorer.bias, fingerprint, notes=dict(notes or {})).write(
                folder
            )
        return cls(folder)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the writer's place for several changes, on the newest state.

        Raises:
            GalleryError: another process is writing.
        """
        with self._writer.lock():
            self.refresh()
            self._writer.sweep(self._snapshot.manifest)
            yield

    def add(self, items: Iterable[GalleryItem], vectors: Iterable[Any]) -> int:
        """Add items, all or none; returns how many.

        Args:
            items: with ids that the gallery does not have.
            vectors: (n, d), or any iterable of as many (d,); both are read a block at a time.

        Raises:
            ValueError: an id is there already or comes twice, a vector has another length or is not
                finite, or there are more of the one than of the other.
        """
        return self._write(items, vectors, replacing=False)

    def replace(self, items: Iterable[GalleryItem], vectors: Iterable[Any]) -> int:
        """Put new items and vectors in the place of those with the same ids, all or none.

        Raises:
            ValueError: as for :meth:`add`, or an id is not there.
        """
        return self._write(items, vectors, replacing=True)

    def _write(self, items: Iterable[GalleryItem], vectors: Iterable[Any], replacing: bool) -> int:
        with self.writing():
            ids: dict[str, None] = {}
            with self._writer.segment(self.dim) as writer:
                writer.add(_noting(items, ids), vectors)
                gone = self._rows(list(ids)) if replacing else self._absent(list(ids))
            if not ids:
                return 0
            self._commit_segments(gone, SegmentEntry(writer.name, writer.rows))
        return len(ids)

    def remove(self, ids: Iterable[str], missing_ok: bool = False) -> int:
        """Remove items, all or none; returns how many.

        Raises:
            ValueError: there is no item of an id, and ``missing_ok`` is not set.
        """
        wanted = list(dict.fromkeys(ids))
        with self.writing():
            rows = self._snapshot.find(wanted) if missing_ok else self._rows(wanted)
            rows = rows[rows >= 0]
            if len(rows):
                self._commit_segments(rows)
        return len(rows)

    def adopt(self, parts: Sequence[Segment], images: Collection[str]) -> int:
        """Take in segments that other processes wrote, as one; returns how many items.

        Args:
            parts: items whose ids are there already replace them; of an id in two parts, the later
                one counts.
            images: all that are indexed then, for :attr:`images`.
        """
        with self.writing():
            ids: dict[str, tuple[int, int]] = {}
            for number, part in enumerate(parts):
                ids.update({part.item(row).id: (number, row) for row in range(part.rows)})
            keep = [np.zeros(part.rows, bool) for part in parts]
            for number, row in ids.values():
                keep[number][row] = True
            with self._writer.segment(self.dim) as writer:
                for part, mask in zip(parts, keep, strict=True):
                    writer.copy(part, mask)
            rows = self._snapshot.find(list(ids))
            file = f"images-{self._snapshot.manifest.version + 1}.json"
            write_json(self.folder / file, sorted(images), indent=False)
            new = [SegmentEntry(writer.name, writer.rows)] if writer.rows else []
            adopted = tuple(part.name for part in parts)
            self._commit_segments(rows[rows >= 0], *new, images=file, adopted=adopted)
        return len(ids)

    def note(self, **notes: Any) -> None:
        """Add to :attr:`notes`."""
        with self.writing():
            self._commit(notes={**self.notes, **notes})

    def compact(self) -> None:
        """Write the gallery anew without what was removed, as one segment.

        An index is built anew too, where there was one and its segment changes.
        """
        with self.writing():
            manifest = self._snapshot.manifest
            if len(manifest.segments) <= 1 and not any(e.num_removed for e in manifest.segments):
                return
            index = manifest.index
            self._merge(range(len(manifest.segments)))
            if index is not None:
                self.build_index(index["kind"], target_recall=index["target"], k=index["k"])

    def build_index(
        self,
        kind: str = "ivf",
        *,
        target_recall: float = 0.95,
        k: int = 20,
        num_queries: int = 200,
    ) -> dict[str, Any]:
        """Build the FAISS index that :meth:`search` goes through; returns :attr:`index_info`.

        The gallery is compacted first. Items that are added later are searched exactly beside the
        index; items that are removed are passed over. Build it again when they are many.

        Args:
            kind: "ivf" (clusters), "hnsw" (a graph; slower to build) or "flat" (all items).
            target_recall: of the exact search's ``k`` results; the index gets the effort that
                reaches it for ``num_queries`` items of the gallery as queries.

        Raises:
            ImportError: FAISS is not installed.
            GalleryError: the gallery is empty.
        """
        with self.writing():
            if not len(self):
                raise GalleryError(f"{self.folder} is empty: there is nothing to build an index of")
            if len(self._snapshot.segments) > 1 or not self._snapshot.alive.all():
                self._merge(range(len(self._snapshot.segments)))
            segment = self._snapshot.segments[0]
            index, settings = build_index(segment, self.scorer, kind)
            rows = slice(0, segment.rows)
            tuned = tune(self._search, index, rows, k=k, target=target_recall, number=num_queries)
            file = f"index-{self._snapshot.manifest.version + 1}.faiss"
            index.write(self.folder / file)
            info = {"file": file, "kind": kind, "segment": segment.name, "settings": settings}
            self._commit(index={**info, "target": target_recall, **tuned})
        assert self.index_info is not None
        return self.index_info

    def _commit_segments(self, gone: IntArray, *new: SegmentEntry, **changes: Any) -> None:
        segments = self._writer.mark_removed(self._snapshot, gone)
        self._commit(segments=(*segments, *new), **changes)
        self._merge_small()

    def _commit(self, **changes: Any) -> None:
        self._writer.commit(replace(self._snapshot.manifest, **changes))
        self.refresh()
        self._writer.sweep(self._snapshot.manifest)

    def _merge_small(self) -> None:
        """Where many segments are of about one size, make one of them."""
        while True:
            manifest = self._snapshot.manifest
            covered = (manifest.index or {}).get("segment")
            tiers: dict[int, list[int]] = {}
            for number, entry in enumerate(manifest.segments):
                if entry.name != covered:
                    tiers.setdefault(entry.num_items.bit_length() // 3, []).append(number)
            full = [numbers for numbers in tiers.values() if len(numbers) >= _MERGE]
            if not full:
                return
            self._merge(full[0])

    def _merge(self, numbers: Iterable[int]) -> None:
        chosen = set(numbers)
        snapshot, entries = self._snapshot, self._snapshot.manifest.segments
        with self._writer.segment(self.dim) as writer:
            for number in sorted(chosen):
                segment, start = snapshot.segments[number], snapshot.starts[number]
                writer.copy(segment, snapshot.alive[start : start + segment.rows])
        kept = tuple(e for number, e in enumerate(entries) if number not in chosen)
        new = (SegmentEntry(writer.name, writer.rows),) if writer.rows else ()
        self._commit(segments=(*kept, *new))

    def _absent(self, ids: Sequence[str]) -> IntArray:
        known = [i for i, row in zip(ids, self._snapshot.find(ids), strict=True) if row >= 0]
        if known:
            raise ValueError(
                f"{self.folder} has an item {known[0]!r} already ({len(known)} such ids); "
                "replace() puts a new one in its place"
            )
        return np.zeros(0, np.int64)


def _noting(items: Iterable[GalleryItem], ids: dict[str, None]) -> Iterator[GalleryItem]:
    """Pass items on and note their ids."""
    for item in items:
        if item.id in ids:
            raise ValueError(f"the id {item.id!r} comes twice")
        ids[item.id] = None
        yield item
