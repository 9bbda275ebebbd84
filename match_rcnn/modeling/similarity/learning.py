"""What a similarity learns from: the pairs of a batch, and their loss.

Shapes: ``N`` garments, ``D`` length of their vectors, ``B`` pairs. Items and domains are (N,)
whole numbers, -1 unknown; domain 0 is the shop's and 1 the consumer's.
"""

from collections.abc import Mapping

import torch
from torch.nn import functional as F

from match_rcnn.modeling.similarity.similarity import Similarity

Tensor = torch.Tensor

_SHOP, _UNKNOWN = 0, -1


def comparable(items: Tensor, domains: Tensor) -> Tensor:
    """(N, N) which pairs say whether items are the same: two garments of known items, of two
    domains where domains are known, as consumer and shop photos."""
    known = items != _UNKNOWN
    one_sided = (domains[:, None] == domains[None]) & (domains != _UNKNOWN)[:, None]
    oneself = torch.eye(len(items), dtype=torch.bool, device=items.device)
    return known[:, None] & known[None] & ~one_sided & ~oneself


def learning_pairs(
    vectors: Tensor, items: Tensor, domains: Tensor, negatives: int
) -> tuple[Tensor, Tensor, Tensor]:
    """All pairs that show the same item, and as many negatives of each query as asked for: those
    whose vectors are nearest, since a similarity orders what the vectors have found.

    Args:
        vectors: (N, D).
        negatives: of each query that has a positive; 0: all that there are.

    Returns:
        (B,) queries, (B,) candidates, (B,) whether they show the same item. A shop's photo is a
        candidate only, where domains are known.
    """
    usable = comparable(items, domains) & (domains != _SHOP)[:, None]
    same = items[:, None] == items[None]
    positive = usable & same
    negative = usable & ~same & positive.any(1, keepdim=True)
    if negatives and len(items):
        found = vectors.detach().float()
        far = torch.cdist(found, found).masked_fill(~negative, torch.inf)
        nearest = far.topk(min(negatives, len(items)), largest=False).indices
        negative = negative & torch.zeros_like(negative).scatter_(1, nearest, True)
    rows, columns = (positive | negative).nonzero(as_tuple=True)
    return rows, columns, positive[rows, columns]


def pair_loss(
    similarity: Similarity,
    features: Mapping[str, Tensor],
    vectors: Tensor,
    items: Tensor,
    domains: Tensor,
    negatives: int = 3,
) -> Tensor:
    """Binary cross-entropy of the pairs of a batch, the mean of the positives' and the negatives'
    means; 0, with its gradient paths intact, where there is no pair.

    Args:
        features: (N, *shape) by name.
        vectors, items, domains, negatives: as of :func:`learning_pairs`.
    """
    rows, columns, positive = learning_pairs(vectors, items, domains, negatives)
    touched = [p.flatten()[:0] for p in similarity.parameters()]
    loss = torch.stack([t.float().sum() for t in (*touched, vectors.flatten()[:0])]).sum()
    if not len(rows):
        return loss
    asking = {name: value[rows] for name, value in features.items()}
    offered = {name: value[columns, None] for name, value in features.items()}
    logits = similarity(asking, offered)[:, 0].float()
    values = F.binary_cross_entropy_with_logits(logits, positive.float(), reduction="none")
    means = [values[part].mean() for part in (positive, ~positive) if part.any()]
    return loss + torch.stack(means).mean()
