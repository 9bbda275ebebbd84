"""Words for images and images for words, by products of their vectors.

Shapes: ``N`` images, ``K`` words of the vocabulary, ``D`` length of the vectors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from match_rcnn.data.recognition_loader import descriptions
from match_rcnn.data.words import Text, Vocabulary
from match_rcnn.utils.arrays import BoolArray, FloatArray, IntArray

WORD_TOPS = (10,)
_BLOCK = 1 << 22  # scores that are held at once


@dataclass(frozen=True)
class Words:
    """What a model knows of words.

    Attributes:
        vocabulary: K words.
        vectors: (K, D).
    """

    vocabulary: Vocabulary
    vectors: FloatArray

    @classmethod
    def of(cls, model: Any, words: Sequence[str]) -> "Words | None":
        """A model's; None where it has no word head."""
        heads = getattr(getattr(model, "module", model), "heads", None)
        if heads is None or "WordHead" not in heads:
            return None
        vectors = heads["WordHead"].vectors.detach().double().cpu().numpy()
        return cls(Vocabulary(words), vectors)

    def scores(
        self, records: Sequence[dict[str, Any]], images: Sequence[str], embeddings: FloatArray
    ) -> dict[str, float]:
        """:func:`score_words` of a data set's descriptions; {} where it has none.

        Args:
            images: names of N of the records.
            embeddings: (N, D).
        """
        names = (record["image_name"] for record in records)
        texts: dict[str, Text] = dict(zip(names, descriptions(records), strict=True))
        has = np.zeros((len(images), len(self.vocabulary)), bool)
        for row, name in enumerate(images):
            has[row, self.vocabulary.indices(texts[name])] = True
        return score_words(embeddings, self.vectors, has) if has.any() else {}


def score_words(embeddings: FloatArray, vectors: FloatArray, has: BoolArray) -> dict[str, float]:
    """How well the products of vectors rank an image's words, and a word's images.

    Equal products rank by index. Images without a word, and words without an image, take no part.

    Args:
        embeddings: (N, D).
        vectors: (K, D).
        has: (N, K) which image's description has which word.

    Returns:
        ``mean_rank``: from 1, over all pairs of an image and a word of its own, the word's among
        all words; ``chance_rank``, its value for a random order; ``recall10``: the share of these
        words that are among the image's first ten; ``image_map``: over words, the mean average
        precision of all images in the order of their products with the word.
    """
    words = ranks_of(embeddings, vectors, has)
    found = {"mean_rank": float(words.mean()) + 1, "chance_rank": (has.shape[1] + 1) / 2}
    found |= {f"recall{k}": float((words < k).mean()) for k in WORD_TOPS}
    own, counts = ranks_of(vectors, embeddings, has.T), has.sum(0)
    # Ranks of a word's images stand together, rising: the i-th of them has i right ones up to it.
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    precision = (np.arange(len(own)) - starts + 1) / (own + 1)
    shares = np.bincount(np.repeat(np.arange(len(counts)), counts), precision, len(counts))
    return {**found, "image_map": float((shares[counts > 0] / counts[counts > 0]).mean())}


def ranks_of(queries: FloatArray, items: FloatArray, right: BoolArray) -> IntArray:
    """The ranks, from 0, of each query's right items among all, query by query, rising.

    Args:
        queries: (Q, D).
        items: (G, D).
        right: (Q, G).
    """
    parts: list[IntArray] = [np.zeros(0, np.int64)]
    step = max(1, _BLOCK // max(1, len(items)))
    for start in range(0, len(queries), step):
        scores = queries[start : start + step] @ items.T
        order = np.argsort(-scores, axis=1, kind="stable")
        rows = np.take_along_axis(right[start : start + step], order, 1)
        parts.append(np.nonzero(rows)[1])
    return np.concatenate(parts)
