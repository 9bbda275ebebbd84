"""A graph over the similarities of regions, after GRNet (Kuang et al., "Fashion Retrieval via Graph
Reasoning Networks on a Similarity Pyramid", ICCV 2019).

A garment is a pyramid of regions: at each scale windows over its map, of which each gives a vector.
A pair of garments is a graph. Its nodes are the pairs of regions x_i, y_j of one scale:

    s = P (x_i - y_j)^2 + p, brought to length 1,

with the square by element. Its edges are by softmax over all nodes, those of other scales too:

    w_ab = softmax_b((T_out s_a) . (T_in s_b)),    h_a = ReLU(W sum_b w_ab s_b).

After some steps the node of the two whole garments gives the score. The paper's published form has
no p. Without it a node says in which proportions two regions differ and not how much.

Scales, widths, the number of steps and how the score is read are not published. Here each step has
weights of its own, and the last computes the one node that is read.

Shapes: ``B`` pairs, ``R`` regions of a garment, ``C`` length of their vectors, ``n`` nodes: the sum
of windows^4 over the scales; ``D`` length of a node; maps ``(N, c, h, w)``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from match_rcnn.d2 import CfgNode, ShapeSpec, configurable
from match_rcnn.modeling.similarity.similarity import SIMILARITY_REGISTRY, Similarity

Tensor = torch.Tensor

# Numbers of all nodes that are computed at once: what stays near a processor.
_NODE_NUMBERS = 2**20
_TINY = 1e-6  # in the place of a node's length 0, at which the slope is infinite


@SIMILARITY_REGISTRY.register()
class RegionGraph(Similarity):
    """See the module.

    Args:
        channels: c.
        scales: windows a side, the first 1.
        region_dim: C; vectors of regions have length 1.
        node_dim: D.
        steps: reasoning steps; 0: the score is read from the first node as it is.

    Raises:
        ValueError: scales that do not begin with 1 and rise, or a negative number of steps.
    """

    @configurable
    def __init__(
        self,
        *,
        channels: int,
        scales: Sequence[int] = (1, 2, 4),
        region_dim: int = 128,
        node_dim: int = 128,
        steps: int = 2,
    ) -> None:
        super().__init__()
        if list(scales) != sorted(set(scales)) or not scales or scales[0] != 1:
            raise ValueError(
                "SIMILARITY.GRAPH.SCALES must be windows a side that begin with 1, whose node "
                f"gives the score, and rise, such as [1, 2, 4]; got {list(scales)}"
            )
        if steps < 0:
            raise ValueError(f"SIMILARITY.GRAPH.STEPS must be 0 or more, got {steps}")
        self.scales = tuple(scales)
        self.regions = [scale**2 for scale in scales]
        self.region_dim = region_dim
        self.pairs_at_once = max(1, _NODE_NUMBERS // (sum(r * r for r in self.regions) * node_dim))
        self.reduce = nn.Linear(channels, region_dim)
        self.project = nn.Linear(region_dim, node_dim)
        self.steps = nn.ModuleList(GraphStep(node_dim) for _ in range(steps))
        self.score = nn.Linear(node_dim, 1)

    @classmethod
    def from_config(
        cls, cfg: CfgNode, dim: int, shape: ShapeSpec | None, num_categories: int
    ) -> dict[str, Any]:
        if shape is None or not shape.channels:
            raise ValueError("the similarity RegionGraph needs maps; the features are vectors")
        return {
            "channels": shape.channels,
            "scales": cfg.GRAPH.SCALES,
            "region_dim": cfg.GRAPH.REGION_DIM,
            "node_dim": cfg.GRAPH.NODE_DIM,
            "steps": cfg.GRAPH.STEPS,
        }

    def features(self) -> dict[str, tuple[int, ...]]:
        return {"regions": (sum(self.regions), self.region_dim)}

    def describe(self, vectors: Tensor, maps: Tensor | None) -> dict[str, Tensor]:
        assert maps is not None
        pooled = [F.adaptive_avg_pool2d(maps, scale).flatten(2) for scale in self.scales]
        return {"regions": F.normalize(self.reduce(torch.cat(pooled, 2).mT), dim=-1)}

    def pairs(self, queries: Mapping[str, Tensor], items: Mapping[str, Tensor]) -> Tensor:
        nodes = self.nodes(queries["regions"], items["regions"])
        for i, step in enumerate(self.steps):
            is_last = i == len(self.steps) - 1
            nodes = step(nodes[:, :1] if is_last else nodes, nodes)
        scores: Tensor = self.score(nodes[:, 0])
        return scores[:, 0]

    def nodes(self, queries: Tensor, items: Tensor) -> Tensor:
        """(B, R, C), (B, R, C) -> (B, n, D), scale by scale, the query's region first."""
        scales = zip(queries.split(self.regions, 1), items.split(self.regions, 1), strict=True)
        squares = [(x[:, :, None] - y[:, None]).square().flatten(1, 2) for x, y in scales]
        return F.normalize(self.project(torch.cat(squares, 1)), dim=-1, eps=_TINY)


class GraphStep(nn.Module):
    """One step of reasoning: nodes look at all nodes.

    Args:
        dim: D.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.outward = nn.Linear(dim, dim, bias=False)
        self.inward = nn.Linear(dim, dim, bias=False)
        self.mix = nn.Linear(dim, dim)

    def forward(self, asking: Tensor, nodes: Tensor) -> Tensor:
        """(B, m, D) those that look, (B, n, D) all -> (B, m, D)."""
        # (T_out s_a) . (T_in s_b) = (s_a T_out' T_in) . s_b: one product less for each node. The
        # host's attention never holds the n x n edges of all pairs.
        looking = asking @ (self.outward.weight.mT @ self.inward.weight)
        heard = F.scaled_dot_product_attention(
            looking[:, None], nodes[:, None], nodes[:, None], scale=1.0
        )
        return F.relu(self.mix(heard[:, 0]))
