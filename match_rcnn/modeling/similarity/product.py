"""w . (q - g)^2 + b: the score of Match R-CNN's match network, whose order a matrix product gives.

Shapes: ``B`` pairs, ``D`` length of the vectors.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from match_rcnn.d2 import CfgNode, ShapeSpec, configurable
from match_rcnn.modeling.similarity.similarity import SIMILARITY_REGISTRY, Similarity

Tensor = torch.Tensor


@SIMILARITY_REGISTRY.register()
class ProductSimilarity(Similarity):
    """One weight for each number of the vectors and a bias, learned.
    :class:`match_rcnn.retrieval.scoring.MatchScorer` finds the best of all items by it.

    It starts as a distance, as
    :class:`~match_rcnn.modeling.streams.match_losses.PairCrossEntropy` does.
    """

    @configurable
    def __init__(self, *, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.weight = nn.Parameter(torch.full((dim,), -2.0 / dim))
        self.bias = nn.Parameter(torch.tensor(2.0))

    @classmethod
    def from_config(
        cls, cfg: CfgNode, dim: int, shape: ShapeSpec | None, num_categories: int
    ) -> dict[str, Any]:
        return {"dim": dim}

    def features(self) -> dict[str, tuple[int, ...]]:
        return {"vector": (self.dim,)}

    def describe(self, vectors: Tensor, maps: Tensor | None) -> dict[str, Tensor]:
        return {"vector": vectors}

    def pairs(self, queries: Mapping[str, Tensor], items: Mapping[str, Tensor]) -> Tensor:
        return (queries["vector"] - items["vector"]).square() @ self.weight + self.bias
