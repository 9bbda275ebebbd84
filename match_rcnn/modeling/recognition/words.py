"""Which words of its description a garment's vector says.

After Corbière et al. (ICCV workshops 2017): the probability of a word is a softmax over the
products of the image's vector and the words' vectors; over few words drawn anew where the
vocabulary is large (what they are weighed with, the paper does not say).

Shapes: ``N`` garments, ``D`` length of a vector, ``K`` words, ``S`` drawn words.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from match_rcnn.d2 import CfgNode, ShapeSpec, configurable
from match_rcnn.data.crops import UNKNOWN
from match_rcnn.modeling.recognition.features import Features
from match_rcnn.modeling.recognition.heads import (
    RECOGNITION_HEAD_REGISTRY,
    Losses,
    RecognitionHead,
)
from match_rcnn.modeling.recognition.truth import Truth
from match_rcnn.modeling.streams.match_losses import mean_where
from match_rcnn.modeling.taxonomy import taxonomy_from_config

Tensor = torch.Tensor

#: Of each result, so many words are told, the most probable ones.
WORDS_TOLD = 10


@RECOGNITION_HEAD_REGISTRY.register()
class WordHead(RecognitionHead):
    """One drawn word of an image's description: cross-entropy over K words.

    Results have ``embedding``, the vector with length 1, in which images are near each other and
    near the vectors of their words; ``pred_words`` and ``pred_word_scores``, the places and
    probabilities of the :data:`WORDS_TOLD` most probable words, best first.

    Args:
        words: the vocabulary.
        sampled: S; a vocabulary of more words is learned by so many in a batch; 0: always by all.

    Attributes:
        vectors: (K, D).
        digest: of the vocabulary, so that weights of another one are not taken for this one's.

    Raises:
        ValueError: there are no words.
    """

    digest: Tensor

    @configurable
    def __init__(
        self, *, dim: int, words: Sequence[str], sampled: int = 0, weight: float = 1.0
    ) -> None:
        super().__init__()
        if not words:
            raise ValueError(
                "MODEL.RECOGNITION.HEADS lists WordHead, but no record of the training set has a "
                "description; leave it out, or train on deepfashion_inshop_train"
            )
        if sampled < 0:
            raise ValueError(f"MODEL.RECOGNITION.WORDS.SAMPLED must be 0 or more, got {sampled}")
        self.vectors = nn.Parameter(torch.empty(len(words), dim))
        nn.init.normal_(self.vectors, std=0.01)
        self.sampled = sampled if 0 < sampled < len(words) else 0
        self.weight = weight
        text = hashlib.sha256(" ".join(words).encode()).digest()
        self.register_buffer("digest", torch.tensor(list(text), dtype=torch.uint8))

    @classmethod
    def from_config(cls, cfg: CfgNode, dim: int, shape: ShapeSpec) -> dict[str, Any]:
        node = cfg.MODEL.RECOGNITION
        if "EmbeddingHead" in node.HEADS:
            raise ValueError(
                "MODEL.RECOGNITION.HEADS lists WordHead and EmbeddingHead, which both say what the "
                "embedding is; leave one of them out"
            )
        return {
            "dim": dim,
            "words": taxonomy_from_config(cfg).words,
            "sampled": node.WORDS.SAMPLED,
            "weight": node.WORDS.WEIGHT,
        }

    def losses(self, features: Features, truth: Truth) -> Losses:
        assert truth.words is not None, "the mapper states words"
        known = truth.words != UNKNOWN
        vectors, drawn = features.vectors, None
        if self.sampled:
            drawn = torch.randperm(len(self.vectors), device=vectors.device)[: self.sampled]
        values = word_losses(vectors, self.vectors, truth.words.clamp(min=0), drawn)
        return {"loss_words": self.weight * mean_where(values, known)}

    def predict(self, features: Features) -> dict[str, Tensor]:
        vectors = features.vectors
        scores = (vectors @ self.vectors.T).float().softmax(-1)
        best = scores.topk(min(WORDS_TOLD, scores.shape[1]))
        return {
            "embedding": F.normalize(vectors, dim=-1),
            "pred_words": best.indices,
            "pred_word_scores": best.values,
        }

    def own_vectors(self) -> Tensor:
        """(K, D) less what all words have in common: the softmax is the same with any of it, so it
        says nothing of a word. By products with these, images are ranked for a word."""
        return self.vectors - self.vectors.mean(0)

    def text_vector(self, words: Tensor) -> Tensor:
        """(n,) places -> (D,) where images lie that have all of these words: the sum of the words'
        directions, with length 1."""
        return F.normalize(F.normalize(self.own_vectors()[words], dim=-1).sum(0), dim=-1)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """
        Raises:
            ValueError: the weights are of other words.
        """
        stated = state_dict.get(f"{prefix}digest")
        if stated is not None and not torch.equal(stated.to(self.digest), self.digest):
            raise ValueError(
                "the weights' word vectors are of another vocabulary than the training set's "
                f"{len(self.vectors)} words; state the words in MODEL.TAXONOMY, as the config.yaml "
                "beside the checkpoint does, or start from weights without WordHead"
            )
        super()._load_from_state_dict(state_dict, prefix, *args)


def word_losses(
    vectors: Tensor, word_vectors: Tensor, targets: Tensor, drawn: Tensor | None = None
) -> Tensor:
    """(N,) -log of the softmax's probability of each target word.

    With ``drawn`` words the denominator is estimated: the target's term, and those of the drawn
    words that are others, times how many others there are for one that was drawn. The estimate is
    right on average over all draws, and exact where all are drawn.

    Args:
        vectors: (N, D).
        word_vectors: (K, D).
        targets: (N,) in 0 .. K - 1.
        drawn: (S,) different words, each set of S with the same chance; None: all words.
    """
    if drawn is None:
        return F.cross_entropy((vectors @ word_vectors.T).float(), targets, reduction="none")
    own = (vectors * word_vectors[targets]).sum(-1).float()
    others = (vectors @ word_vectors[drawn].T).float()
    is_other = drawn != targets[:, None]
    count = is_other.sum(1, keepdim=True).clamp(min=1)
    others = others + (torch.log((len(word_vectors) - 1) / count)).to(others)
    others = others.masked_fill(~is_other, -torch.inf)
    return torch.logsumexp(torch.cat([own[:, None], others], 1), 1) - own
