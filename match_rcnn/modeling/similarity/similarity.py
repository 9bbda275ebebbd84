"""What a similarity is: named features of a garment, and a score of two garments' features.

A search has two stages. A vector finds candidates among many garments, and a similarity, which may
be too slow for all of them, orders these. What it needs of a garment it makes once
(:meth:`Similarity.describe`), so that galleries can keep it.

Shapes: ``N`` garments, ``D`` length of their vectors, maps ``(N, C, h, w)``; ``Q`` queries, ``K``
candidates of each, ``B`` pairs. A feature has the shape ``(*shape)`` for one garment.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from match_rcnn.d2 import CfgNode, Registry, ShapeSpec

Tensor = torch.Tensor

#: The one feature that no similarity makes of vectors and maps: which category the garment is of,
#: an index, -1 unknown. A model that tells categories gives it.
CATEGORY = "category"

_ADVICE = {
    "": "They must come from a model with this similarity",
    CATEGORY: "A model gives it that tells categories (MODEL.RECOGNITION.HEADS CategoryHead)",
}

SIMILARITY_REGISTRY = Registry("SIMILARITY")
SIMILARITY_REGISTRY.__doc__ = """
Classes ``(node, dim, shape, num_categories) -> Similarity``: the keys that
:func:`match_rcnn.config.similarity_keys` makes, D, the maps' shape (C, h, w) or None where there
are no maps, and the number of categories.
"""


def build_similarity(
    node: CfgNode, dim: int, shape: ShapeSpec | None, num_categories: int
) -> "Similarity":
    """The similarity that ``node.NAME`` names.

    Raises:
        ValueError: there is none of this name, or it cannot be made of what there is.
    """
    if node.NAME not in SIMILARITY_REGISTRY:
        known = ", ".join(sorted(known for known, _ in SIMILARITY_REGISTRY))
        raise ValueError(f"SIMILARITY.NAME must be one of {known}; got {node.NAME!r}")
    similarity: Similarity = SIMILARITY_REGISTRY.get(node.NAME)(node, dim, shape, num_categories)
    return similarity


class Similarity(nn.Module):
    """Scores pairs of garments.

    Attributes:
        pairs_at_once: what bounds the memory without gradients; with them all pairs are kept.
    """

    pairs_at_once = 4096

    def features(self) -> dict[str, tuple[int, ...]]:
        """What it needs of a garment: the shape of each feature by its name."""
        raise NotImplementedError

    def describe(self, vectors: Tensor, maps: Tensor | None) -> dict[str, Tensor]:
        """(N, D), (N, C, h, w) -> (N, *shape) by name, all but :data:`CATEGORY`."""
        raise NotImplementedError

    def pairs(self, queries: Mapping[str, Tensor], items: Mapping[str, Tensor]) -> Tensor:
        """(B, *shape), (B, *shape) -> (B,) logits."""
        raise NotImplementedError

    def forward(self, queries: Mapping[str, Tensor], items: Mapping[str, Tensor]) -> Tensor:
        """Logits; more is more alike.

        Args:
            queries: (Q, *shape) by name.
            items: (Q, K, *shape) by name, each query's candidates.

        Returns:
            (Q, K).

        Raises:
            ValueError: a feature is missing or has another shape.
        """
        expect_features(self, queries, 1, "the queries")
        expect_features(self, items, 2, "the candidates")
        names = tuple(self.features())
        number, candidates = next(iter(items.values())).shape[:2]
        own = {name: items[name].flatten(0, 1) for name in names}
        rows = torch.arange(number, device=own[names[0]].device).repeat_interleave(candidates)
        parts = [
            slice(start, start + self.pairs_at_once)
            for start in range(0, len(rows), self.pairs_at_once)
        ]
        if not parts:
            return next(self.parameters()).new_zeros((number, candidates))
        found = [
            self.pairs(
                {name: queries[name][rows[part]] for name in names},
                {name: own[name][part] for name in names},
            )
            for part in parts
        ]
        return torch.cat(found).view(number, candidates)


def expect_features(
    similarity: Similarity, found: Mapping[str, Any], leading: int, source: str
) -> None:
    """Check that features (..., *shape) are those that a similarity needs.

    Args:
        leading: dimensions in front of ``*shape``.
        source: whose they are, for the message.

    Raises:
        ValueError: one is missing or has another shape.
    """
    wanted, kind = similarity.features(), type(similarity).__name__
    for name in wanted:
        if name not in found:
            raise ValueError(
                f"{source} have no feature {name!r}, which the similarity {kind} needs; there "
                f"is {', '.join(found) or 'none'}. {_ADVICE.get(name, _ADVICE[''])}"
            )
        shape = tuple(found[name].shape[leading:])
        if shape != wanted[name]:
            raise ValueError(
                f"{source} have a feature {name!r} of shape {shape}, and the similarity {kind} "
                f"takes {wanted[name]}; they come from a model with other settings"
            )
