"""Match scores of all pairs as one matrix product: exact, and in the exact order.

The match network scores a pair w . (q - g)^2 + b, w and b the differences of its two logits'
weights and biases, of any sign. It expands to

    sum(w q^2) - 2 sum(w q g) + sum(w g^2) + b:

the product [-2 w q, 1] . [g, sum(w g^2)], and a constant of the query.

Float32 needs care: q and g may lie far from 0 and close together, and then the terms cancel.
First, scores depend on differences only, so both are *moved* by the gallery's mean. Second, the
product, a matrix that is never held whole, only proposes candidates, a few more than were asked
for. Their scores by the difference form in float64 decide the order. An item that is no candidate
has a product of at most the last candidate's, so a score of at most that plus a bound of the
rounding error: where the k-th score found lies above, nothing is missing. Queries without this
proof take the product again in float64, and what then remains are ties, of which the lowest indices
are taken.

Shapes: ``Q`` queries (rows), ``G`` gallery items (columns), ``d`` the embedding's length, ``k``
results of a query, ``K`` candidates, ``n`` columns of a tile. A *radius* is ``sqrt(sum(|w| v^2))``
of a moved vector v: products and their rounding errors are bounded by radii.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

Tensor = torch.Tensor
ArrayLike = Tensor | npt.NDArray[np.floating]

#: (first column, (n, d) vectors) of consecutive columns.
Tile = tuple[int, Tensor]
#: (block of products, its rows, its first column) -> what is compared in place of the products.
Key = Callable[[Tensor, slice, int], Tensor]

# Entries of a block of products: what stays in a processor's cache, and what fills a GPU.
_BLOCK = {"cpu": 2**22, "cuda": 2**27}
_MAX_ROWS = {"cpu": 256, "cuda": 4096}
_MAX_COLUMNS = {"cpu": 2**15, "cuda": 2**18}
_DIFFERENCES = {"cpu": 2**15, "cuda": 2**26}  # entries of a block of float64 differences
_GROUP = 16  # entries of which only the largest is looked at first
# Beyond it a float32 product may overflow, and the bound says nothing.
_LARGEST = 1e36
_TINY = 1e-37
_QUERY_CHUNK = 2**14  # that are prepared at once


class TopK(NamedTuple):
    """The best items of each query, best first, equal scores by index: scores, (Q, k) float64, and
    rows of the gallery, (Q, k) int64."""

    scores: Tensor
    indices: Tensor


class MatchScorer:
    """Scores w . (q - g)^2 + b; more is more alike.

    Embeddings may be tensors or numpy arrays (memory-mapped ones too), of any floating type and on
    any device that has float64. Work is done on the queries' device; a gallery elsewhere is moved
    there piece by piece. ValueError for shapes that do not fit and for values that are not finite.
    """

    def __init__(self, weight: ArrayLike, bias: float | Tensor = 0.0) -> None:
        self.weight = as_tensor(weight).detach().double().cpu()
        self.bias = float(torch.as_tensor(bias).detach())
        finite = torch.isfinite(self.weight).all() and math.isfinite(self.bias)
        if self.weight.dim() != 1 or not finite:
            shape = tuple(self.weight.shape)
            raise ValueError(f"expected (d,) finite weights and a bias, got {shape}")

    @classmethod
    def euclidean(cls, dim: int) -> "MatchScorer":
        """The negative squared distance, for embeddings from metric losses; vectors of unit length
        come in the order of their cosine."""
        return cls(torch.full((dim,), -1.0))

    @property
    def dim(self) -> int:
        """d."""
        return len(self.weight)

    def differences(self, queries: Tensor, items: Tensor) -> Tensor:
        """(...) float64 scores as they are defined. Args: (..., d), broadcast."""
        difference = items.double() - queries.double()
        # No matrix product: equal items must get equal scores, wherever they stand.
        return difference.square_().mul_(self.weight.to(items.device)).sum(-1) + self.bias

    @torch.no_grad()
    def top_k(self, queries: ArrayLike, gallery: "ArrayLike | PreparedGallery", k: int) -> TopK:
        """The best ``k`` gallery items of each query, all G if there are fewer, in the order of
        the difference form in float64, equal scores by index. Where more items than fit are equal
        to within float64's rounding at the k-th place, the first of them are taken."""
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        rows = self._rows(queries, "queries")
        items = (
            gallery if isinstance(gallery, PreparedGallery) else self.prepare(gallery, rows.device)
        )
        if items.scorer is not self:
            raise ValueError("the gallery was prepared by another scorer")
        k = min(k, len(items))
        scores = torch.empty((len(rows), k), dtype=torch.float64, device=items.device)
        indices = torch.empty((len(rows), k), dtype=torch.int64, device=items.device)
        with torch.autocast(items.device.type, enabled=False):
            for start in range(0, len(rows) if k else 0, _QUERY_CHUNK):
                part = slice(start, start + _QUERY_CHUNK)
                chunk = PreparedQueries(rows[part].to(items.device), items)
                scores[part], indices[part] = proven_top_k(chunk, items, k)
        return TopK(scores, indices)

    @torch.no_grad()
    def prepare(
        self, gallery: ArrayLike, device: torch.device | str | None = None, keep: bool = False
    ) -> "PreparedGallery":
        """What :meth:`top_k` makes of a gallery, for many calls: on a device (None: its own), and,
        to ``keep`` them, with the product's float32 vectors, G * (d + 1) * 4 bytes."""
        rows = self._rows(gallery, "gallery")
        return PreparedGallery(self, rows, torch.device(device or rows.device), keep)

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


class PreparedGallery:
    """A gallery around its mean; made by :meth:`MatchScorer.prepare`. ``rows`` are (G, d) as they
    were given, ``radius`` is the largest."""

    def __init__(self, scorer: MatchScorer, rows: Tensor, device: torch.device, keep: bool) -> None:
        self.scorer, self.rows, self.device = scorer, rows, device
        self._weight = scorer.weight.to(device)
        chunks = torch.split(rows, tile_columns(device, 1))
        total = torch.zeros(rows.shape[1], dtype=torch.float64, device=device)
        for chunk in chunks:
            total += chunk.to(device).double().sum(0)
        self.center = total / max(1, len(rows))
        radii = (self.radii(self.moved(c)).amax() for c in chunks if len(c))
        self.radius = float(max(radii, default=0))
        if not math.isfinite(self.radius):
            raise ValueError("the gallery holds embeddings that are not finite")
        tiles = [self._tile(c, torch.float32) for c in chunks] if keep else []
        self._kept = torch.cat(tiles) if tiles else None

    def __len__(self) -> int:
        return len(self.rows)

    def tiles(self, dtype: torch.dtype, columns: int) -> Iterator[Tile]:
        """The items' vectors (n, d + 1), [g, sum(w g^2)], so many at a time."""
        for start in range(0, len(self), columns):
            part = slice(start, start + columns)
            if self._kept is not None and dtype == torch.float32:
                yield start, self._kept[part]
            else:
                yield start, self._tile(self.rows[part], dtype)

    def take(self, indices: Tensor) -> Tensor:
        """(..., d) rows as they were given."""
        return self.rows[indices.to(self.rows.device)].to(self.device)

    def moved(self, rows: Tensor) -> Tensor:
        """(n, d) float64."""
        return rows.to(self.device).double() - self.center

    def squares(self, moved: Tensor) -> Tensor:
        """(n,) sum(w v^2)."""
        return moved.square() @ self._weight

    def radii(self, moved: Tensor) -> Tensor:
        """(n,), not negative; not finite where the vector is not."""
        return (moved.square() @ self._weight.abs()).sqrt()

    def _tile(self, rows: Tensor, dtype: torch.dtype) -> Tensor:
        moved = self.moved(rows)
        return _append(moved, self.squares(moved), dtype)


class PreparedQueries:
    """Queries for the product with a gallery: ``rows`` (Q, d) as they were given, ``offsets`` (Q,)
    that make a score of a product, ``radii`` (Q,)."""

    def __init__(self, rows: Tensor, gallery: PreparedGallery) -> None:
        self.rows, self._gallery = rows, gallery
        self._moved = gallery.moved(rows)
        self.offsets = gallery.squares(self._moved) + gallery.scorer.bias
        self.radii = gallery.radii(self._moved)
        if not torch.isfinite(self.radii).all():
            raise ValueError("the queries hold embeddings that are not finite")

    def __len__(self) -> int:
        return len(self.rows)

    def vectors(self, dtype: torch.dtype) -> Tensor:
        """(Q, d + 1): [-2 w q, 1]."""
        moved = self._moved
        scaled = -2 * self._gallery.scorer.weight.to(moved.device) * moved
        return _append(scaled, moved.new_ones(len(moved)), dtype)

    def take(self, indices: Tensor) -> "PreparedQueries":
        """Some of them."""
        return PreparedQueries(self.rows[indices], self._gallery)


def _append(rows: Tensor, column: Tensor, dtype: torch.dtype) -> Tensor:
    out = torch.empty((len(rows), rows.shape[1] + 1), dtype=dtype, device=rows.device)
    out[:, :-1], out[:, -1] = rows, column
    return out


def proven_top_k(
    queries: PreparedQueries, gallery: PreparedGallery, k: int
) -> tuple[Tensor, Tensor]:
    """(Q, k) float64 scores, falling, and indices; equal scores by index. Args: k: 1 to G."""
    scores, indices, proven = _attempt(queries, gallery, k, torch.float32)
    left = (~proven).nonzero()[:, 0]
    if len(left):
        again = _attempt(queries.take(left), gallery, k, torch.float64)
        scores[left], indices[left], proven = again
        left = left[~proven]
    if len(left):
        tied = queries.take(left), gallery, scores[left, -1]
        scores[left], indices[left] = _first_of_ties(*tied, k)
    return scores, indices


def _attempt(
    queries: PreparedQueries, gallery: PreparedGallery, k: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores and indices of the best candidates, and for which queries nothing can be better."""
    products, found = _candidates(queries, gallery, k, dtype)
    scores, indices = _refine(queries, gallery, found, k)
    limit = products[:, -1].double() + queries.offsets + rounding_error(queries, gallery, dtype)
    return scores, indices, (scores[:, -1] > limit) | (found.shape[1] == len(gallery))


def _candidates(
    queries: PreparedQueries,
    gallery: PreparedGallery,
    k: int,
    dtype: torch.dtype,
    key: Key | None = None,
) -> tuple[Tensor, Tensor]:
    wide = min(k + max(4, k // 8), len(gallery))
    tiles = gallery.tiles(dtype, tile_columns(gallery.device, len(queries)))
    return running_top(queries.vectors(dtype), tiles, wide, key)


def rounding_error(
    queries: PreparedQueries, gallery: PreparedGallery, dtype: torch.dtype
) -> Tensor:
    """(Q,) how far product and offset can be from the score by the difference form: the standard
    bound of an inner product's error, ``d u sum(|a b|)``, with the sum bounded by radii
    (Cauchy-Schwarz), a few u more for the rounding of the vectors, and float64's share."""
    d, theirs, ours = gallery.rows.shape[1], gallery.radius, queries.radii
    size = 2 * ours * theirs + theirs**2
    in_double = (ours + theirs).square() + abs(gallery.scorer.bias)
    error = (d + 16) * (_unit(dtype, gallery.device) * size + 2.0**-52 * in_double)
    if dtype == torch.float32:
        error = torch.where(size < _LARGEST, error + d * _TINY * (1 + size), torch.inf)
    return error


def _unit(dtype: torch.dtype, device: torch.device) -> float:
    """The relative rounding of one operation; larger where torch was told to multiply float32
    numbers in fewer bits."""
    if dtype == torch.float64:
        return 2.0**-53
    fewer = torch.get_float32_matmul_precision() != "highest"
    fewer |= device.type == "cuda" and torch.backends.cuda.matmul.allow_tf32
    return 2.0**-8 if fewer else 2.0**-24


def _refine(
    queries: PreparedQueries, gallery: PreparedGallery, found: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """The ``k`` best of the candidates (Q, K) by exact scores, equal ones by index."""
    found = found.sort(dim=1).values
    step = max(1, _DIFFERENCES[_kind(found.device)] // (found.shape[1] * queries.rows.shape[1]))
    parts = []
    for start in range(0, len(found), step):
        rows, items = (x[start : start + step] for x in (queries.rows, found))
        parts.append(gallery.scorer.differences(rows[:, None], gallery.take(items)))
    scores, order = torch.cat(parts).sort(dim=1, descending=True, stable=True)
    return scores[:, :k].contiguous(), found.gather(1, order[:, :k])


def _first_of_ties(
    queries: PreparedQueries, gallery: PreparedGallery, kth: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """The ``k`` best where more items than fit tie, in float64, with the k-th, whose exact score
    (Q,) is at most twice the rounding error below the true k-th."""
    error = rounding_error(queries, gallery, torch.float64)
    tied = (kth - queries.offsets - error)[:, None]
    better = (kth - queries.offsets + 3 * error)[:, None]  # fewer than k items are

    def by_index(block: Tensor, part: slice, start: int) -> Tensor:
        columns = torch.arange(start, start + block.shape[1], device=block.device)
        early = 1 - columns.double() / len(gallery)
        key = torch.where(block >= tied[part], early, -1.0)
        return torch.where(block > better[part], 1 + early, key)

    _, found = _candidates(queries, gallery, k, torch.float64, by_index)
    return _refine(queries, gallery, found, k)


def block_rows(device: torch.device, num_queries: int) -> int:
    """Rows of a block of products."""
    return max(1, min(num_queries, _MAX_ROWS[_kind(device)]))


def tile_columns(device: torch.device, num_queries: int) -> int:
    """Columns of a tile, so that a block has bounded memory."""
    kind = _kind(device)
    return min(_BLOCK[kind] // block_rows(device, num_queries), _MAX_COLUMNS[kind])


def _kind(device: torch.device) -> str:
    return "cpu" if device.type == "cpu" else "cuda"


def running_top(
    queries: Tensor, tiles: Iterable[Tile], k: int, key: Key | None = None
) -> tuple[Tensor, Tensor]:
    """The ``k`` largest products of each query (Q, d) with all columns, which are at least ``k``,
    or of what a key makes of them: falling values and column indices, both (Q, k). Ties come in no
    promised order."""
    values = queries.new_empty((len(queries), 0))
    indices = torch.empty((len(queries), 0), dtype=torch.int64, device=queries.device)
    rows = block_rows(queries.device, len(queries))
    for start, columns in tiles:
        found = []
        for part in (slice(i, i + rows) for i in range(0, len(queries), rows)):
            block = queries[part] @ columns.T
            block = block if key is None else key(block, part, start)
            best, place = top_of_block(block, min(k, len(columns)))
            if values.shape[1]:
                best = torch.cat([values[part], best], dim=1)
                place = torch.cat([indices[part] - start, place], dim=1)
                best, among = best.topk(min(k, best.shape[1]), dim=1)
                place = place.gather(1, among)
            found.append((best, place + start))
        values, indices = (torch.cat(parts) for parts in zip(*found, strict=True))
    return values, indices


def top_of_block(block: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """``block.topk(k, dim=1)``, several times as fast for wide blocks: the k largest entries lie in
    the k groups with the largest maxima, and maxima are quick."""
    rows, columns = block.shape
    groups = columns // _GROUP
    if groups < 2 * k:
        best = block.topk(k, dim=1)
        return best.values, best.indices
    # A group's entries lie `groups` columns apart: so maxima are of whole vectors at once.
    whole = groups * _GROUP
    maxima = block[:, :whole].view(rows, _GROUP, groups).amax(1)
    chosen = maxima.topk(k, dim=1, sorted=False).indices
    members = torch.arange(0, whole, groups, device=block.device)
    places = (chosen[:, None] + members[:, None]).flatten(1)
    rest = torch.arange(whole, columns, device=block.device).expand(rows, -1)
    places = torch.cat([places, rest], dim=1)
    values, among = block.gather(1, places).topk(k, dim=1)
    return values, places.gather(1, among)
