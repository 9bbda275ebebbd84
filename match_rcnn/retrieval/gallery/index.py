"""An index on disk: a FAISS file, and a copy of the rows that it covers, mapped into memory.

::

    index-NAME/index.faiss     what proposes (faiss.py)
    index-NAME/rows.i64        (n,) Lance's number of each row
    index-NAME/vectors.f32     (n, d) what decides
    index-NAME/items.arrow     the items' columns

A data set fetches single rows in a millisecond or two, from an object store in many; a search
through an index needs a hundred of them. So they lie beside it, and a search reads nothing else.

Shapes: ``n`` rows that the index covers, ``N`` rows of a version, ``d`` the vector's length.
"""

import uuid
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from match_rcnn.retrieval.gallery.faiss import CandidateIndex, build_index, read_index
from match_rcnn.retrieval.gallery.items import optional_module
from match_rcnn.retrieval.gallery.store import OWN, Snapshot
from match_rcnn.retrieval.scoring import MatchScorer
from match_rcnn.utils.arrays import Float32Array, IntArray
from match_rcnn.utils.files import read_json, write_json

_BATCH = 2**14


class ItemTable:
    """Items' columns in batches of one size, in memory or mapped, for single rows of them."""

    def __init__(self, batches: Sequence[Any]) -> None:
        self._batches = batches
        self._join = optional_module("pyarrow").Table.from_batches

    @classmethod
    def of(cls, snapshot: Snapshot) -> "ItemTable":
        """All items of a version, in memory."""
        table = snapshot.table(OWN).combine_chunks()
        return cls(table.to_batches(max_chunksize=_BATCH))

    def take(self, rows: IntArray) -> Any:
        """A table of these rows, at least one."""
        # A take of Arrow's own would join all batches first.
        places = zip((rows // _BATCH).tolist(), (rows % _BATCH).tolist(), strict=True)
        return self._join([self._batches[batch].slice(row, 1) for batch, row in places])

    def write(self, path: Path) -> None:
        arrow = optional_module("pyarrow")
        with arrow.ipc.new_file(str(path), self._batches[0].schema) as file:
            for batch in self._batches:
                file.write_batch(batch)


class RowCopy:
    """Rows of one version beside an index. Args: folder: of the index."""

    def __init__(self, folder: Path, dim: int) -> None:
        arrow = optional_module("pyarrow")
        self.row_ids: IntArray = np.fromfile(folder / "rows.i64", "<i8")
        shape = (len(self.row_ids), dim)
        # "c": no write reaches the file; torch warns of arrays that are read-only.
        self.vectors: Float32Array = np.memmap(folder / "vectors.f32", "<f4", "c", shape=shape)
        reader = arrow.ipc.open_file(arrow.memory_map(str(folder / "items.arrow")))
        self.items = ItemTable([reader.get_batch(i) for i in range(reader.num_record_batches)])

    @staticmethod
    def write(snapshot: Snapshot, folder: Path) -> None:
        snapshot.row_ids.astype("<i8").tofile(folder / "rows.i64")
        with open(folder / "vectors.f32", "wb") as file:
            for _, vectors in snapshot.blocks(np.arange(snapshot.num_rows)):
                file.write(np.ascontiguousarray(vectors, "<f4").data)
        ItemTable.of(snapshot).write(folder / "items.arrow")


class GalleryIndex:
    """An index of one version, to search any version through.

    Attributes:
        finder: proposes rows of the copy.
        copy: what is beside it.
    """

    def __init__(self, folder: Path, scorer: MatchScorer, effort: int) -> None:
        info = read_json(folder / "index.json")
        self.copy = RowCopy(folder, scorer.dim)
        self.finder: CandidateIndex = read_index(
            folder / "index.faiss", info["kind"], scorer, info["settings"]
        )
        self.finder.effort = effort

    @staticmethod
    def build(snapshot: Snapshot, scorer: MatchScorer, kind: str, parent: Path) -> Path:
        """Write one of all rows of a version; returns its folder, which nothing names yet."""
        folder = parent / f"index-{uuid.uuid4().hex[:16]}"
        folder.mkdir(parents=True)
        RowCopy.write(snapshot, folder)
        vectors = RowCopy(folder, scorer.dim).vectors
        finder, settings = build_index(vectors, scorer, kind)
        finder.write(folder / "index.faiss")
        write_json(folder / "index.json", {"kind": kind, "settings": settings})
        return folder


class Placed:
    """Where the rows of an index are in a version.

    Attributes:
        positions: (n,) in the version, -1 for those that are gone.
        rows: (N,) in the index, -1 for those that it does not cover.
    """

    def __init__(self, index: GalleryIndex, snapshot: Snapshot) -> None:
        self.positions = snapshot.positions(index.copy.row_ids)
        self._num_rows = snapshot.num_rows

    @property
    def whole(self) -> bool:
        """Whether the index covers the version's rows and no others."""
        return len(self.positions) == self._num_rows and bool((self.positions >= 0).all())

    @cached_property
    def rows(self) -> IntArray:
        rows = np.full(self._num_rows, -1, np.int64)
        there = self.positions >= 0
        rows[self.positions[there]] = np.flatnonzero(there)
        return rows
