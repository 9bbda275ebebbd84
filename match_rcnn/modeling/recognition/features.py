"""What is known of the garments of a batch behind the shared layers, as heads get it.

Shapes: ``N`` garments, ``D`` length of the fused vector, maps ``(N, C, h, w)``.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Features:
    """Features of N garments.

    Attributes:
        vectors: (N, D).
        maps: (N, C, h, w) of their regions, those that the branches get.
    """

    vectors: torch.Tensor
    maps: torch.Tensor
