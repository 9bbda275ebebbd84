"""A network of three layers on pairs of vectors, after WTBI ("Where to buy it", Kiapour et al.,
ICCV 2015): one for all categories, then a copy for each.

Shapes: ``B`` pairs, ``D`` length of the vectors, ``P`` networks.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from match_rcnn.d2 import CfgNode, ShapeSpec, configurable
from match_rcnn.modeling.similarity.similarity import CATEGORY, SIMILARITY_REGISTRY, Similarity

Tensor = torch.Tensor

INPUTS = ("symmetric", "concat")


@SIMILARITY_REGISTRY.register()
class PairNetwork(Similarity):
    """Linear layers with ReLU between them on two vectors, brought to length sqrt(D).

    The paper's input is the two vectors, the query's first (``concat``). Which of two photos asks
    says nothing where both are of one domain, and a network that must learn this needs more pairs:
    ``symmetric`` takes |q - g| and q * g, of which a score cannot depend on the order. The paper's
    softmax over two outputs is the sigmoid of one, their difference.

    A copy for a category is the shared network plus its own difference, which starts at 0. With
    copies the shared weights rest: they come from a training without copies
    (``MODEL.WEIGHTS``), and pairs whose query is of an unknown category are scored by them.

    Args:
        dim: D.
        hidden_dims: widths of the layers in front of the last.
        pair_input: one of :data:`INPUTS`.
        copies: categories with a copy of their own; 0: none.

    Raises:
        ValueError: an unknown input, or no hidden layer.
    """

    @configurable
    def __init__(
        self,
        *,
        dim: int,
        hidden_dims: Sequence[int] = (512, 512),
        pair_input: str = "symmetric",
        copies: int = 0,
    ) -> None:
        super().__init__()
        if pair_input not in INPUTS:
            raise ValueError(f"SIMILARITY.PAIR.INPUT must be one of {INPUTS}, got {pair_input!r}")
        if not hidden_dims:
            raise ValueError("SIMILARITY.PAIR.HIDDEN_DIMS is empty; such as [512, 512]")
        self.dim, self.pair_input, self.copies = dim, pair_input, copies
        layers = [nn.Linear(inner, outer) for inner, outer in pairwise((2 * dim, *hidden_dims, 1))]
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        self.layers = nn.ModuleList(layers).requires_grad_(not copies)
        own = list(self.layers.parameters()) if copies else []
        self.differences = nn.ParameterList([torch.zeros(copies, *p.shape) for p in own])

    @classmethod
    def from_config(
        cls, cfg: CfgNode, dim: int, shape: ShapeSpec | None, num_categories: int
    ) -> dict[str, Any]:
        if cfg.PAIR.PER_CATEGORY and num_categories < 1:
            raise ValueError("SIMILARITY.PAIR.PER_CATEGORY needs categories; there are none")
        return {
            "dim": dim,
            "hidden_dims": cfg.PAIR.HIDDEN_DIMS,
            "pair_input": cfg.PAIR.INPUT,
            "copies": num_categories if cfg.PAIR.PER_CATEGORY else 0,
        }

    def features(self) -> dict[str, tuple[int, ...]]:
        return {"vector": (self.dim,), **({CATEGORY: ()} if self.copies else {})}

    def describe(self, vectors: Tensor, maps: Tensor | None) -> dict[str, Tensor]:
        return {"vector": vectors}

    def pairs(self, queries: Mapping[str, Tensor], items: Mapping[str, Tensor]) -> Tensor:
        asking, offered = (
            F.normalize(x["vector"], dim=-1) * self.dim**0.5 for x in (queries, items)
        )
        if self.pair_input == "symmetric":
            pair = torch.cat([(asking - offered).abs(), asking * offered], -1)
        else:
            pair = torch.cat([asking, offered], -1)
        if not self.copies:
            return self._network(pair, -1)
        scores = pair.new_zeros(len(pair))
        for category in queries[CATEGORY].unique().tolist():
            rows = (queries[CATEGORY] == category).nonzero()[:, 0]
            scores = scores.index_put((rows,), self._network(pair[rows], category).to(scores))
        return scores

    def _network(self, pair: Tensor, category: int) -> Tensor:
        """(B, 2 D) -> (B,) by the network of a category, -1: the shared one."""
        values = list(self.layers.parameters())
        if category >= 0:
            values = [v + own[category] for v, own in zip(values, self.differences, strict=True)]
        for i in range(0, len(values), 2):
            pair = F.linear(F.relu(pair) if i else pair, values[i], values[i + 1])
        return pair[:, 0]
