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
        vectors = heads["WordHead"].own_vectors().detach().double().cpu().numpy()
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

    A figure is a word's over the images that have it, then the mean over words, each counting the
    same as it does when a model learns. Equal products rank by index. Words that no image has take
    no part.

    Args:
        embeddings: (N, D).
        vectors: (K, D).
        has: (N, K) which image's description has which word.

    Returns:
        ``mean_rank``: the word's, from 1, among all words of an image; ``recall10``: the share of
        images among whose first ten words it is; ``image_map``: the average precision of all images
        in the order of their products with the word. Beside each, as ``chance_...``, what a random
        order gives (nearly, of the last: the share of images that have the word).
    """
    counts = has.sum(0)
    seen = counts > 0

    def over_words(values: FloatArray, words: IntArray) -> float:
        sums = np.bincount(words, values, len(counts))
        return float((sums[seen] / counts[seen]).mean())

    ranks, words = ranks_of(embeddings, vectors, has)
    found = {
        "mean_rank": over_words((ranks + 1).astype(float), words),
        "chance_rank": (len(counts) + 1) / 2,
    }
    for k in WORD_TOPS:
        found[f"recall{k}"] = over_words((ranks < k).astype(float), words)
        found[f"chance_recall{k}"] = min(1.0, k / len(counts))
    # Ranks of a word's images stand together, rising: the i-th of them has i right ones up to it.
    ranks, _ = ranks_of(vectors, embeddings, has.T)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    precision = (np.arange(len(ranks)) - starts + 1) / (ranks + 1)
    found["image_map"] = over_words(precision, np.repeat(np.arange(len(counts)), counts))
    found["chance_image_map"] = float(counts[seen].mean() / len(has))
    return found


def ranks_of(queries: FloatArray, items: FloatArray, right: BoolArray) -> tuple[IntArray, IntArray]:
    """Of each query's right items, query by query, the ranks among all, from 0, rising, and which
    items these are.

    Args:
        queries: (Q, D).
        items: (G, D).
        right: (Q, G).
    """
    ranks: list[IntArray] = [np.zeros(0, np.int64)]
    found: list[IntArray] = [np.zeros(0, np.int64)]
    step = max(1, _BLOCK // max(1, len(items)))
    for start in range(0, len(queries), step):
        scores = queries[start : start + step] @ items.T
        order = np.argsort(-scores, axis=1, kind="stable")
        rows, places = np.nonzero(np.take_along_axis(right[start : start + step], order, 1))
        ranks.append(places)
        found.append(order[rows, places])
    return np.concatenate(ranks), np.concatenate(found)
