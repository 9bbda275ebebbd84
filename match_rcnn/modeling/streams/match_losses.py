"""Losses that bring a user photo's garment and a shop photo's together.

Shapes: ``U`` user RoIs, ``S`` shop RoIs, ``d`` the embedding's length. ``positive`` is (U, S) bool:
the RoIs show the same product. Every loss is a scalar in float32, 0 with its gradient paths intact
where there is nothing to learn from.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

Tensor = torch.Tensor


class PairClassifier(nn.Module):
    """The paper's similarity: one fully connected layer on the squared difference, two logits
    (not similar, similar).

    It starts as a distance: the score w . (q - g)^2 + b falls from 2 for equal embeddings to -2
    for unrelated ones, which lie 2 d apart when each number has variance 1 (as behind batch norm).
    With weights of random sign half of the dimensions would count the wrong way, and hold the
    extractor up until the layer has learned what a distance is.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc = nn.Linear(dim, 2)
        with torch.no_grad():
            similar = torch.tensor([-1.0, 1.0])
            self.fc.weight.copy_(-similar[:, None].expand(2, dim) / dim)
            self.fc.bias.copy_(similar)

    def forward(self, user: Tensor, shop: Tensor) -> Tensor:
        """(U, d), (S, d) -> (U, S, 2) logits."""
        return self.fc((user[:, None] - shop[None]).square())

    def score_weights(self) -> tuple[Tensor, Tensor]:
        """(d,) w and b: the score w . (q - g)^2 + b is the difference of the two logits."""
        return self.fc.weight[1] - self.fc.weight[0], self.fc.bias[1] - self.fc.bias[0]


def pair_ce(logits: Tensor, positive: Tensor) -> Tensor:
    """Cross-entropy of (U, S, 2) logits, the mean over all pairs (paper, section 4.2)."""
    if positive.numel() == 0:
        return logits.sum() * 0
    return F.cross_entropy(logits.flatten(0, 1), positive.flatten().long())


def squared_distances(user: Tensor, shop: Tensor) -> Tensor:
    """(U, S) squared Euclidean distances."""
    return (user[:, None] - shop[None]).square().sum(-1)


def triplet(user: Tensor, shop: Tensor, positive: Tensor, margin: float) -> Tensor:
    """FashionNet's triplet loss with the hardest examples of the batch.

    Each RoI, of either domain, is an anchor: its farthest positive and its nearest negative of the
    other domain must differ by ``margin`` in distance. Anchors without one of them are left out.
    """
    # The root's slope is infinite at 0.
    distances = squared_distances(user, shop).clamp(min=1e-12).sqrt()
    if not positive.numel():
        return distances.sum() * 0
    there, back = (_hardest(d, p, margin) for d, p in _both_ways(distances, positive))
    return _mean_where(*(torch.cat(pair) for pair in zip(there, back, strict=True)))


def _hardest(distances: Tensor, positive: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """Each row's loss, and whether it has both a positive and a negative."""
    farthest = distances.masked_fill(~positive, -torch.inf).amax(1)
    nearest = distances.masked_fill(positive, torch.inf).amin(1)
    return F.relu(farthest - nearest + margin), positive.any(1) & ~positive.all(1)


def _both_ways(values: Tensor, positive: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
    """From the user's side and from the shop's."""
    return (values, positive), (values.t(), positive.t())


def _mean_where(values: Tensor, chosen: Tensor) -> Tensor:
    """The mean of the chosen values, 0 of none. Unlike a selection by mask it does not have to
    wait for a GPU; and what is not chosen may be infinite."""
    return torch.where(chosen, values, 0).sum() / chosen.sum().clamp(min=1)


def contrastive(user: Tensor, shop: Tensor, positive: Tensor, margin: float) -> Tensor:
    """Positives are drawn together, negatives pushed ``margin`` apart (Hadsell et al., 2006).

    The means over positives and over negatives count alike, since a batch has many more negatives.
    """
    squared = squared_distances(user, shop)
    shortfall = F.relu(margin - squared.clamp(min=1e-12).sqrt())
    near, far = _mean_where(squared, positive), _mean_where(shortfall.square(), ~positive)
    kinds = positive.any().float() + (~positive).any()
    return (near + far) / kinds.clamp(min=1)


def info_nce(user: Tensor, shop: Tensor, positive: Tensor, temperature: float) -> Tensor:
    """Each RoI must find its positives among all RoIs of the other domain (van den Oord et al.,
    2018), in both directions; with several positives the mean of their terms.

    Args:
        user, shop: of unit length, so that the inner product is the cosine.
    """
    logits = user @ shop.t() / temperature
    there, back = (_choice(x, p) for x, p in _both_ways(logits, positive))
    return _mean_where(*(torch.cat(pair) for pair in zip(there, back, strict=True)))


def _choice(logits: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """Each row's loss, and whether it has a positive."""
    wanted = positive.to(logits.dtype)
    terms = F.log_softmax(logits, dim=1) * wanted
    return -terms.sum(1) / wanted.sum(1).clamp(min=1), positive.any(1)


@dataclass(frozen=True)
class MetricLoss:
    """A loss on embeddings of unit length; ``parameter`` names its one setting."""

    function: Callable[[Tensor, Tensor, Tensor, float], Tensor]
    parameter: str


METRIC_LOSSES = {
    "triplet": MetricLoss(triplet, "margin"),
    "contrastive": MetricLoss(contrastive, "margin"),
    "info_nce": MetricLoss(info_nce, "temperature"),
}
LOSSES = ("pair_ce", *METRIC_LOSSES)
