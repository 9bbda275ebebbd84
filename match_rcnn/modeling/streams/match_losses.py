"""Losses that bring a user photo's garment and a shop photo's together.

A loss is a module of embeddings and labels: proxies, a memory of past batches or a learned
temperature are its parameters and buffers. It registers itself under the name that
``MODEL.ROI_MATCH_HEAD.LOSS`` calls it by.

Shapes: ``M`` RoIs, ``U`` user RoIs and ``S`` shop RoIs among them, ``d`` the embedding's length.
``positive`` is (U, S) bool: the RoIs show the same product. Every loss is a scalar in float32, 0
with its gradient paths intact where there is nothing to learn from.
"""

import torch
from torch import nn
from torch.nn import functional as F

from match_rcnn.d2 import CfgNode, Registry, get_event_storage
from match_rcnn.data.image_sources import SOURCE_CODES, SOURCES

Tensor = torch.Tensor

MATCH_LOSS_REGISTRY = Registry("MATCH_LOSS")
MATCH_LOSS_REGISTRY.__doc__ = """
Callables ``(cfg, d) -> MatchLoss``.
"""


def build_match_loss(cfg: CfgNode, dim: int) -> "MatchLoss":
    """The loss that ``MODEL.ROI_MATCH_HEAD.LOSS`` names.

    Raises:
        ValueError: there is none of this name.
    """
    name = cfg.MODEL.ROI_MATCH_HEAD.LOSS
    if name not in MATCH_LOSS_REGISTRY:
        known = ", ".join(sorted(known for known, _ in MATCH_LOSS_REGISTRY))
        raise ValueError(f"MODEL.ROI_MATCH_HEAD.LOSS must be one of {known}; got {name!r}")
    loss: MatchLoss = MATCH_LOSS_REGISTRY.get(name)(cfg, dim)
    return loss


class MatchLoss(nn.Module):
    """Learns from embeddings what shows the same product.

    Attributes:
        dim: d.
        unit_length: embeddings come with length 1, and are compared by distance.
    """

    unit_length = True

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """
        Args:
            embeddings: (M, d) float32, M may be 0.
            labels: (M, 3) each RoI's source (:data:`match_rcnn.data.image_sources.SOURCE_CODES`),
                pair id and style; :func:`products` numbers them.

        Returns:
            A scalar.
        """
        raise NotImplementedError

    def score_weights(self) -> tuple[Tensor, Tensor]:
        """(d,) w and b of the pair score w . (q - g)^2 + b that this loss teaches; more is more
        alike. Here the negative squared distance."""
        return torch.full((self.dim,), -1.0), torch.zeros(())


def products(labels: Tensor) -> Tensor:
    """(M, 3) labels -> (M,) numbers, equal where RoIs show the same product."""
    return labels[:, 1:].unique(dim=0, return_inverse=True)[1]


class CrossDomainLoss(MatchLoss):
    """A loss on the pairs of a user's and a shop's RoI."""

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        user, shop = ((labels[:, 0] == SOURCE_CODES[source]).nonzero()[:, 0] for source in SOURCES)
        products = labels[:, 1:]
        positive = (products[user, None] == products[None, shop]).all(-1)
        _log_pairs(positive)
        return self.of_pairs(embeddings[user], embeddings[shop], positive)

    def of_pairs(self, user: Tensor, shop: Tensor, positive: Tensor) -> Tensor:
        """(U, d), (S, d), (U, S) -> a scalar."""
        raise NotImplementedError


def _log_pairs(positive: Tensor) -> None:
    storage = get_event_storage()
    storage.put_scalar("match/num_pairs", positive.numel())
    storage.put_scalar("match/num_positive_pairs", int(positive.sum()))


class PairCrossEntropy(CrossDomainLoss):
    """The paper's: one fully connected layer on the squared difference of two embeddings gives
    two logits (not similar, similar), of which the cross-entropy is taken.

    It starts as a distance: the score w . (q - g)^2 + b falls from 2 for equal embeddings to -2
    for unrelated ones, which lie 2 d apart when each number has variance 1 (as behind batch norm).
    With weights of random sign half of the dimensions would count the wrong way, and hold the
    extractor up until the layer has learned what a distance is.
    """

    unit_length = False

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.fc = nn.Linear(dim, 2)
        with torch.no_grad():
            similar = torch.tensor([-1.0, 1.0])
            self.fc.weight.copy_(-similar[:, None].expand(2, dim) / dim)
            self.fc.bias.copy_(similar)

    def of_pairs(self, user: Tensor, shop: Tensor, positive: Tensor) -> Tensor:
        return pair_ce_loss(self.logits(user, shop), positive)

    def logits(self, user: Tensor, shop: Tensor) -> Tensor:
        """(U, d), (S, d) -> (U, S, 2)."""
        return self.fc((user[:, None] - shop[None]).square())

    def score_weights(self) -> tuple[Tensor, Tensor]:
        """The score w . (q - g)^2 + b is the difference of the two logits."""
        return self.fc.weight[1] - self.fc.weight[0], self.fc.bias[1] - self.fc.bias[0]


def pair_ce_loss(logits: Tensor, positive: Tensor) -> Tensor:
    """Cross-entropy of (U, S, 2) logits, the mean over all pairs (paper, section 4.2)."""
    if positive.numel() == 0:
        return logits.sum() * 0
    return F.cross_entropy(logits.flatten(0, 1), positive.flatten().long())


def squared_distances(user: Tensor, shop: Tensor) -> Tensor:
    """(U, S) squared Euclidean distances."""
    return (user[:, None] - shop[None]).square().sum(-1)


def triplet_loss(user: Tensor, shop: Tensor, positive: Tensor, margin: float) -> Tensor:
    """FashionNet's triplet loss with the hardest examples of the batch.

    Each RoI, of either domain, is an anchor: its farthest positive and its nearest negative of the
    other domain must differ by ``margin`` in distance. Anchors without one of them are left out.
    """
    # The root's slope is infinite at 0.
    distances = squared_distances(user, shop).clamp(min=1e-12).sqrt()
    if not positive.numel():
        return distances.sum() * 0
    there, back = (_hardest(d, p, margin) for d, p in _both_ways(distances, positive))
    return mean_where(*(torch.cat(pair) for pair in zip(there, back, strict=True)))


def _hardest(distances: Tensor, positive: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """Each row's loss, and whether it has both a positive and a negative."""
    farthest = distances.masked_fill(~positive, -torch.inf).amax(1)
    nearest = distances.masked_fill(positive, torch.inf).amin(1)
    return F.relu(farthest - nearest + margin), positive.any(1) & ~positive.all(1)


def _both_ways(values: Tensor, positive: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
    """From the user's side and from the shop's."""
    return (values, positive), (values.t(), positive.t())


def mean_where(values: Tensor, chosen: Tensor) -> Tensor:
    """The mean of the chosen values, 0 of none. Unlike a selection by mask it does not have to
    wait for a GPU; and what is not chosen may be infinite."""
    return torch.where(chosen, values, 0).sum() / chosen.sum().clamp(min=1)


def contrastive_loss(user: Tensor, shop: Tensor, positive: Tensor, margin: float) -> Tensor:
    """Positives are drawn together, negatives pushed ``margin`` apart (Hadsell et al., 2006).

    The means over positives and over negatives count alike, since a batch has many more negatives.
    """
    squared = squared_distances(user, shop)
    shortfall = F.relu(margin - squared.clamp(min=1e-12).sqrt())
    near, far = mean_where(squared, positive), mean_where(shortfall.square(), ~positive)
    kinds = positive.any().float() + (~positive).any()
    return (near + far) / kinds.clamp(min=1)


def info_nce_loss(user: Tensor, shop: Tensor, positive: Tensor, temperature: float) -> Tensor:
    """Each RoI must find its positives among all RoIs of the other domain (van den Oord et al.,
    2018), in both directions; with several positives the mean of their terms.

    Args:
        user, shop: of unit length, so that the inner product is the cosine.
    """
    logits = user @ shop.t() / temperature
    there, back = (_choice(x, p) for x, p in _both_ways(logits, positive))
    return mean_where(*(torch.cat(pair) for pair in zip(there, back, strict=True)))


def _choice(logits: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """Each row's loss, and whether it has a positive."""
    wanted = positive.to(logits.dtype)
    terms = F.log_softmax(logits, dim=1) * wanted
    return -terms.sum(1) / wanted.sum(1).clamp(min=1), positive.any(1)


class Triplet(CrossDomainLoss):
    """:func:`triplet_loss`."""

    def __init__(self, dim: int, margin: float = 0.3) -> None:
        super().__init__(dim)
        self.margin = margin

    def of_pairs(self, user: Tensor, shop: Tensor, positive: Tensor) -> Tensor:
        return triplet_loss(user, shop, positive, self.margin)


class Contrastive(CrossDomainLoss):
    """:func:`contrastive_loss`."""

    def __init__(self, dim: int, margin: float = 0.3) -> None:
        super().__init__(dim)
        self.margin = margin

    def of_pairs(self, user: Tensor, shop: Tensor, positive: Tensor) -> Tensor:
        return contrastive_loss(user, shop, positive, self.margin)


class InfoNCE(CrossDomainLoss):
    """:func:`info_nce_loss`."""

    def __init__(self, dim: int, temperature: float = 0.07) -> None:
        super().__init__(dim)
        self.temperature = temperature

    def of_pairs(self, user: Tensor, shop: Tensor, positive: Tensor) -> Tensor:
        return info_nce_loss(user, shop, positive, self.temperature)


@MATCH_LOSS_REGISTRY.register()
def pair_ce(cfg: CfgNode, dim: int) -> MatchLoss:
    return PairCrossEntropy(dim)


@MATCH_LOSS_REGISTRY.register()
def triplet(cfg: CfgNode, dim: int) -> MatchLoss:
    return Triplet(dim, cfg.MODEL.ROI_MATCH_HEAD.MARGIN)


@MATCH_LOSS_REGISTRY.register()
def contrastive(cfg: CfgNode, dim: int) -> MatchLoss:
    return Contrastive(dim, cfg.MODEL.ROI_MATCH_HEAD.MARGIN)


@MATCH_LOSS_REGISTRY.register()
def info_nce(cfg: CfgNode, dim: int) -> MatchLoss:
    return InfoNCE(dim, cfg.MODEL.ROI_MATCH_HEAD.TEMPERATURE)
