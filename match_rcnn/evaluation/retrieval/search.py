"""From embeddings or similarities to retrieval scores, for any model.

Two doors: with boxes, by the official protocol (``Embedded`` items, :func:`search`, then
``score_retrieval``); and without, by labels alone (:func:`score_embeddings`,
:func:`score_similarities`), where an item is right when it has the query's label.

Shapes: ``Q`` queries, ``G`` gallery items, ``d`` the embedding's length, ``T`` items retrieved of
each query.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import numpy.typing as npt
import torch

from match_rcnn.evaluation.retrieval.protocol import (
    LIST_LENGTH,
    RetrievalScores,
    Retrieved,
    first_places,
)
from match_rcnn.modeling.similarity import Similarity
from match_rcnn.retrieval.scoring import ArrayLike, MatchScorer
from match_rcnn.retrieval.second_stage import SecondStage
from match_rcnn.utils.arrays import BoolArray, FloatArray, IntArray

#: The label of an item that takes part in no pair.
NO_PRODUCT = -1
# Entries of a similarity matrix that are compared at once.
_BLOCK = 2**22


@dataclass(frozen=True)
class Embedded:
    """Items found in photos.

    Attributes:
        image_ids, classes, scores: (N,); classes from 1.
        boxes: (N, 4) x1, y1, x2, y2.
        embeddings: (N, d).
        features: (N, *shape) of each, by name: what a similarity compares beside the embedding.
    """

    image_ids: IntArray
    boxes: FloatArray
    classes: IntArray
    scores: npt.NDArray[np.floating]
    embeddings: npt.NDArray[np.floating]
    features: Mapping[str, npt.NDArray[np.floating]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.image_ids)

    def take(self, chosen: IntArray | BoolArray) -> "Embedded":
        """Some of them."""
        columns = {name: getattr(self, name)[chosen] for name in self._columns()}
        features = {name: values[chosen] for name, values in self.features.items()}
        return Embedded(**columns, features=features)

    @classmethod
    def joined(cls, parts: "Sequence[Embedded]") -> "Embedded":
        """All of them, in this order."""
        if not parts:
            none: IntArray = np.zeros(0, dtype=np.int64)
            return cls(none, np.zeros((0, 4)), none, np.zeros(0), np.zeros((0, 0)))
        filled = [part for part in parts if len(part)] or parts[:1]
        columns = {n: np.concatenate([getattr(p, n) for p in filled]) for n in cls._columns()}
        names = filled[0].features
        features = {name: np.concatenate([p.features[name] for p in filled]) for name in names}
        return cls(**columns, features=features)

    @classmethod
    def _columns(cls) -> list[str]:
        return [f.name for f in fields(cls) if f.name != "features"]


def search(
    queries: Embedded,
    gallery: Embedded,
    scorer: MatchScorer,
    device: torch.device | str | None = None,
) -> Retrieved:
    """The 20 best gallery items of each query; fewer if there are not so many.

    Args:
        device: where to score; None: a GPU if there is one.
    """
    return _retrieved(queries, gallery, _found(queries, gallery, scorer, LIST_LENGTH, device)[1])


def search_in_two_stages(
    queries: Embedded,
    gallery: Embedded,
    scorer: MatchScorer,
    similarity: Similarity,
    shortlist: int,
    device: torch.device | str | None = None,
) -> tuple[Retrieved, Retrieved]:
    """As :func:`search`, in the order of the similarity where that was asked: of the first
    ``shortlist``, equal ones in the first stage's order; and before it the first stage's lists, at
    least as long as the shortlist, whose recall bounds what the similarity can reach."""
    scores, indices = _found(queries, gallery, scorer, max(LIST_LENGTH, shortlist), device)
    ordered = indices
    if indices.size:
        asked = {**queries.features, "vector": queries.embeddings}
        there = {**gallery.features, "vector": gallery.embeddings}
        second = SecondStage(similarity, asked, shortlist).checked(len(queries))
        ordered = second.reordered(scores, indices, lambda rows, name: there[name][rows])[1]
    best = _retrieved(queries, gallery, ordered[:, :LIST_LENGTH])
    return _retrieved(queries, gallery, indices), best


def _found(
    queries: Embedded,
    gallery: Embedded,
    scorer: MatchScorer,
    number: int,
    device: torch.device | str | None,
) -> tuple[FloatArray, IntArray]:
    """(Q, T) scores and rows of the gallery."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if not len(queries) or not len(gallery):
        return np.zeros((len(queries), 0)), np.zeros((len(queries), 0), np.int64)
    vectors = torch.from_numpy(queries.embeddings).to(device)
    scores, indices = scorer.top_k(vectors, gallery.embeddings, number)
    return scores.cpu().numpy(), indices.cpu().numpy()


def _retrieved(queries: Embedded, gallery: Embedded, indices: IntArray) -> Retrieved:
    return Retrieved(
        image_ids=queries.image_ids,
        boxes=queries.boxes,
        classes=queries.classes,
        scores=queries.scores.astype(np.float64),
        gallery_image_ids=gallery.image_ids[indices],
        gallery_boxes=gallery.boxes[indices],
        lengths=np.full(len(queries), indices.shape[1]),
    )


def product_labels(pair_ids: IntArray, styles: IntArray) -> IntArray:
    """One label for each (pair id, style), ``NO_PRODUCT`` for style 0: equal labels match."""
    return np.where(styles > 0, pair_ids.astype(np.int64) * 2**20 + styles, NO_PRODUCT)


def score_embeddings(
    queries: ArrayLike,
    gallery: ArrayLike,
    query_labels: IntArray,
    gallery_labels: IntArray,
    scorer: MatchScorer | None = None,
) -> RetrievalScores:
    """Scores of embeddings (Q, d) and (G, d) by labels (Q,) and (G,).

    Queries with the label ``NO_PRODUCT`` do not count.

    Args:
        scorer: None: the nearest by Euclidean distance is the most alike.

    Raises:
        ValueError: numbers of labels and embeddings differ.
    """
    query_labels, gallery_labels = np.asarray(query_labels), np.asarray(gallery_labels)
    _check(len(queries), len(query_labels), "queries")
    _check(len(gallery), len(gallery_labels), "gallery items")
    scorer = scorer or MatchScorer.euclidean(queries.shape[1])
    items = np.flatnonzero(query_labels != NO_PRODUCT)
    indices = scorer.top_k(queries[items], gallery, LIST_LENGTH).indices.cpu().numpy()
    right = gallery_labels[indices] == query_labels[items, None]
    return _by_label(items, first_places(right), query_labels, gallery_labels)


def score_similarities(
    similarities: npt.NDArray[np.floating], query_labels: IntArray, gallery_labels: IntArray
) -> RetrievalScores:
    """Scores of a matrix (Q, G), more is more alike, equal ones by index, by labels.

    Queries with the label ``NO_PRODUCT`` do not count. A place is found without sorting: it is the
    number of items that come before the best right one.

    Raises:
        ValueError: numbers of labels and similarities differ, or NaN among the similarities.
    """
    query_labels, gallery_labels = np.asarray(query_labels), np.asarray(gallery_labels)
    if similarities.ndim != 2:
        raise ValueError(f"expected similarities (Q, G), got shape {similarities.shape}")
    _check(similarities.shape[0], len(query_labels), "rows of similarities")
    _check(similarities.shape[1], len(gallery_labels), "columns of similarities")
    items = np.flatnonzero(query_labels != NO_PRODUCT)
    step = max(1, _BLOCK // max(1, similarities.shape[1]))
    places = [
        _places(similarities[part], query_labels[part, None] == gallery_labels)
        for part in (items[i : i + step] for i in range(0, len(items), step))
    ]
    joined = np.concatenate([np.zeros(0, dtype=np.int64), *places])
    return _by_label(items, joined, query_labels, gallery_labels)


def _places(similarities: npt.NDArray[np.floating], right: BoolArray) -> IntArray:
    if np.isnan(similarities).any():
        raise ValueError("the similarities hold NaN")
    found = right.any(1)
    places = np.full(len(right), -1, dtype=np.int64)
    similarities, right = similarities[found], right[found]
    if not found.any():
        return places
    best = np.where(right, similarities, -np.inf).max(1, keepdims=True)
    first = (right & (similarities == best)).argmax(1)
    before = np.arange(right.shape[1]) < first[:, None]
    places[found] = ((similarities > best) | ((similarities == best) & before)).sum(1)
    return places


def _by_label(
    items: IntArray, places: IntArray, query_labels: IntArray, gallery_labels: IntArray
) -> RetrievalScores:
    return RetrievalScores(
        items=items,
        places=places,
        missed=np.zeros(len(items), dtype=bool),
        in_seen_image=np.ones(len(items), dtype=bool),
        without_partner=~np.isin(query_labels[items], gallery_labels),
    )


def _check(number: int, labels: int, what: str) -> None:
    if number != labels:
        raise ValueError(f"expected a label for each of {number} {what}, got {labels}")
