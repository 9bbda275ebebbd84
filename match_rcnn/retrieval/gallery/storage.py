"""The folder of a gallery: one manifest, immutable segments, one writer.

::

    INDEX/manifest.json        the state: whatever it does not name does not exist
    INDEX/segments/NAME/       items (segments.py); removed-V.i64 beside them: rows of
                               items that were removed
    INDEX/index-V.faiss        an approximate index, if one was built
    INDEX/images-V.json        the images that were indexed, if a catalogue was
    INDEX/incoming/NAME/       segments that indexing processes have finished, not yet taken in
    INDEX/lock                 held by the process that writes

A change writes new files and then replaces the manifest by a rename: before it the old state is
valid, after it the new one, and a crash at any moment leaves one of the two. Files that no manifest
names are swept by the next writer. Readers take no lock: they map the files of one manifest, which
stay valid while mapped though their names be gone; a reader that comes between is sent back to read
the newer manifest.
"""

import fcntl
import os
import shutil
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from match_rcnn.retrieval.gallery.items import (
    BoolArray,
    Fingerprint,
    FloatArray,
    GalleryError,
    GalleryItem,
    IntArray,
    hash_id,
)
from match_rcnn.retrieval.gallery.segments import Segment, SegmentWriter, sync_folder
from match_rcnn.utils.files import atomic_write, read_json, write_json

FORMAT = 1
_RETRIES = 10


@dataclass(frozen=True)
class SegmentEntry:
    """A segment in a manifest. ``removed`` names the file of removed rows in its folder."""

    name: str
    rows: int
    removed: str | None = None
    num_removed: int = 0

    @property
    def num_items(self) -> int:
        return self.rows - self.num_removed


@dataclass(frozen=True)
class Manifest:
    """One state of a gallery.

    Attributes:
        dim: d.
        weight, bias: of the pair score w . (q - g)^2 + b.
        fingerprint: of the model that made the vectors; None where the caller gave none.
        version: grows by one a change.
        segments: in the order in which they were added.
        index: the approximate index: its file, the segment that it covers, its settings.
        notes: the caller's own.
        images: the file of the indexed images.
        adopted: incoming segments that are taken in, but may still lie there.
    """

    dim: int
    weight: tuple[float, ...]
    bias: float
    fingerprint: Fingerprint | None = None
    version: int = 0
    segments: tuple[SegmentEntry, ...] = ()
    index: dict[str, Any] | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    images: str | None = None
    adopted: tuple[str, ...] = ()

    @property
    def num_items(self) -> int:
        return sum(entry.num_items for entry in self.segments)

    def write(self, folder: Path) -> None:
        write_json(folder / "manifest.json", {"format": FORMAT, **asdict(self)})
        sync_folder(folder)

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """
        Raises:
            FileNotFoundError: there is no gallery.
            GalleryError: it has a format of another version of this software.
        """
        path = folder / "manifest.json"
        if not path.is_file():
            raise FileNotFoundError(f"no gallery at {folder}: {path} is not there")
        raw = read_json(path)
        if raw.pop("format", None) != FORMAT:
            raise GalleryError(f"{path} is not of format {FORMAT}; build the gallery again")
        raw["fingerprint"] = Fingerprint(**raw["fingerprint"]) if raw["fingerprint"] else None
        raw["segments"] = tuple(SegmentEntry(**entry) for entry in raw["segments"])
        raw["weight"], raw["adopted"] = tuple(raw["weight"]), tuple(raw["adopted"])
        return cls(**raw)


class Snapshot:
    """A state of a gallery, mapped for reading; later changes do not touch it.

    Shapes: ``N`` rows of all segments one after the other, removed ones among them.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self.segments = [Segment(folder / "segments" / e.name) for e in manifest.segments]
        self.removed = [
            _read_removed(segment, entry)
            for segment, entry in zip(self.segments, manifest.segments, strict=True)
        ]
        #: The first row of each segment, and N.
        self.starts: IntArray = np.cumsum([0, *(s.rows for s in self.segments)], dtype=np.int64)

    @classmethod
    def newest(cls, folder: Path) -> "Snapshot":
        """The state that the folder's manifest names now."""
        for attempt in range(_RETRIES):
            manifest = Manifest.read(folder)
            try:
                return cls(folder, manifest)
            except FileNotFoundError as error:
                # A writer may have gone on between manifest and files; else they are lost.
                if attempt + 1 == _RETRIES or Manifest.read(folder).version == manifest.version:
                    raise GalleryError(f"{folder} is damaged: {error}") from error
        raise AssertionError("unreachable")

    @property
    def num_rows(self) -> int:
        """N."""
        return int(self.starts[-1])

    @cached_property
    def alive(self) -> BoolArray:
        """(N,) False where an item was removed."""
        alive = np.ones(self.num_rows, bool)
        for start, rows in zip(self.starts, self.removed, strict=False):
            alive[start + rows] = False
        return alive

    @cached_property
    def categories(self) -> npt.NDArray[np.int16]:
        """(N,) 1 to 13, 0 for none."""
        return np.concatenate([np.zeros(0, np.int16), *(s.categories for s in self.segments)])

    @cached_property
    def images(self) -> frozenset[str]:
        """The images that were indexed."""
        name = self.manifest.images
        return frozenset(read_json(self.folder / name) if name else ())

    def place(self, row: int) -> tuple[int, int]:
        """The segment's number and the row in it."""
        number = int(np.searchsorted(self.starts, row, "right")) - 1
        return number, row - int(self.starts[number])

    def item(self, row: int) -> GalleryItem:
        number, inner = self.place(row)
        return self.segments[number].item(inner)

    def vectors(self, rows: IntArray) -> FloatArray:
        """(m, d) a copy of the rows' vectors."""
        out = np.empty((len(rows), self.manifest.dim), np.float32)
        numbers = np.searchsorted(self.starts, rows, "right") - 1
        for number in np.unique(numbers).tolist():
            mine = numbers == number
            out[mine] = self.segments[number].vectors[rows[mine] - self.starts[number]]
        return out

    def find(self, ids: Sequence[str]) -> IntArray:
        """(m,) the row of each id, -1 for one that is not there."""
        rows = np.full(len(ids), -1, np.int64)
        hashes = np.array([hash_id(i) for i in ids], np.uint64)
        for segment, start in zip(self.segments, self.starts.tolist(), strict=False):
            for position, row in segment.candidates(hashes):
                if self.alive[start + row] and segment.item(row).id == ids[position]:
                    rows[position] = start + row
        return rows


def _read_removed(segment: Segment, entry: SegmentEntry) -> IntArray:
    if entry.removed is None:
        return np.zeros(0, np.int64)
    return np.fromfile(segment.path / entry.removed, "<i8")


class Writer:
    """Changes of a gallery's folder, one process at a time.

    A change is: new files, then :meth:`commit`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held = 0

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only writer; may be nested.

        Raises:
            GalleryError: another process is writing; the message says which.
        """
        if self._held:
            with self._nested():
                yield
            return
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        with open(descriptor, "r+b") as file:
            _take_lock(file, self.folder)
            with self._nested():
                yield

    @contextmanager
    def _nested(self) -> Iterator[None]:
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1

    def segment(self, dim: int) -> SegmentWriter:
        """A new segment, for :class:`SegmentEntry` to name."""
        assert self._held
        return SegmentWriter(self.folder / "segments", dim)

    def mark_removed(self, snapshot: Snapshot, rows: IntArray) -> tuple[SegmentEntry, ...]:
        """The manifest's segments with more rows removed. Args: rows: of the snapshot, alive."""
        version = snapshot.manifest.version + 1
        numbers = np.searchsorted(snapshot.starts, rows, "right") - 1
        entries = list(snapshot.manifest.segments)
        for number in np.unique(numbers).tolist():
            inner = rows[numbers == number] - snapshot.starts[number]
            gone = np.union1d(snapshot.removed[number], inner)
            name = f"removed-{version}.i64"
            with atomic_write(self.folder / "segments" / entries[number].name / name) as file:
                file.write(gone.astype("<i8").tobytes())
            sync_folder(self.folder / "segments" / entries[number].name)
            entries[number] = replace(entries[number], removed=name, num_removed=len(gone))
        return tuple(entries)

    def commit(self, manifest: Manifest) -> None:
        """Make this the state. Segments without items are dropped; what is not named is swept."""
        assert self._held
        entries = tuple(e for e in manifest.segments if e.num_items)
        names = {e.name for e in entries}
        index = manifest.index
        if index is not None and index["segment"] not in names:
            index = None
        version = manifest.version + 1
        replace(manifest, segments=entries, index=index, version=version).write(self.folder)

    def sweep(self, manifest: Manifest) -> None:
        """Delete files that the manifest does not name: of older states and of broken writes.
        One that cannot be deleted is left for the next writer."""
        assert self._held
        segments = {entry.name: entry for entry in manifest.segments}
        for folder in _entries(self.folder / "segments"):
            if folder.name not in segments:
                shutil.rmtree(folder, ignore_errors=True)
                continue
            kept = segments[folder.name].removed
            _delete(f for f in _entries(folder) if "removed-" in f.name and f.name != kept)
        index = (manifest.index or {}).get("file")
        kept_files = {index, manifest.images}
        prefixes = ("index-", "images-", ".index-", ".images-", ".manifest.json.")
        _delete(
            f
            for f in _entries(self.folder)
            if f.name.startswith(prefixes) and f.name not in kept_files
        )


def _take_lock(file: BinaryIO, folder: Path) -> None:
    try:
        # The kernel's lock ends with its process, however that ends: no stale lock files.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = file.read().decode(errors="replace").strip() or "another process"
        raise GalleryError(
            f"{folder} is being written by {holder}; a gallery has one writer at a time"
        ) from None
    # Of one width: to truncate a file may wait for the disk.
    file.write(f"process {os.getpid()} on {socket.gethostname()}".ljust(99).encode() + b"\n")
    file.flush()


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _delete(files: Iterable[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)
