import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from match_rcnn.evaluation.retrieval.search import (
    NO_PRODUCT,
    Embedded,
    product_labels,
    score_embeddings,
    score_similarities,
    search,
)
from match_rcnn.retrieval.scoring import MatchScorer


def embedded(image_ids, embeddings):
    number = len(image_ids)
    boxes = np.arange(4.0 * number).reshape(number, 4)
    ids = np.array(image_ids, dtype=np.int64)
    return Embedded(
        ids, boxes, ids % 3, np.full(number, 0.5, np.float32), np.array(embeddings, np.float32)
    )


def test_search_lists_images_and_boxes_best_first():
    queries = embedded([1, 2], [[0.0], [10.0]])
    gallery = embedded([7, 8, 9], [[1.0], [9.0], [3.0]])
    found = search(queries, gallery, MatchScorer.euclidean(1), "cpu")
    assert found.gallery_image_ids.tolist() == [[7, 9, 8], [8, 9, 7]]
    assert found.gallery_boxes[1].tolist() == gallery.boxes[[1, 2, 0]].tolist()
    assert found.lengths.tolist() == [3, 3]
    assert found.image_ids.tolist() == [1, 2]
    assert found.classes.tolist() == [1, 2]


def test_search_lists_twenty():
    gallery = embedded(range(30), np.arange(30.0)[:, None])
    found = search(embedded([1], [[0.0]]), gallery, MatchScorer.euclidean(1), "cpu")
    assert found.gallery_image_ids.tolist() == [list(range(20))]


@pytest.mark.parametrize(("queries", "items"), [(0, 3), (2, 0), (0, 0)])
def test_search_of_nothing(queries, items):
    found = search(
        embedded(range(queries), np.zeros((queries, 1 if queries else 0))),
        embedded(range(items), np.zeros((items, 1 if items else 0))),
        MatchScorer.euclidean(1),
        "cpu",
    )
    assert found.gallery_boxes.shape == (queries, 0, 4)
    assert found.lengths.tolist() == [0] * queries


def test_labels():
    labels = product_labels(np.array([3, 3, 3, 4]), np.array([1, 1, 2, 0]))
    assert labels[0] == labels[1] != labels[2]
    assert labels[3] == NO_PRODUCT


def test_similarities_by_hand():
    similarities = np.array(
        [
            [0.9, 0.8, 0.7],  # its product, 20, is third
            [0.1, 0.1, 0.1],  # ties go by index: 30 is second
            [0.5, 0.5, 0.6],  # no query
            [0.5, 0.5, 0.6],  # no partner
        ]
    )
    scores = score_similarities(
        similarities, np.array([20, 30, NO_PRODUCT, 77]), np.array([10, 30, 20])
    )
    assert scores.items.tolist() == [0, 1, 3]
    assert scores.places.tolist() == [2, 1, -1]
    assert scores.accuracy() == {1: 0, 5: 2 / 3, 10: 2 / 3, 15: 2 / 3, 20: 2 / 3}
    assert scores.counts == {
        "queries": 3,
        "missed": 0,
        "missed_official": 0,
        "without_partner": 1,
    }


def test_the_best_of_several_right_items_counts():
    scores = score_similarities(np.array([[0.3, 0.5, 0.4]]), np.array([1]), np.array([1, 2, 1]))
    assert scores.places.tolist() == [1]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), queries=st.integers(0, 8), items=st.integers(1, 60))
def test_a_place_is_that_in_the_sorted_row(seed, queries, items):
    rng = np.random.default_rng(seed)
    similarities = rng.integers(0, 6, (queries, items)) / 5  # ties
    query_labels, gallery_labels = rng.integers(-1, 5, queries), rng.integers(0, 5, items)
    scores = score_similarities(similarities, query_labels, gallery_labels)
    expected = []
    for row, label in zip(similarities, query_labels, strict=True):
        order = np.argsort(-row, kind="stable")
        right = np.flatnonzero(gallery_labels[order] == label)
        if label != NO_PRODUCT:
            expected.append(right[0] if len(right) else -1)
    assert scores.places.tolist() == expected


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), signed=st.booleans())
def test_embeddings_give_what_their_similarities_give(seed, signed):
    rng = np.random.default_rng(seed)
    queries, gallery = rng.normal(size=(9, 4)), rng.normal(size=(70, 4))
    labels = rng.integers(-1, 30, 9), rng.integers(0, 30, 70)
    weight = rng.normal(size=4) if signed else -np.ones(4)
    similarities = ((queries[:, None] - gallery) ** 2) @ weight
    scorer = MatchScorer(weight) if signed else None
    by_embedding = score_embeddings(queries, gallery, *labels, scorer)
    by_similarity = score_similarities(similarities, *labels)
    assert by_embedding.accuracy() == by_similarity.accuracy() or not len(by_similarity)
    assert by_embedding.counts == by_similarity.counts
    assert by_embedding.items.tolist() == by_similarity.items.tolist()


def test_tensors_are_welcome():
    scores = score_embeddings(torch.eye(3), torch.eye(3), np.arange(3), np.arange(3))
    assert scores.accuracy()[1] == 1


def test_an_empty_gallery():
    scores = score_embeddings(np.ones((2, 3)), np.ones((0, 3)), np.array([1, 2]), np.array([]))
    assert scores.places.tolist() == [-1, -1]
    scores = score_similarities(np.ones((2, 0)), np.array([1, 2]), np.array([]))
    assert scores.counts["without_partner"] == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: score_embeddings(np.ones((2, 3)), np.ones((4, 3)), [1], [1] * 4), "2 queries"),
        (lambda: score_embeddings(np.ones((1, 3)), np.ones((4, 3)), [1], [1]), "4 gallery items"),
        (lambda: score_similarities(np.ones((2, 3)), [1], [1] * 3), "2 rows"),
        (lambda: score_similarities(np.ones((1, 3)), [1], [1]), "3 columns"),
        (lambda: score_similarities(np.ones(3), [1], [1]), r"\(Q, G\), got shape \(3,\)"),
        (lambda: score_similarities(np.array([[1, np.nan]]), [1], [1, 2]), "NaN"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
