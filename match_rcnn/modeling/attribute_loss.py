"""The loss of attributes, of which each garment has several and most are rare.

After DeepFashion (Liu et al., CVPR 2016): a weighted binary cross entropy, whose weights follow
from how many garments of the training set have attributes and how many have them not.

Shapes: ``M`` garments, ``A`` attributes.
"""

import torch
from torch.nn import functional as F

Tensor = torch.Tensor

BALANCES = ("all", "each", "none")


def attribute_weights(counts: Tensor, balance: str) -> Tensor:
    """What a negative and a positive weigh, so that over the training set both weigh the same, and
    a label weighs 1 on average.

    Args:
        counts: (2, A) of negatives and positives.
        balance: ``all``: one ratio for all attributes, which keeps frequent ones in front of rare
            ones; ``each``: one for each; ``none``: both weigh 1.

    Returns:
        (2, A); 1 where there are no positives or no negatives.
    """
    if balance not in BALANCES:
        raise ValueError(
            f"the balance of attributes must be one of {', '.join(BALANCES)}; got {balance!r}"
        )
    if balance == "none":
        return torch.ones(counts.shape)
    counts = counts.double()
    if balance == "all":
        counts = counts.sum(1, keepdim=True).expand(counts.shape)
    weights = counts.sum(0) / (2 * counts.clamp(min=1))
    return torch.where((counts > 0).all(0), weights, 1.0).float()


def attribute_loss(logits: Tensor, labels: Tensor, class_weights: Tensor) -> Tensor:
    """The weighted cross entropy, its mean over the labels that are known.

    Args:
        logits: (M, A).
        labels: (M, A) 1, -1, or 0 where unknown.
        class_weights: (2, A) of negatives and positives.

    Returns:
        A number; without known labels 0, which still has gradients.
    """
    positive, known = labels == 1, labels != 0
    weights = torch.where(positive, class_weights[1], class_weights[0]) * known
    loss = F.binary_cross_entropy_with_logits(
        logits.float(), positive.float(), weights, reduction="sum"
    )
    return loss / known.sum().clamp(min=1)
