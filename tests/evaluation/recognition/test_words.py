"""Ranks of words and images, by hand and by loops."""

import numpy as np
import pytest

from match_rcnn.evaluation.recognition import words
from match_rcnn.evaluation.recognition.words import score_words


def test_by_hand():
    """Two words; image 0 has the second alone, image 1 both, image 2 none."""
    vectors = np.eye(2)
    embeddings = np.array([[0.9, 0.1], [0.5, 0.5], [0.0, 1.0]])
    found = score_words(embeddings, vectors, np.array([[0, 1], [1, 1], [0, 0]], bool))
    # the first word's rank is 1 (a tie, the first before), the second's 2 and 2
    assert found["mean_rank"] == pytest.approx((1 + 2) / 2)
    assert found["chance_rank"] == 1.5
    assert found["recall10"] == found["chance_recall10"] == 1
    assert found["chance_image_map"] == pytest.approx((1 / 3 + 2 / 3) / 2)
    # word 0: image 1 is second: 1/2; word 1: images 1 and 0 are second and third: (1/2 + 2/3) / 2
    assert found["image_map"] == pytest.approx((1 / 2 + (1 / 2 + 2 / 3) / 2) / 2)


def average_precision(scores, right):
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    hits = [rank for rank, i in enumerate(order, 1) if right[i]]
    return np.mean([n / rank for n, rank in enumerate(hits, 1)])


@pytest.mark.parametrize("block", [1, 1 << 22])
def test_by_loops(monkeypatch, block):
    monkeypatch.setattr(words, "_BLOCK", block)
    rng = np.random.default_rng(0)
    embeddings, vectors = rng.integers(-2, 3, (12, 2)), rng.integers(-2, 3, (20, 2))  # ties
    has = rng.random((12, 20)) < 0.2
    has[:, 3], has[4] = False, False
    found = score_words(embeddings, vectors, has)
    ranks = {}
    for e, own in zip(embeddings, has, strict=True):
        order = sorted(range(20), key=lambda k: (-(e @ vectors[k]), k))
        for k in np.flatnonzero(own):
            ranks.setdefault(k, []).append(order.index(k) + 1)
    assert found["mean_rank"] == pytest.approx(np.mean([np.mean(r) for r in ranks.values()]))
    tens = [np.mean(np.array(r) <= 10) for r in ranks.values()]
    assert found["recall10"] == pytest.approx(np.mean(tens))
    assert found["chance_recall10"] == 0.5
    aps = [
        average_precision(embeddings @ vectors[k], has[:, k]) for k in range(20) if has[:, k].any()
    ]
    assert found["image_map"] == pytest.approx(np.mean(aps))
