"""Queries and galleries as the vectors whose inner product is the match score.

Shapes: ``Q`` queries, ``G`` gallery items, ``d`` the embedding's length. Vectors are *moved*: a
center is taken from them, in float64, which changes no score and loses least to rounding. A
*radius* is sqrt(sum(|w| v^2)) of a moved vector v; products and their rounding errors are bounded
by radii.
"""

import math
from collections.abc import Iterator

import torch

from match_rcnn.retrieval.running_top import Tile, tile_columns

Tensor = torch.Tensor


class PairScore:
    """w . (q - g)^2 + b in float64.

    Attributes:
        weight: (d,) float64 w.
        bias: b.
    """

    def __init__(self, weight: Tensor, bias: float) -> None:
        self.weight = weight
        self.bias = bias

    def differences(self, queries: Tensor, items: Tensor) -> Tensor:
        """Scores as they are defined. Args: queries, items: (..., d), broadcast."""
        difference = items.double().sub_(queries.double())
        # No matrix product: equal items must get equal scores, wherever they stand.
        return difference.square_().mul_(self._weight(difference)).sum(-1) + self.bias

    def query_vectors(self, moved: Tensor, dtype: torch.dtype) -> Tensor:
        """(Q, d + 1): [-2 w q, 1]."""
        return _append(-2 * self._weight(moved) * moved, moved.new_ones(len(moved)), dtype)

    def item_vectors(self, moved: Tensor, dtype: torch.dtype) -> Tensor:
        """(G, d + 1): [g, sum(w g^2)]."""
        return _append(moved, self.squares(moved), dtype)

    def squares(self, moved: Tensor) -> Tensor:
        """(number,) sum(w v^2)."""
        return moved.square() @ self._weight(moved)

    def radii(self, moved: Tensor) -> Tensor:
        """(number,), not negative; not finite where the vector is not."""
        return (moved.square() @ self._weight(moved).abs()).sqrt()

    def _weight(self, like: Tensor) -> Tensor:
        return self.weight.to(like.device)


class PreparedGallery:
    """A gallery around its mean; made by ``MatchScorer.prepare``.

    Attributes:
        score: how pairs are scored.
        rows: (G, d) as they were given.
        device: where tiles and taken rows come to lie.
        center: (d,) float64, the mean.
        radius: the largest.
    """

    def __init__(self, score: PairScore, rows: Tensor, device: torch.device, keep: bool) -> None:
        self.score = score
        self.rows = rows
        self.device = device
        self._step = tile_columns(device, 1)
        total = torch.zeros(rows.shape[1], dtype=torch.float64, device=device)
        for chunk in self._chunks():
            total += chunk.to(device).double().sum(0)
        self.center = total / max(1, len(rows))
        self.radius = max(
            (float(score.radii(self._move(c)).amax()) for c in self._chunks()), default=0
        )
        if not math.isfinite(self.radius):
            raise ValueError("the gallery holds embeddings that are not finite")
        self._kept: Tensor | None = None
        if keep:
            tiles = [tile for _, tile in self.tiles(torch.float32, self._step)]
            self._kept = torch.cat(tiles) if tiles else None

    def __len__(self) -> int:
        return len(self.rows)

    def tiles(self, dtype: torch.dtype, columns: int) -> Iterator[Tile]:
        """The items' vectors, so many at a time."""
        for start in range(0, len(self), columns):
            if self._kept is not None and dtype == torch.float32:
                yield start, self._kept[start : start + columns]
            else:
                moved = self._move(self.rows[start : start + columns])
                yield start, self.score.item_vectors(moved, dtype)

    def take(self, indices: Tensor) -> Tensor:
        """(..., d) rows as they were given."""
        return self.rows[indices.to(self.rows.device)].to(self.device)

    def _chunks(self) -> Iterator[Tensor]:
        return (self.rows[i : i + self._step] for i in range(0, len(self.rows), self._step))

    def _move(self, rows: Tensor) -> Tensor:
        return rows.to(self.device).double() - self.center


class PreparedQueries:
    """Queries for the product with a gallery around ``center``.

    Attributes:
        rows: (Q, d) as they were given.
        offsets: (Q,) float64: the score is the product and this.
        radii: (Q,) float64.
    """

    def __init__(self, score: PairScore, rows: Tensor, center: Tensor) -> None:
        self.score = score
        self.rows = rows
        self._center = center
        self._moved = rows.double() - center
        self.offsets = score.squares(self._moved) + score.bias
        self.radii = score.radii(self._moved)
        if not torch.isfinite(self.radii).all():
            raise ValueError("the queries hold embeddings that are not finite")

    def __len__(self) -> int:
        return len(self.rows)

    def vectors(self, dtype: torch.dtype) -> Tensor:
        """(Q, d + 1)."""
        return self.score.query_vectors(self._moved, dtype)

    def take(self, indices: Tensor) -> "PreparedQueries":
        """Some of them."""
        return PreparedQueries(self.score, self.rows[indices], self._center)


def _append(rows: Tensor, column: Tensor, dtype: torch.dtype) -> Tensor:
    out = torch.empty((len(rows), rows.shape[1] + 1), dtype=dtype, device=rows.device)
    out[:, :-1], out[:, -1] = rows, column
    return out
