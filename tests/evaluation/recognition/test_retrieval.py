"""In-shop and consumer-to-shop: ranks by hand, with ties, and beside a plain sort."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from match_rcnn.data.sources.deepfashion import Pairs, Partition
from match_rcnn.evaluation.recognition import retrieval
from match_rcnn.evaluation.recognition.retrieval import (
    consumer_to_shop_task,
    in_shop_task,
    ranks,
    score_ranks,
)


def partition(*rows):
    return Partition(*(np.array(column) for column in zip(*rows, strict=True)))


def test_three_queries_by_hand():
    task = in_shop_task(
        partition(
            *(("q0", "a", "query"), ("q1", "b", "query"), ("q2", "lost", "query")),
            *(("g0", "b", "gallery"), ("g1", "a", "gallery"), ("g2", "a", "gallery")),
            *(("g3", "b", "gallery"), ("t", "a", "train")),
        )
    )
    assert (task.queries, task.gallery) == (["q0", "q1", "q2"], ["g0", "g1", "g2", "g3"])
    assert task.query.tolist() == [0, 0, 1, 1]
    assert task.right.tolist() == [1, 2, 0, 3]
    queries = np.array([[0.0], [10.0], [5.0]])
    gallery = np.array([[1.0], [-1.0], [3.0], [11.0]])
    found = ranks(queries, gallery, task.query, task.right)
    # q0: g0 and g1 lie equally far, the earlier first: g0 (wrong), g1, g2. q1: g3, g2, g0.
    assert found.tolist() == [1, 2, 2, 0]
    scores = score_ranks(task, found, (1, 2, 3))
    assert scores["hit"] == {"1": pytest.approx(1 / 3), "2": pytest.approx(2 / 3), "3": 2 / 3}
    assert scores["recall"]["2"] == pytest.approx((1 / 2 + 1 / 2 + 0) / 3)
    first = (1 / 2 + 2 / 3) / 2
    second = (1 / 1 + 2 / 3) / 2
    assert scores["map"] == pytest.approx((first + second + 0) / 3)
    assert (scores["queries"], scores["gallery"], scores["queries_without_match"]) == (3, 4, 1)


def test_consumer_photos_search_the_shops_of_validation_and_test():
    rows = [
        ("c0", "s0", "a", "test"),
        ("c0", "s1", "a", "test"),  # the same photos come again, and count once
        ("c1", "s0", "a", "test"),
        ("c2", "s2", "b", "val"),
        ("c3", "s3", "c", "train"),
        ("c1", "s4", "d", "test"),  # a photo of two items
    ]
    task = consumer_to_shop_task(Pairs(*(np.array(column) for column in zip(*rows, strict=True))))
    assert task.queries == ["c0", "c1"]
    assert task.gallery == ["s0", "s1", "s2", "s4"]
    right = list(zip(task.query.tolist(), task.right.tolist(), strict=True))
    assert right == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 3)]


def plain_ranks(queries, gallery, query, right):
    distances = np.array([[float(((q - g) ** 2).sum()) for g in gallery] for q in queries])
    order = [sorted(range(len(gallery)), key=lambda g: (row[g], g)) for row in distances]
    return [order[q].index(g) for q, g in zip(query, right, strict=True)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["random", "grid", "near"]))
def test_ranks_are_a_plain_sorts(seed, kind):
    rng = np.random.default_rng(seed)
    if kind == "grid":  # many equal distances
        queries, gallery = (rng.integers(0, 3, (n, 4)).astype(float) for n in (6, 30))
    else:
        queries, gallery = rng.normal(size=(6, 4)), rng.normal(size=(30, 4))
    if kind == "near":  # single precision cannot tell these apart
        gallery = 1000 + 1e-6 * gallery
        gallery[rng.integers(0, 30, 8)] = gallery[0]
    query = np.sort(rng.integers(0, 6, 20))
    right = rng.integers(0, 30, 20)
    assert ranks(queries, gallery, query, right).tolist() == plain_ranks(
        queries, gallery, query, right
    )


def test_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(1)
    queries, gallery = rng.normal(size=(40, 5)), rng.normal(size=(30, 5))
    query, right = np.sort(rng.integers(0, 40, 60)), rng.integers(0, 30, 60)
    whole = ranks(queries, gallery, query, right)
    monkeypatch.setattr(retrieval, "_BLOCK_BYTES", 4 * 30 * 7)
    assert ranks(queries, gallery, query, right).tolist() == whole.tolist()


def test_no_test_pairs():
    with pytest.raises(
        ValueError, match=r"list_eval_partition\.txt has no pair of the split 'test'"
    ):
        consumer_to_shop_task(Pairs(*(np.array([x]) for x in ("c", "s", "a", "train"))))
    with pytest.raises(ValueError, match="no image of the split 'query'; the partition has train"):
        in_shop_task(partition(("i", "a", "train")))
