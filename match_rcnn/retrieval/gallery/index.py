"""An index of the FAISS library, with a copy of the rows that it covers, mapped into memory.

::

    index-NAME/index.faiss     what proposes
    index-NAME/rows.i64        (n,) Lance's number of each row
    index-NAME/vectors.f32     (n, d) what decides
    index-NAME/items.arrow     the items' columns
    index-NAME/index.json      its kind, and the form of its vectors (export.py)

An index only proposes candidates, whose exact scores decide: it may miss an item and never
misplaces one. A data set takes milliseconds for single rows, of which a search through an index
needs a hundred: so they lie beside it. Shapes: ``n`` rows that the index covers, ``d`` the vector's
length, ``Q`` queries.
"""

import math
import uuid
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from match_rcnn.retrieval.gallery.export import METRICS, ScoreForm
from match_rcnn.retrieval.gallery.items import GalleryError, optional_module
from match_rcnn.retrieval.gallery.store import BLOCK, OWN, Snapshot
from match_rcnn.retrieval.scoring import MatchScorer
from match_rcnn.utils.arrays import BoolArray, Float32Array, IntArray
from match_rcnn.utils.files import read_json, write_json

#: "flat": every item; exact but for float32's rounding. "ivf": clusters, of which a search visits
#: some. "hnsw": a graph that a search walks.
KINDS = ("flat", "ivf", "hnsw")
#: The last one is written last.
FILES = ("index.faiss", "rows.i64", "vectors.f32", "items.arrow", "index.json")

_TRAINING_SAMPLE = 50  # items a cluster
_NEIGHBOURS = 32  # of a node of the graph
# Candidates beyond k that are proposed, since the index's own order is only about right.
_WIDER = 4
_LEAST_WIDTH = 64
# Where fewer than this share of the rows may be returned, clusters are chosen by what they hold; of
# such rows this share of an unfiltered search's number is looked at.
_FILTERED = 0.5
# Down to this share, a walk through the graph visits as many more nodes as fewer count.
_HNSW_SHARE = 1 / 16


class GalleryIndex:
    """An index of one version, to search any version through. Args: folder: of :func:`build_index`;
    effort: how much a search looks at: clusters for "ivf", nodes for "hnsw". Raises: OSError,
    MissingPackageError, GalleryError."""

    def __init__(self, folder: Path, effort: int) -> None:
        self._faiss, arrow = optional_module("faiss"), optional_module("pyarrow")
        info = read_json(folder / "index.json")
        if "form" not in info:
            raise GalleryError(f"{folder} is of an older form: build_index() makes another")
        self.kind, self.effort = info["kind"], effort
        self._form = ScoreForm(**info["form"])
        flags = self._faiss.IO_FLAG_MMAP | self._faiss.IO_FLAG_READ_ONLY
        file = str(folder / "index.faiss")
        self._index = self._faiss.read_index(file, flags if self.kind == "ivf" else 0)
        self.row_ids: IntArray = np.fromfile(folder / "rows.i64", "<i8")
        self.vectors = _mapped(folder, len(self.row_ids))
        self.items = arrow.ipc.open_file(arrow.memory_map(str(folder / "items.arrow"))).read_all()

    @property
    def max_effort(self) -> int:
        """Where a search looks at everything ("ivf") or is no longer worth its time ("hnsw")."""
        size = len(self.row_ids)
        return {"flat": 1, "ivf": self._nlist, "hnsw": min(size, 4096)}[self.kind]

    def propose(self, queries: Float32Array, wanted: int, mask: BoolArray) -> list[IntArray | None]:
        """At least ``wanted`` rows of the mask (n,) that are likely the best for each query (Q, d);
        None where the index finds fewer."""
        width = min(max(_WIDER * wanted, _LEAST_WIDTH), len(mask))
        options = self._parameters(mask, min(self.effort, self.max_effort))
        found = self._index.search(self._form.queries(queries), width, params=options)[1]
        rows = [row[row >= 0] for row in found]
        return [row if len(row) >= wanted else None for row in rows]

    def _parameters(self, mask: BoolArray, effort: int) -> Any:
        share = float(np.count_nonzero(mask)) / len(mask)
        options = {} if share == 1 else {"sel": self._selector(mask)}
        if self.kind == "ivf":
            if share < _FILTERED:
                effort, options["quantizer_params"] = self._clusters_with(mask, effort)
            return self._faiss.SearchParametersIVF(nprobe=min(effort, self._nlist), **options)
        if self.kind == "hnsw":
            effort = min(math.ceil(effort / max(share, _HNSW_SHARE)), self.max_effort)
            return self._faiss.SearchParametersHNSW(efSearch=effort, **options)
        return self._faiss.SearchParameters(**options)

    def _clusters_with(self, mask: BoolArray, effort: int) -> tuple[int, Any]:
        """Visit the nearest of the clusters that hold rows of the mask at all (those around the
        query may hold none, as when trousers are looked for by the photo of a shirt), and so many
        that a fair number of such rows is looked at: how many, and how to find them."""
        held = np.bincount(self._cluster_of[mask], minlength=self._nlist)
        useful = held > 0
        number = int(np.count_nonzero(useful))
        enough = _FILTERED * effort * len(mask) / self._nlist
        visited = max(effort, math.ceil(enough * number / max(1, held.sum())))
        nearest = self._faiss.SearchParameters(sel=self._selector(useful))
        return min(visited, max(1, number)), nearest

    @property
    def _nlist(self) -> int:
        return int(self._index.nlist) if self.kind == "ivf" else 0

    @cached_property
    def _cluster_of(self) -> npt.NDArray[np.int32]:
        """(n,) the cluster of each row of "ivf"."""
        lists = self._index.invlists
        out = np.empty(len(self.row_ids), np.int32)
        for number in range(self._nlist):
            if size := lists.list_size(number):
                out[self._faiss.rev_swig_ptr(lists.get_ids(number), size)] = number
        return out

    def _selector(self, mask: BoolArray) -> Any:
        return self._faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))


def build_index(snapshot: Snapshot, scorer: MatchScorer, kind: str, parent: Path) -> Path:
    """Write one of all rows of a version; returns its folder, which nothing names yet. It takes
    minutes for a million items, and memory: a byte a number, four for "flat". Raises: ValueError,
    MissingPackageError."""
    faiss = optional_module("faiss")
    if kind not in KINDS:
        raise ValueError(f"expected an index of kind {', '.join(KINDS)}; got {kind!r}")
    folder = parent / f"index-{uuid.uuid4().hex[:16]}"
    folder.mkdir(parents=True)
    snapshot.row_ids.astype("<i8").tofile(folder / "rows.i64")
    with open(folder / "vectors.f32", "wb") as file:
        for block in snapshot.blocks():
            block.astype("<f4").tofile(file)
    arrow, table = optional_module("pyarrow"), snapshot.table(OWN)
    with arrow.ipc.new_file(str(folder / "items.arrow"), table.schema) as out:
        out.write_table(table)
    vectors = _mapped(folder, snapshot.num_rows)
    blocks = [vectors[start : start + BLOCK] for start in range(0, len(vectors), BLOCK)]
    form = ScoreForm.of(scorer, _sample(vectors, 2**14), blocks, METRICS[0])
    # 4 sqrt(n) clusters, fewer where each would get too few items to be learned from.
    clusters = max(1, min(round(4 * math.sqrt(len(vectors))), len(vectors) // 39))
    # A byte a number is enough to propose, and a quarter of the memory to go through.
    names = {"flat": "Flat", "ivf": f"IVF{clusters},SQ8", "hnsw": f"HNSW{_NEIGHBOURS},SQ8"}
    index = faiss.index_factory(form.size, names[kind], faiss.METRIC_L2)
    index.train(form.items(_sample(vectors, _TRAINING_SAMPLE * max(clusters, 400))))
    for block in blocks:
        index.add(form.items(block))
    faiss.write_index(index, str(folder / "index.faiss"))
    write_json(folder / "index.json", {"kind": kind, "form": asdict(form)})
    return folder


def _mapped(folder: Path, rows: int) -> Float32Array:
    # "c": no write reaches the file; torch warns of arrays that are read-only.
    return np.memmap(folder / "vectors.f32", "<f4", "c").reshape(rows, -1)


def _sample(vectors: Float32Array, size: int) -> Float32Array:
    rows: IntArray = np.arange(len(vectors))
    if len(vectors) > size:
        rows = np.sort(np.random.default_rng(0).choice(len(vectors), size, replace=False))
    return np.asarray(vectors[rows])
