"""The best items of each query, proven: a fast product proposes, exact scores decide.

The product of prepared vectors gives candidates, a few more than were asked for. Their scores by
the difference form in float64 decide the order. An item that is no candidate has a product of at
most the last candidate's, so a score of at most that plus a bound of the rounding error: where the
k-th score found lies above, nothing is missing. Queries without this proof take the product again
in float64, and what then remains are ties, of which the lowest indices are taken.

Shapes: ``Q`` queries, ``G`` gallery items, ``d`` the embedding's length, ``K`` candidates.
"""

import torch

from match_rcnn.retrieval.prepared import PreparedGallery, PreparedQueries
from match_rcnn.retrieval.running_top import running_top, tile_columns

Tensor = torch.Tensor

# Entries of a block of float64 differences: what stays in a processor's cache, or fills a GPU.
_BLOCK = {"cpu": 2**15, "cuda": 2**26}
# Beyond it a float32 product may overflow, and the bound says nothing.
_LARGEST = 1e36
_TINY = 1e-37


def proven_top_k(
    queries: PreparedQueries, gallery: PreparedGallery, k: int
) -> tuple[Tensor, Tensor]:
    """(Q, k) float64 scores, falling, and indices; equal scores by index. Args: k: 1 to G."""
    scores, indices, proven = _attempt(queries, gallery, k, torch.float32)
    if not proven.all():
        again = (~proven).nonzero()[:, 0]
        found = _careful_top_k(queries.take(again), gallery, k)
        scores[again], indices[again] = found
    return scores, indices


def _careful_top_k(
    queries: PreparedQueries, gallery: PreparedGallery, k: int
) -> tuple[Tensor, Tensor]:
    scores, indices, proven = _attempt(queries, gallery, k, torch.float64)
    if not proven.all():
        again = (~proven).nonzero()[:, 0]
        tied = queries.take(again)
        scores[again], indices[again] = _first_of_ties(tied, gallery, scores[again, -1], k)
    return scores, indices


def _attempt(
    queries: PreparedQueries, gallery: PreparedGallery, k: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores and indices of the best candidates, and for which queries nothing can be better."""
    wide = _candidates(k, len(gallery))
    columns = tile_columns(gallery.device, len(queries))
    products, found = running_top(queries.vectors(dtype), gallery.tiles(dtype, columns), wide)
    scores, indices = _refine(queries, gallery, found, k)
    limit = products[:, -1].double() + queries.offsets + rounding_error(queries, gallery, dtype)
    proven = scores[:, -1] > limit
    return scores, indices, proven | (wide == len(gallery))


def _candidates(k: int, num_items: int) -> int:
    return min(k + max(4, k // 8), num_items)


def rounding_error(
    queries: PreparedQueries, gallery: PreparedGallery, dtype: torch.dtype
) -> Tensor:
    """(Q,) how far product and offset can be from the score by the difference form.

    The standard bound of an inner product's error, d u sum(|a b|), with the sum bounded by radii
    (Cauchy-Schwarz), a few u more for the rounding of the vectors, and float64's share.
    """
    d, theirs, ours = gallery.rows.shape[1], gallery.radius, queries.radii
    size = 2 * ours * theirs + theirs**2
    in_double = (ours + theirs).square() + abs(queries.score.bias)
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
    if device.type == "cuda":
        fewer = fewer or torch.backends.cuda.matmul.allow_tf32
    return 2.0**-8 if fewer else 2.0**-24


def _refine(
    queries: PreparedQueries, gallery: PreparedGallery, found: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """The ``k`` best of the candidates (Q, K) by exact scores, equal ones by index."""
    found = found.sort(dim=1).values
    kind = "cpu" if found.device.type == "cpu" else "cuda"
    step = max(1, _BLOCK[kind] // (found.shape[1] * queries.rows.shape[1]))
    parts = []
    for rows, candidates in zip(queries.rows.split(step), found.split(step), strict=True):
        parts.append(queries.score.differences(rows[:, None], gallery.take(candidates)))
    scores, order = torch.cat(parts).sort(dim=1, descending=True, stable=True)
    return scores[:, :k].contiguous(), found.gather(1, order[:, :k])


def _first_of_ties(
    queries: PreparedQueries, gallery: PreparedGallery, kth: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """The ``k`` best where more items than fit tie, in float64, with the k-th.

    Args:
        kth: (Q,) exact scores, at most twice the rounding error below the true k-th.
    """
    error = rounding_error(queries, gallery, torch.float64)
    tied = (kth - queries.offsets - error)[:, None]
    better = (kth - queries.offsets + 3 * error)[:, None]  # fewer than k items are

    def by_index(block: Tensor, part: slice, start: int) -> Tensor:
        columns = torch.arange(start, start + block.shape[1], device=block.device)
        early = 1 - columns.double() / len(gallery)
        key = torch.where(block >= tied[part], early, -1.0)
        return torch.where(block > better[part], 1 + early, key)

    columns = tile_columns(gallery.device, len(queries))
    tiles = gallery.tiles(torch.float64, columns)
    wide = _candidates(k, len(gallery))
    _, found = running_top(queries.vectors(torch.float64), tiles, wide, by_index)
    return _refine(queries, gallery, found, k)
