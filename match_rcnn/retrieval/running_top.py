"""The largest entries of each row of a matrix product that is never held whole.

Shapes: ``Q`` rows (queries), ``G`` columns (gallery items), ``d`` the vectors' length, ``K`` how
many are wanted of each row, ``n`` columns of a tile.
"""

from collections.abc import Callable, Iterable

import torch

Tensor = torch.Tensor
#: (first column, (n, d) vectors) of consecutive columns.
Tile = tuple[int, Tensor]
#: (block of products, its rows, its first column) -> what is compared in place of the products.
Key = Callable[[Tensor, slice, int], Tensor]

# Entries of a block of products: what stays in a processor's cache, and what fills a GPU.
_BLOCK = {"cpu": 2**22, "cuda": 2**27}
_MAX_ROWS = {"cpu": 256, "cuda": 4096}
_MAX_COLUMNS = {"cpu": 2**15, "cuda": 2**18}
# Entries of which only the largest is looked at first.
_GROUP = 16


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
    """The ``k`` largest products of each query with all columns, in no promised order of ties.

    Args:
        queries: (Q, d).
        tiles: the columns; all together at least ``k``.
        key: compare this in place of the products.

    Returns:
        values and column indices, both (Q, k), falling values.
    """
    values = queries.new_empty((len(queries), 0))
    indices = torch.empty((len(queries), 0), dtype=torch.int64, device=queries.device)
    rows = block_rows(queries.device, len(queries))
    parts = [slice(i, i + rows) for i in range(0, len(queries), rows)]
    for start, columns in tiles:
        found = []
        for part in parts:
            block = queries[part] @ columns.T
            block = block if key is None else key(block, part, start)
            best, place = top_of_block(block, min(k, len(columns)))
            found.append(_merge((values[part], indices[part]), (best, place + start), k))
        values = torch.cat([v for v, _ in found])
        indices = torch.cat([i for _, i in found])
    return values, indices


def _merge(old: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor], k: int) -> tuple[Tensor, Tensor]:
    if not old[0].shape[1]:
        return new
    values, indices = (torch.cat(pair, dim=1) for pair in zip(old, new, strict=True))
    best, place = values.topk(min(k, values.shape[1]), dim=1)
    return best, indices.gather(1, place)


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
