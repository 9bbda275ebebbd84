"""Attributes in the groups that their types are: a layer and a loss for each type.

After DARN (Huang et al., ICCV 2015), which reads nine attributes of clothes, such as the sleeves'
length, each with values of which a garment has one: a tree of layers that ends in a softmax an
attribute. What are attributes and values there are types and attributes here; and not all types
are such that a garment has only one of them.

Shapes: ``N`` garments, ``D`` length of the fused vector, ``A`` attributes, ``T`` types, ``A_t``
attributes of one type.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from match_rcnn.d2 import CfgNode, ShapeSpec, configurable
from match_rcnn.modeling.attribute_loss import attribute_loss, attribute_weights
from match_rcnn.modeling.recognition.branch import fully_connected
from match_rcnn.modeling.recognition.features import Features
from match_rcnn.modeling.recognition.heads import (
    RECOGNITION_HEAD_REGISTRY,
    Losses,
    RecognitionHead,
    expect,
    predictor,
)
from match_rcnn.modeling.recognition.truth import Truth
from match_rcnn.modeling.streams.match_losses import mean_where
from match_rcnn.modeling.taxonomy import taxonomy_from_config

Tensor = torch.Tensor


@RECOGNITION_HEAD_REGISTRY.register()
class TypedAttributeHead(RecognitionHead):
    """One loss a type: softmax where its attributes exclude one another, else a question each.

    Args:
        types: of each attribute, the name of its type.
        type_dim: width of a layer of each type's own; 0: none.
        exclusive_share: a type's attributes exclude one another where of the training images that
            have one of them at most this share has a second.
        balance: of the types whose attributes do not, see
            :func:`~match_rcnn.modeling.attribute_loss.attribute_weights`.

    Attributes:
        exclusive: (T,) which types' attributes exclude one another; learned from the training set,
            and kept in the checkpoint, since it decides what a score is.
        class_weights: (2, A) as for ``AttributeHead``.

    Raises:
        ValueError: there are no attributes, or the share is out of its range.
    """

    exclusive: Tensor
    class_weights: Tensor

    @configurable
    def __init__(
        self,
        *,
        dim: int,
        types: Sequence[str],
        type_dim: int = 0,
        weight: float = 1.0,
        exclusive_share: float = 0.15,
        balance: str = "all",
    ) -> None:
        super().__init__()
        expect(len(types), "TypedAttributeHead", "attributes")
        if not 0 <= exclusive_share <= 1:
            raise ValueError(
                "MODEL.RECOGNITION.EXCLUSIVE_SHARE is a share of images, from 0 to 1; got "
                f"{exclusive_share}"
            )
        self.types = places_by_type(types)
        self.branches = nn.ModuleList(
            nn.Sequential(
                *fully_connected(dim, [type_dim] if type_dim else []),
                predictor(type_dim or dim, len(own)),
            )
            for own in self.types.values()
        )
        self.weight = weight
        self.exclusive_share = exclusive_share
        self.balance = balance
        self.register_buffer("exclusive", torch.zeros(len(self.types), dtype=torch.bool))
        self.register_buffer("class_weights", torch.ones(2, len(types)), persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode, dim: int, shape: ShapeSpec) -> dict[str, Any]:
        node = cfg.MODEL.RECOGNITION
        return {
            "dim": dim,
            "types": [attribute.type for attribute in taxonomy_from_config(cfg).attributes],
            "type_dim": node.TYPE_DIM,
            "weight": node.ATTRIBUTE_WEIGHT,
            "exclusive_share": node.EXCLUSIVE_SHARE,
            "balance": node.ATTRIBUTE_BALANCE,
        }

    def learn_counts(self, counts: Tensor, together: Tensor) -> None:
        """Set the weights, type by type, and decide which types' attributes exclude one another."""
        for own in self.types.values():
            weights = attribute_weights(counts[:, own], self.balance)
            self.class_weights[:, own] = weights.to(self.class_weights)
        several, with_any = together[:, 2], together[:, 1:].sum(1)
        self.exclusive.copy_((several <= self.exclusive_share * with_any) & (with_any > 0))

    def losses(self, features: Features, truth: Truth) -> Losses:
        found = {}
        for name, own, one, logits in self._by_type(features):
            labels = truth.attributes[:, own]
            if one:
                loss = exclusive_loss(logits, labels)
            else:
                loss = attribute_loss(logits, labels, self.class_weights[:, own])
            found[f"loss_attributes/{name}"] = self.weight * loss
        return found

    def predict(self, features: Features) -> dict[str, Tensor]:
        vectors = features.vectors
        scores = vectors.new_zeros((len(vectors), self.class_weights.shape[1]), dtype=torch.float32)
        for _, own, one, logits in self._by_type(features):
            scores[:, own] = _with_none(logits).softmax(-1)[:, 1:] if one else logits.sigmoid()
        return {"attribute_scores": scores}

    def _by_type(self, features: Features) -> Iterator[tuple[str, list[int], bool, Tensor]]:
        """Of each type its name, its attributes, whether they exclude one another, (N, A_t)."""
        exclusive: list[bool] = self.exclusive.tolist()
        for (name, own), one, branch in zip(
            self.types.items(), exclusive, self.branches, strict=True
        ):
            yield name, own, one, branch(features.vectors).float()


def places_by_type(types: Sequence[str]) -> dict[str, list[int]]:
    """Where the attributes of each type stand, types in the order of first appearance.

    Args:
        types: of each attribute, the name of its type.
    """
    return {name: [i for i, own in enumerate(types) if own == name] for name in types}


def exclusive_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of "one of them, or none", whose logit is 0; the mean over garments.

    A garment that has several, by an error, has each with an equal share. One that has none as far
    as is known costs nothing, if of some attribute it is not known.

    Args:
        logits: (N, A_t).
        labels: (N, A_t) 1, -1, or 0 where unknown.
    """
    has = (labels == 1).to(logits.dtype)
    has_none = (labels == -1).all(1, keepdim=True).to(logits.dtype)
    wanted = torch.cat([has_none, has], 1)
    total = wanted.sum(1)
    values = -(wanted * F.log_softmax(_with_none(logits), -1)).sum(1) / total.clamp(min=1)
    return mean_where(values, total > 0)


def _with_none(logits: Tensor) -> Tensor:
    """(N, A_t) -> (N, 1 + A_t), first the logit of none of them."""
    return F.pad(logits, (1, 0))
