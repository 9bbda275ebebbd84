"""What is read from a garment's vector: its category, its attributes, and where it lies among
others for retrieval.

A head registers itself, and ``MODEL.RECOGNITION.HEADS`` lists it.

Shapes: ``N`` garments, ``D`` length of the fused vector, ``C`` categories, ``A`` attributes, ``d``
length of an embedding; maps ``(N, c, h, w)``.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from match_rcnn.d2 import CfgNode, Registry, ShapeSpec, configurable
from match_rcnn.data.crops import UNKNOWN
from match_rcnn.modeling.attribute_loss import attribute_loss, attribute_weights
from match_rcnn.modeling.recognition.features import Features
from match_rcnn.modeling.recognition.truth import Truth
from match_rcnn.modeling.similarity import CATEGORY, Similarity, build_similarity
from match_rcnn.modeling.similarity.learning import comparable, pair_loss
from match_rcnn.modeling.streams.match_losses import mean_where, squared_distances
from match_rcnn.modeling.taxonomy import taxonomy_from_config

Tensor = torch.Tensor
Losses = dict[str, Tensor]

RECOGNITION_HEAD_REGISTRY = Registry("RECOGNITION_HEAD")
RECOGNITION_HEAD_REGISTRY.__doc__ = """
Classes ``(cfg, D, shape) -> RecognitionHead``; ``shape`` is the maps' (c, h, w).
"""


class RecognitionHead(nn.Module):
    """Reads something from the features of garments."""

    def losses(self, features: Features, truth: Truth) -> Losses:
        """By names that begin with ``loss_``; what is not known costs nothing."""
        raise NotImplementedError

    def predict(self, features: Features) -> dict[str, Tensor]:
        """Fields (N, ...) of the results."""
        raise NotImplementedError

    def learn_counts(self, counts: Tensor, together: Tensor) -> None:
        """What the labels of a training set say, before training starts.

        Args:
            counts: (2, A) how many images have each attribute not, and have it.
            together: (T, 3) how many images have none of a type's attributes, one, and several;
                types in the order in which the attributes first have them.
        """


@RECOGNITION_HEAD_REGISTRY.register()
class CategoryHead(RecognitionHead):
    """One of C categories: softmax, cross-entropy.

    Raises:
        ValueError: there are no categories.
    """

    @configurable
    def __init__(self, *, dim: int, num_categories: int, weight: float = 1.0) -> None:
        super().__init__()
        expect(num_categories, "CategoryHead", "categories")
        self.fc = predictor(dim, num_categories)
        self.weight = weight

    @classmethod
    def from_config(cls, cfg: CfgNode, dim: int, shape: ShapeSpec) -> dict[str, Any]:
        node = cfg.MODEL.RECOGNITION
        return {
            "dim": dim,
            "num_categories": taxonomy_from_config(cfg).num_categories,
            "weight": node.CATEGORY_WEIGHT,
        }

    def losses(self, features: Features, truth: Truth) -> Losses:
        known = truth.categories != UNKNOWN
        wanted = truth.categories.clamp(min=0)
        values = F.cross_entropy(self.fc(features.vectors), wanted, reduction="none")
        return {"loss_category": self.weight * mean_where(values, known)}

    def predict(self, features: Features) -> dict[str, Tensor]:
        scores = self.fc(features.vectors).softmax(-1)
        return {"category_scores": scores, CATEGORY: scores.argmax(-1)}


@RECOGNITION_HEAD_REGISTRY.register()
class AttributeHead(RecognitionHead):
    """A attributes, each a question of its own.

    FashionNet weighs positives and negatives by "the ratio of the numbers of positive and negative
    samples in the training set"; how, it does not say.

    Args:
        balance: of :func:`~match_rcnn.modeling.attribute_loss.attribute_weights`.

    Attributes:
        class_weights: (2, A) what a negative and a positive weigh; 1 until :meth:`learn_counts`.

    Raises:
        ValueError: there are no attributes.
    """

    class_weights: Tensor

    @configurable
    def __init__(
        self, *, dim: int, num_attributes: int, weight: float = 1.0, balance: str = "all"
    ) -> None:
        super().__init__()
        expect(num_attributes, "AttributeHead", "attributes")
        self.fc = predictor(dim, num_attributes)
        self.weight = weight
        self.balance = balance
        weights = torch.ones(2, num_attributes)
        self.register_buffer("class_weights", weights, persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode, dim: int, shape: ShapeSpec) -> dict[str, Any]:
        node = cfg.MODEL.RECOGNITION
        return {
            "dim": dim,
            "num_attributes": len(taxonomy_from_config(cfg).attributes),
            "weight": node.ATTRIBUTE_WEIGHT,
            "balance": node.ATTRIBUTE_BALANCE,
        }

    def learn_counts(self, counts: Tensor, together: Tensor) -> None:
        """Set the weights."""
        self.class_weights.copy_(attribute_weights(counts, self.balance))

    def losses(self, features: Features, truth: Truth) -> Losses:
        loss = attribute_loss(self.fc(features.vectors), truth.attributes, self.class_weights)
        return {"loss_attributes": self.weight * loss}

    def predict(self, features: Features) -> dict[str, Tensor]:
        return {"attribute_scores": self.fc(features.vectors).sigmoid()}


@RECOGNITION_HEAD_REGISTRY.register()
class EmbeddingHead(RecognitionHead):
    """A vector for retrieval by Euclidean distance, taught by triplets.

    Args:
        embedding_dim: d; 0: the fused vector itself.
        margin: by which a negative must be farther than a positive.
        unit_length: whether embeddings have length 1.
    """

    @configurable
    def __init__(
        self,
        *,
        dim: int,
        embedding_dim: int = 0,
        margin: float = 0.3,
        weight: float = 1.0,
        unit_length: bool = True,
    ) -> None:
        super().__init__()
        self.fc = predictor(dim, embedding_dim, std=dim**-0.5) if embedding_dim else nn.Identity()
        self.margin = margin
        self.weight = weight
        self.unit_length = unit_length

    @classmethod
    def from_config(cls, cfg: CfgNode, dim: int, shape: ShapeSpec) -> dict[str, Any]:
        node = cfg.MODEL.RECOGNITION
        return {
            "dim": dim,
            "embedding_dim": node.EMBEDDING_DIM,
            "margin": node.TRIPLET_MARGIN,
            "weight": node.TRIPLET_WEIGHT,
        }

    def embed(self, vectors: Tensor) -> Tensor:
        """(N, D) -> (N, d)."""
        found: Tensor = self.fc(vectors)
        return F.normalize(found, dim=-1) if self.unit_length else found

    def losses(self, features: Features, truth: Truth) -> Losses:
        embeddings = self.embed(features.vectors).float()
        loss = triplet_loss(embeddings, truth.items, truth.domains, self.margin)
        return {"loss_triplet": self.weight * loss}

    def predict(self, features: Features) -> dict[str, Tensor]:
        return {"embedding": self.embed(features.vectors)}


@RECOGNITION_HEAD_REGISTRY.register()
class SimilarityHead(RecognitionHead):
    """What a similarity needs of a garment, and its loss on the pairs of a batch.

    Args:
        similarity: (Q, *shape), (Q, K, *shape) by name -> (Q, K).
        negatives: of each query, the nearest of the batch; 0: all.
    """

    @configurable
    def __init__(self, *, similarity: Similarity, negatives: int = 3, weight: float = 1.0) -> None:
        super().__init__()
        self.similarity = similarity
        self.negatives = negatives
        self.weight = weight

    @classmethod
    def from_config(cls, cfg: CfgNode, dim: int, shape: ShapeSpec) -> dict[str, Any]:
        node = cfg.MODEL.RECOGNITION.SIMILARITY
        categories = taxonomy_from_config(cfg).num_categories
        return {
            "similarity": build_similarity(node, dim, shape, categories),
            "negatives": node.NEGATIVES,
            "weight": node.WEIGHT,
        }

    def losses(self, features: Features, truth: Truth) -> Losses:
        described = self.similarity.describe(features.vectors, features.maps)
        loss = pair_loss(
            self.similarity,
            {**described, CATEGORY: truth.categories},
            features.vectors,
            truth.items,
            truth.domains,
            self.negatives,
        )
        return {"loss_similarity": self.weight * loss}

    def predict(self, features: Features) -> dict[str, Tensor]:
        return self.similarity.describe(features.vectors, features.maps)


def triplet_loss(embeddings: Tensor, items: Tensor, domains: Tensor, margin: float) -> Tensor:
    """max(0, margin + d(x, x+) - d(x, x-)) over all triplets that a batch holds, their mean.

    x+ shows the same item and x- another one. Where the domains are known both are of the other
    domain than x, as consumer and shop photos.

    Args:
        embeddings: (N, d).
        items, domains: (N,), UNKNOWN where there is none.
    """
    # The root's slope is infinite at 0.
    distances = squared_distances(embeddings, embeddings).clamp(min=1e-12).sqrt()
    usable = comparable(items, domains)
    same = items[:, None] == items[None]
    positive, negative = usable & same, usable & ~same
    values = F.relu(margin + distances[:, :, None] - distances[:, None, :])
    return mean_where(values, positive[:, :, None] & negative[:, None, :])


def predictor(dim: int, outputs: int, std: float = 0.01) -> nn.Linear:
    """A head's last layer: its start is near 0."""
    layer = nn.Linear(dim, outputs)
    nn.init.normal_(layer.weight, std=std)
    nn.init.zeros_(layer.bias)
    return layer


def expect(number: int, head: str, what: str) -> None:
    """
    Raises:
        ValueError: the training set has none of what a head reads.
    """
    if number < 1:
        raise ValueError(
            f"MODEL.RECOGNITION.HEADS lists {head}, but the training set has no {what}; leave it "
            "out"
        )
