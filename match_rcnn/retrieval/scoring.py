"""Match scores of all pairs as one matrix product: exact, and in the exact order.

The match network scores a pair w . (q - g)^2 + b, w and b the differences of its two logits'
weights and biases, of any sign. It expands to

    sum(w q^2) - 2 sum(w q g) + sum(w g^2) + b:

the product [-2 w q, 1] . [g, sum(w g^2)], and a constant of the query.

Float32 needs care: q and g may lie far from 0 and close together, and then the terms cancel.
First, scores depend on differences only, so both are moved by the gallery's mean. Second, the
product only proposes what :mod:`match_rcnn.retrieval.proven_top` decides and proves.

Shapes: ``Q`` queries, ``G`` gallery items, ``d`` the embedding's length, ``k`` results of a query.
"""

import math
import warnings
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from match_rcnn.retrieval.prepared import PairScore, PreparedGallery, PreparedQueries
from match_rcnn.retrieval.proven_top import proven_top_k
from match_rcnn.retrieval.running_top import tile_columns

Tensor = torch.Tensor
ArrayLike = Tensor | npt.NDArray[np.floating]

# Queries that are prepared at once.
_QUERY_CHUNK = 2**14


class TopK(NamedTuple):
    """The best ``k`` items of each query, best first; equal scores by index.

    Attributes:
        scores: (Q, k) float64.
        indices: (Q, k) int64 rows of the gallery.
    """

    scores: Tensor
    indices: Tensor


class MatchScorer:
    """Scores w . (q - g)^2 + b; more is more alike.

    Embeddings may be tensors or numpy arrays (memory-mapped ones too), of any floating type and on
    any device that has float64. Work is done on the queries' device; a gallery elsewhere is moved
    there piece by piece. ValueError for shapes that do not fit and for values that are not finite.
    """

    def __init__(self, weight: ArrayLike, bias: float | Tensor = 0.0) -> None:
        """
        Args:
            weight: (d,) w.
            bias: b.
        """
        w, b = as_tensor(weight).detach().double().cpu(), float(torch.as_tensor(bias).detach())
        if w.dim() != 1 or not torch.isfinite(w).all() or not math.isfinite(b):
            raise ValueError(f"expected (d,) finite weights and a bias, got {tuple(w.shape)}")
        self._score = PairScore(w, b)

    @classmethod
    def from_classifier(cls, classifier: torch.nn.Linear, similar: int = 1) -> "MatchScorer":
        """Of the match network's last layer: two logits of the squared difference.

        Args:
            similar: which of the two stands for "similar".
        """
        if classifier.out_features != 2:
            raise ValueError(f"expected a layer of 2 logits, got {classifier.out_features}")
        weight, bias = classifier.weight.detach().double(), classifier.bias
        sign = 1 if similar == 1 else -1
        difference = 0.0 if bias is None else float(sign * bias.detach().double().diff())
        return cls(sign * (weight[1] - weight[0]), difference)

    @classmethod
    def euclidean(cls, dim: int) -> "MatchScorer":
        """The negative squared distance, for embeddings from metric losses; vectors of unit length
        come in the order of their cosine."""
        return cls(torch.full((dim,), -1.0))

    @property
    def dim(self) -> int:
        """d."""
        return len(self._score.weight)

    @property
    def weight(self) -> Tensor:
        """(d,) float64 w, on the CPU."""
        return self._score.weight

    @property
    def bias(self) -> float:
        """b."""
        return self._score.bias

    @torch.no_grad()
    def scores(
        self, queries: ArrayLike, gallery: ArrayLike, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """All scores, (Q, G), each on the caller's memory; :meth:`top_k` never holds them.

        Args:
            dtype: of the product and the result.
        """
        rows = self._rows(queries, "queries")
        items = self.prepare(gallery, rows.device)
        left = PreparedQueries(self._score, rows, items.center)
        vectors, offsets = left.vectors(dtype), left.offsets.to(dtype)[:, None]
        out = torch.empty((len(rows), len(items)), dtype=dtype, device=rows.device)
        with torch.autocast(rows.device.type, enabled=False):
            for start, columns in items.tiles(dtype, tile_columns(rows.device, len(rows))):
                torch.add(vectors @ columns.T, offsets, out=out[:, start : start + len(columns)])
        return out

    @torch.no_grad()
    def top_k(self, queries: ArrayLike, gallery: ArrayLike | PreparedGallery, k: int) -> TopK:
        """The best ``k`` gallery items of each query, all G if there are fewer.

        Scores are those of the difference form in float64, and the order is theirs, equal scores
        by index. Where more items than fit are equal to within float64's rounding at the k-th
        place, the first of them are taken. Memory: blocks of bounded size. Time: the float32
        product's, and for near-ties at the k-th place the float64 product's.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        rows = self._rows(queries, "queries")
        items = (
            gallery if isinstance(gallery, PreparedGallery) else self.prepare(gallery, rows.device)
        )
        if items.score is not self._score:
            raise ValueError("the gallery was prepared by another scorer")
        k = min(k, len(items))
        scores = torch.empty((len(rows), k), dtype=torch.float64, device=items.device)
        indices = torch.empty((len(rows), k), dtype=torch.int64, device=items.device)
        with torch.autocast(items.device.type, enabled=False):
            for start in range(0, len(rows) if k else 0, _QUERY_CHUNK):
                part = slice(start, start + _QUERY_CHUNK)
                chunk = PreparedQueries(self._score, rows[part].to(items.device), items.center)
                scores[part], indices[part] = proven_top_k(chunk, items, k)
        return TopK(scores, indices)

    @torch.no_grad()
    def prepare(
        self, gallery: ArrayLike, device: torch.device | str | None = None, keep: bool = False
    ) -> PreparedGallery:
        """What :meth:`top_k` makes of a gallery, to be made once for many calls.

        Args:
            device: where to work; None: where the gallery lies.
            keep: hold the product's float32 vectors, G * (d + 1) * 4 bytes.
        """
        rows = self._rows(gallery, "gallery")
        return PreparedGallery(self._score, rows, torch.device(device or rows.device), keep)

    @torch.no_grad()
    def augment_gallery(
        self, gallery: ArrayLike, center: Tensor | None = None, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """(G, d + 1) vectors whose inner product with :meth:`augment_queries`, plus
        :meth:`query_offsets`, is the score: an index of inner products finds the best matches.

        Args:
            center: (d,) any point, the same for gallery and queries; near the embeddings' mean the
                product loses least to rounding. None: 0.
            dtype: of the result; the arithmetic is float64.
        """
        return self._score.item_vectors(_moved(self._rows(gallery, "gallery"), center), dtype)

    @torch.no_grad()
    def augment_queries(
        self, queries: ArrayLike, center: Tensor | None = None, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """(Q, d + 1), see :meth:`augment_gallery`."""
        return self._score.query_vectors(_moved(self._rows(queries, "queries"), center), dtype)

    @torch.no_grad()
    def query_offsets(self, queries: ArrayLike, center: Tensor | None = None) -> Tensor:
        """(Q,) float64: what the inner product lacks of the score; it orders nothing."""
        return self._score.squares(_moved(self._rows(queries, "queries"), center)) + self.bias

    def _rows(self, values: ArrayLike, name: str) -> Tensor:
        rows = as_tensor(values).detach()
        if rows.dim() != 2 or rows.shape[1] != self.dim:
            raise ValueError(f"expected {name} of shape (n, {self.dim}), got {tuple(rows.shape)}")
        if not rows.is_floating_point():
            raise ValueError(f"expected {name} of a floating type, got {rows.dtype}")
        return rows


def as_tensor(values: ArrayLike) -> Tensor:
    """On the same memory, which is only read."""
    if isinstance(values, Tensor):
        return values
    with warnings.catch_warnings():  # of arrays that are read-only; they are only read
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(np.asarray(values))


def _moved(rows: Tensor, center: Tensor | None) -> Tensor:
    moved = rows.double()
    return moved if center is None else moved - center.to(moved)
