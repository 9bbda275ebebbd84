"""Search through an index of the FAISS library: for galleries that a full pass is too slow for.

An index only proposes candidates; their exact match scores decide the order, so that what an
approximate index can do wrong is to miss an item, never to misplace one.

Shapes: ``n`` items in the index, ``d`` the vector's length, ``Q`` queries, ``k`` results.

The approximate kinds work on Euclidean distances, which the match score can be written as. With N
the positions of w that are negative and P those that are positive,

    -score = |Q - G|^2 - h(g) + a constant of the query,    h(g) = 2 sum_P(w g^2),
    Q = sqrt|w| (q_N, -q_P),    G = sqrt|w| (g_N, g_P),

and one more coordinate, 0 for queries and sqrt(H - h(g)) for items with H the largest h, takes h
in. A trained match network has few positive weights, and none for a metric loss: then this is a
plain, scaled Euclidean space. The inner-product form (``MatchScorer.augment_gallery``) is as exact,
but its last coordinate differs a lot between items: clusters and graphs built on it find little.
"""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from match_rcnn.retrieval.gallery.items import optional_module
from match_rcnn.retrieval.scoring import MatchScorer
from match_rcnn.utils.arrays import BoolArray, Float32Array, IntArray

#: "flat": every item, by inner product; exact but for float32's rounding. "ivf": clusters, of
#: which a search visits some. "hnsw": a graph that a search walks.
KINDS = ("flat", "ivf", "hnsw")

_BLOCK = 2**16
_LANES = 16  # other lengths take FAISS several times as long
_TRAINING_SAMPLE = 50  # items a cluster
_NEIGHBOURS = 32  # of a node of the graph
# Where fewer than this share of the rows may be returned, clusters are chosen by what they hold; of
# such rows this share of an unfiltered search's number is looked at.
_FILTERED = 0.5
# Down to this share, a walk through the graph visits as many more nodes as fewer count.
_HNSW_SHARE = 1 / 16


@dataclass(frozen=True, eq=False)
class EuclideanForm:
    """The match score as a Euclidean distance; see the module.

    Attributes:
        weight: (d,) float64 w.
        center: (d,) float64, taken from all vectors, so that little is lost to rounding.
        height: H.
    """

    weight: npt.NDArray[np.float64]
    center: npt.NDArray[np.float64]
    height: float = 0.0

    @property
    def dim(self) -> int:
        """d, or d + 1 where a weight is positive; and zeros up to what FAISS is quick for."""
        return math.ceil((len(self.weight) + self._raised) / _LANES) * _LANES

    @property
    def _raised(self) -> bool:
        return bool((self.weight > 0).any())

    def heights(self, vectors: Float32Array) -> npt.NDArray[np.float64]:
        """(m,) h."""
        return 2 * np.square(vectors - self.center) @ self.weight.clip(0)

    def items(self, vectors: Float32Array) -> Float32Array:
        """(m, dim)."""
        out = np.zeros((len(vectors), self.dim), np.float32)
        out[:, : len(self.weight)] = (vectors - self.center) * np.sqrt(np.abs(self.weight))
        if self._raised:
            out[:, len(self.weight)] = np.sqrt((self.height - self.heights(vectors)).clip(0))
        return out

    def queries(self, vectors: Float32Array) -> Float32Array:
        """(m, dim)."""
        sign = np.where(self.weight > 0, -1.0, 1.0)
        out = np.zeros((len(vectors), self.dim), np.float32)
        out[:, : len(self.weight)] = (vectors - self.center) * sign * np.sqrt(np.abs(self.weight))
        return out


class CandidateIndex:
    """A FAISS index over the rows of one version.

    Attributes:
        kind: of :data:`KINDS`.
        effort: how much a search looks at: clusters for "ivf", nodes for "hnsw".
        size: n.
    """

    def __init__(
        self, kind: str, faiss_index: Any, transform: Callable[[Float32Array], Float32Array]
    ) -> None:
        self.kind = kind
        self.size = int(faiss_index.ntotal)
        self.effort = 1
        self._index = faiss_index
        self._faiss = optional_module("faiss")
        self._transform = transform

    @property
    def max_effort(self) -> int:
        """Where a search looks at everything ("ivf") or is no longer worth its time ("hnsw")."""
        return {"flat": 1, "ivf": self._nlist, "hnsw": min(self.size, 4096)}[self.kind]

    @property
    def _nlist(self) -> int:
        return int(self._index.nlist) if self.kind == "ivf" else 0

    def candidates(
        self, queries: Float32Array, width: int, mask: BoolArray, effort: int | None = None
    ) -> IntArray:
        """Rows that are likely the best.

        Args:
            queries: (Q, d).
            width: how many.
            mask: (n,) the rows that may be returned.
            effort: None: the index's own.

        Returns:
            (Q, width) rows; -1 where the index found no more.
        """
        vectors = np.ascontiguousarray(self._transform(queries))
        parameters = self._parameters(mask, effort or self.effort)
        rows: IntArray = self._index.search(vectors, min(width, self.size), params=parameters)[1]
        return rows

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
        that a fair number of such rows is looked at.

        Returns:
            How many, and the parameters of the search for the nearest.
        """
        held = np.bincount(self._cluster_of[mask], minlength=self._nlist)
        useful = held > 0
        number = int(np.count_nonzero(useful))
        enough = _FILTERED * effort * self.size / self._nlist
        visited = max(effort, math.ceil(enough * number / max(1, held.sum())))
        nearest = self._faiss.SearchParameters(sel=self._selector(useful))
        return min(visited, max(1, number)), nearest

    @cached_property
    def _cluster_of(self) -> npt.NDArray[np.int32]:
        """(n,) the cluster of each row of "ivf"."""
        lists = self._index.invlists
        out = np.empty(self.size, np.int32)
        for number in range(self._nlist):
            size = lists.list_size(number)
            if size:
                ids = self._faiss.rev_swig_ptr(lists.get_ids(number), size)
                out[ids] = number
        return out

    def _selector(self, mask: BoolArray) -> Any:
        return self._faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))

    def write(self, path: Path) -> None:
        """Write the file, to the disk's end."""
        self._faiss.write_index(self._index, str(path))
        with open(path, "rb") as file:
            os.fsync(file.fileno())


def build_index(
    vectors: Float32Array, scorer: MatchScorer, kind: str
) -> tuple[CandidateIndex, dict[str, Any]]:
    """An index over vectors, mapped ones too, and what :func:`read_index` needs to read it again.

    Time at a million items of 256 numbers on two cores: minutes. Memory: the index, of a byte a
    number for "ivf" and "hnsw", four for "flat".

    Raises:
        MissingPackageError: without FAISS.
        ValueError: an unknown kind.
    """
    faiss = optional_module("faiss")
    if kind not in KINDS:
        raise ValueError(f"expected an index of kind {', '.join(KINDS)}; got {kind!r}")
    sample = _sample(vectors, 2**14)
    settings: dict[str, Any] = {"center": sample.mean(0, dtype=np.float64).tolist()}
    if kind == "flat":
        index = faiss.IndexFlatIP(vectors.shape[1] + 1)
        form = _inner_product(scorer, settings)
    else:
        settings["height"] = _largest_height(_euclidean(scorer, settings), vectors)
        euclidean = _euclidean(scorer, settings)
        form, index = euclidean.items, _approximate(faiss, kind, euclidean.dim, len(vectors))
        index.train(form(_sample(vectors, _TRAINING_SAMPLE * max(_clusters(len(vectors)), 400))))
    for start in range(0, len(vectors), _BLOCK):
        index.add(np.ascontiguousarray(form(vectors[start : start + _BLOCK])))
    return CandidateIndex(kind, index, _query_form(kind, scorer, settings)), settings


def read_index(
    path: Path, kind: str, scorer: MatchScorer, settings: dict[str, Any]
) -> CandidateIndex:
    """An index from its file; the clusters of "ivf" are mapped, not read.

    Raises:
        MissingPackageError: without FAISS.
        FileNotFoundError: no such file.
    """
    faiss = optional_module("faiss")
    if not path.is_file():
        raise FileNotFoundError(f"no index at {path}")
    flags = faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY if kind == "ivf" else 0
    index = faiss.read_index(str(path), flags)
    return CandidateIndex(kind, index, _query_form(kind, scorer, settings))


def _clusters(rows: int) -> int:
    """4 sqrt(n), fewer where each would get too few items to be learned from."""
    return max(1, min(round(4 * math.sqrt(rows)), rows // 39))


def _approximate(faiss: Any, kind: str, dim: int, rows: int) -> Any:
    # A byte a number is enough to propose, and a quarter of the memory to go through.
    name = f"IVF{_clusters(rows)},SQ8" if kind == "ivf" else f"HNSW{_NEIGHBOURS},SQ8"
    return faiss.index_factory(dim, name, faiss.METRIC_L2)


def _sample(vectors: Float32Array, size: int) -> Float32Array:
    rows: IntArray = np.arange(len(vectors))
    if len(vectors) > size:
        rows = np.sort(np.random.default_rng(0).choice(len(vectors), size, replace=False))
    return np.asarray(vectors[rows])


def _euclidean(scorer: MatchScorer, settings: dict[str, Any]) -> EuclideanForm:
    center = np.array(settings["center"], np.float64)
    return EuclideanForm(scorer.weight.numpy(), center, settings.get("height", 0.0))


def _largest_height(form: EuclideanForm, vectors: Float32Array) -> float:
    starts = range(0, len(vectors), _BLOCK)
    return max(float(form.heights(vectors[i : i + _BLOCK]).max()) for i in starts)


def _inner_product(
    scorer: MatchScorer, settings: dict[str, Any]
) -> Callable[[Float32Array], Float32Array]:
    center = torch.tensor(settings["center"], dtype=torch.float64)
    return lambda vectors: scorer.augment_gallery(vectors, center).numpy()


def _query_form(
    kind: str, scorer: MatchScorer, settings: dict[str, Any]
) -> Callable[[Float32Array], Float32Array]:
    if kind != "flat":
        return _euclidean(scorer, settings).queries
    center = torch.tensor(settings["center"], dtype=torch.float64)
    return lambda vectors: scorer.augment_queries(vectors, center).numpy()
