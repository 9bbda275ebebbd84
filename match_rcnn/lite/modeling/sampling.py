"""Choosing which labelled anchors or proposals take part in a loss."""

import torch
from torch import Tensor

from ..layers import nonzero_tuple

__all__ = ["subsample_labels"]


def subsample_labels(
    labels: Tensor, num_samples: int, positive_fraction: float, bg_label: int
) -> tuple[Tensor, Tensor]:
    """Draw at random up to ``num_samples`` elements, foreground first.

    Args:
        labels: (N,) -1 for ignored, ``bg_label`` for background, all else foreground.
        num_samples: how many to draw; fewer come back where there are fewer.
        positive_fraction: at most ``int(num_samples * positive_fraction)`` are foreground; the rest
            is filled with background.
        bg_label: the background's label.

    Returns:
        (P,) and (Q,) int64 indices of the foreground and background elements drawn.
    """
    positive = nonzero_tuple((labels != -1) & (labels != bg_label))[0]
    negative = nonzero_tuple(labels == bg_label)[0]
    num_positive = min(positive.numel(), int(num_samples * positive_fraction))
    num_negative = min(negative.numel(), num_samples - num_positive)
    return _draw(positive, num_positive), _draw(negative, num_negative)


def _draw(indices: Tensor, count: int) -> Tensor:
    return indices[torch.randperm(indices.numel(), device=indices.device)[:count]]
