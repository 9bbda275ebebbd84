"""Segments: the immutable pieces of which a gallery consists on disk.

A segment is a folder, written once and never changed. Shapes: ``n`` items, ``d`` the vector's
length; numbers are little-endian.

===================  ==========  =================================================================
file                 type        holds
===================  ==========  =================================================================
``vectors.f32``      (n, d) f4   the embeddings
``categories.i16``   (n,) i2     1 to 13, 0 for none
``keys.u64``         (2, n) u8   hashes of the ids, rising, and the row of each
``offsets.i64``      (n + 1) i8  where each line of ``records.jsonl`` begins
``records.jsonl``    bytes       a line of JSON an item: id, category, image, box, score, fields
``segment.json``     JSON        n, d, and what its maker noted
===================  ==========  =================================================================

Why these and not a database: everything is mapped into memory and read where it is touched, so
opening costs nothing however large the gallery is; what never changes needs no locks for its
readers; and numpy alone can read it.
"""

import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from match_rcnn.retrieval.gallery.items import (
    BoolArray,
    FloatArray,
    GalleryError,
    GalleryItem,
    IntArray,
    decode_item,
    encode_item,
    hash_id,
)
from match_rcnn.utils.files import read_json, write_json

HashArray = npt.NDArray[np.uint64]

# Items that are encoded, checked and written at once.
BLOCK = 4096
_UNFINISHED = ".unfinished-"


class Segment:
    """A segment opened for reading; nothing but its size is read before it is asked for.

    Raises:
        FileNotFoundError: a file is missing.
        GalleryError: a file has another length than it should.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self.info: dict[str, Any] = read_json(path / "segment.json")
        self.rows, self.dim = int(self.info["rows"]), int(self.info["dim"])
        n = self.rows
        self.vectors: FloatArray = self._map("vectors.f32", "<f4", (n, self.dim))
        self.categories: npt.NDArray[np.int16] = self._map("categories.i16", "<i2", (n,))
        self.keys: HashArray = self._map("keys.u64", "<u8", (2, n))
        self.offsets: IntArray = self._map("offsets.i64", "<i8", (n + 1,))
        size = int(self.offsets[-1])
        self.records: npt.NDArray[np.uint8] = self._map("records.jsonl", "u1", (size,))

    def _map(self, name: str, dtype: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        path = self.path / name
        expected = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if path.stat().st_size != expected:
            raise GalleryError(
                f"{path} is damaged: expected {expected} bytes, found {path.stat().st_size}"
            )
        if not expected:
            return np.zeros(shape, dtype)
        # "c": no write reaches the file; torch warns of arrays that are read-only.
        return np.memmap(path, dtype=dtype, mode="c", shape=shape)

    def line(self, row: int) -> bytes:
        """The item's JSON."""
        return self.records[self.offsets[row] : self.offsets[row + 1]].tobytes()

    def item(self, row: int) -> GalleryItem:
        return decode_item(self.line(row))

    @cached_property
    def hashes(self) -> HashArray:
        """(n,) the id's hash of each row."""
        by_row = np.empty(self.rows, np.uint64)
        by_row[self.keys[1].astype(np.int64)] = self.keys[0]
        return by_row

    def candidates(self, hashes: HashArray) -> Iterator[tuple[int, int]]:
        """(position in ``hashes``, row) of every item whose id has that hash."""
        first = np.searchsorted(self.keys[0], hashes, "left")
        last = np.searchsorted(self.keys[0], hashes, "right")
        for position in np.flatnonzero(last > first).tolist():
            for place in range(first[position], last[position]):
                yield position, int(self.keys[1, place])


class SegmentWriter:
    """Writes a segment, block by block, in constant memory but for 16 bytes an item.

    Use as a context manager. The folder gets its name when the block ends without an error and
    holds at least one item or ``info``; until then it has a name that no reader looks at.
    """

    def __init__(self, parent: Path, dim: int, name: str | None = None) -> None:
        """
        Args:
            parent: the folder that the segment comes to lie in; made if missing.
            name: of the segment; None invents one.
        """
        self.name = name or uuid.uuid4().hex[:16]
        self.info: dict[str, Any] = {}
        self.rows = 0
        self._dim = dim
        self._parent = parent
        self._folder = parent / f"{_UNFINISHED}{self.name}"
        self._hashes: list[HashArray] = []
        self._bytes = 0

    def __enter__(self) -> "SegmentWriter":
        self._folder.mkdir(parents=True)
        names = ("vectors.f32", "categories.i16", "records.jsonl", "offsets.i64")
        self._files: list[BinaryIO] = [
            open(self._folder / name, "wb")  # noqa: SIM115  closed by __exit__
            for name in names
        ]
        self._files[3].write(np.zeros(1, "<i8").tobytes())
        return self

    def append(
        self,
        vectors: FloatArray,
        categories: npt.NDArray[np.int16],
        hashes: HashArray,
        lines: Sequence[bytes],
    ) -> None:
        """Add ``m`` items. Args: vectors: (m, d); categories, hashes: (m,); lines: m of JSON."""
        ends = self._bytes + np.cumsum([len(line) for line in lines], dtype=np.int64)
        parts: tuple[Any, ...] = (
            np.ascontiguousarray(vectors, "<f4").data,
            categories.astype("<i2").data,
            b"".join(lines),
            ends.astype("<i8").data,
        )
        for file, part in zip(self._files, parts, strict=True):
            file.write(part)
        self._hashes.append(np.asarray(hashes, np.uint64))
        self._bytes = int(ends[-1])
        self.rows += len(lines)

    def add(self, items: Iterable[GalleryItem], vectors: Iterable[Any]) -> None:
        """Add items with their vectors, as many of the one as of the other.

        Raises:
            ValueError: a vector of another length or one that is not finite; unequal numbers.
        """
        for block in _blocks(zip(items, vectors, strict=True)):
            self.append(
                _stack(block, self._dim),
                np.array([i.category.id if i.category else 0 for i, _ in block], np.int16),
                np.array([hash_id(i.id) for i, _ in block], np.uint64),
                [encode_item(i) for i, _ in block],
            )

    def copy(self, segment: Segment, keep: BoolArray | None = None) -> None:
        """Add the items of another segment. Args: keep: (n,) which of them; None: all."""
        rows = np.arange(segment.rows) if keep is None else np.flatnonzero(keep)
        for start in range(0, len(rows), BLOCK):
            block = rows[start : start + BLOCK]
            self.append(
                segment.vectors[block],
                segment.categories[block],
                segment.hashes[block],
                [segment.line(row) for row in block.tolist()],
            )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None and (self.rows or self.info):
                self._finish()
        finally:
            for file in self._files:
                file.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _finish(self) -> None:
        hashes = np.concatenate([np.zeros(0, np.uint64), *self._hashes])
        order = np.argsort(hashes, kind="stable")
        with open(self._folder / "keys.u64", "wb") as keys:
            keys.write(np.stack([hashes[order], order.astype(np.uint64)]).astype("<u8").data)
            _to_disk(keys)
        for file in self._files:
            _to_disk(file)
        info = {**self.info, "rows": self.rows, "dim": self._dim}
        write_json(self._folder / "segment.json", info, indent=False)
        sync_folder(self._folder)
        os.rename(self._folder, self._parent / self.name)
        sync_folder(self._parent)


def _blocks(pairs: Iterable[Any]) -> Iterator[list[Any]]:
    block: list[Any] = []
    for pair in pairs:
        block.append(pair)
        if len(block) == BLOCK:
            yield block
            block = []
    if block:
        yield block


def _stack(block: list[tuple[GalleryItem, Any]], dim: int) -> FloatArray:
    """(m, d) of a block's vectors."""
    rows = np.empty((len(block), dim), np.float32)
    for row, (item, vector) in zip(rows, block, strict=True):
        values = np.asarray(vector)
        if values.shape != (dim,):
            raise ValueError(
                f"item {item.id!r}: expected a vector of {dim} numbers, got shape {values.shape}"
            )
        row[:] = values
    broken = ~np.isfinite(rows).all(1)
    if broken.any():
        raise ValueError(f"item {block[int(broken.argmax())][0].id!r}: its vector is not finite")
    return rows


def _to_disk(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Names in a folder reach the disk apart from the files' contents."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
