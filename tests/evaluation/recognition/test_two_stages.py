"""A similarity orders the first images of a search: by hand, and what is missing is named."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from match_rcnn.evaluation.recognition.files import score_in_two_stages, scores_table
from match_rcnn.evaluation.recognition.retrieval import Task, reordered
from match_rcnn.modeling.similarity import PairNetwork, Similarity

#: Two queries and four gallery images; images 2 and 3 are right for the first query, 3 for the
#: second.
TASK = Task(["q0", "q1"], ["g0", "g1", "g2", "g3"], np.array([0, 0, 1]), np.array([2, 3, 3]))
IMAGES = np.array(["g3", "g2", "g1", "g0", "q1", "q0"])
#: On a line: both queries find the gallery in the order of its numbers.
VECTORS = np.array([[4.0], [3.0], [2.0], [1.0], [0.0], [0.0]])


class Brightness(Similarity):
    """Whose light is nearest."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(-1.0))

    def features(self):
        return {"light": ()}

    def pairs(self, queries, items):
        return self.scale * (queries["light"] - items["light"]).abs()


def scores(light, shortlist):
    features = {"light": np.array(light, dtype=np.float16)}
    given = TASK, IMAGES, VECTORS, features, Brightness(), shortlist, "the results"
    return score_in_two_stages(*given)


def test_two_stages_by_hand():
    """g2 alone is as bright as the queries, and g3 is among no shortlist of 3."""
    found = scores([7, 1, 5, 5, 1, 1], 3)
    # Of the first query g2 comes first, then g0 and g1, equally bright, then g3.
    assert found["hit"]["1"] == 0.5
    assert found["map"] == pytest.approx(((1 / 1 + 2 / 4) / 2 + 1 / 4) / 2)
    first = found["embedding"]
    assert first["hit"]["1"] == 0
    assert first["map"] == pytest.approx(((1 / 3 + 2 / 4) / 2 + 1 / 4) / 2)
    assert first["shortlist_recall"] == 0.5
    assert "the shortlist's recall 50.00%" in scores_table(found)


def test_a_shortlist_longer_than_the_gallery_holds_all():
    found = scores([7, 1, 5, 5, 7, 7], 99)
    assert found["embedding"]["shortlist_recall"] == 1
    assert found["hit"]["1"] == 1


def test_equally_alike_ones_keep_the_embedding_s_order():
    found = scores([0] * 6, 4)
    assert {name: found["embedding"][name] for name in ("hit", "map")} == {
        name: found[name] for name in ("hit", "map")
    }


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 7))
def test_ranks_in_another_order_are_a_plain_list_s(seed, shortlist):
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(6) for _ in range(3)]
    again = [np.concatenate([rng.permutation(o[:shortlist]), o[shortlist:]]) for o in orders]
    query, right = np.divmod(np.arange(18), 6)
    task = Task(["q"] * 3, ["g"] * 6, query, right)
    before = np.array([orders[q].tolist().index(g) for q, g in zip(query, right, strict=True)])
    found = reordered(task, before, np.stack(again)[:, :shortlist])
    expected = [again[q].tolist().index(g) for q, g in zip(query, right, strict=True)]
    assert found.tolist() == expected


def test_without_right_images_there_are_no_ranks():
    nothing = np.zeros(0, dtype=np.int64)
    task = Task(["q"], ["g"], nothing, nothing)
    assert reordered(task, nothing, np.zeros((1, 1), dtype=np.int64)).shape == (0,)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({}, "the results have no feature 'vector', which the similarity PairNetwork needs"),
        ({"vector": np.zeros((6, 5))}, r"feature 'vector' of shape \(5,\).*takes \(2,\)"),
        ({"vector": np.zeros((6, 2))}, "no feature 'category'.*HEADS CategoryHead"),
    ],
)
def test_results_without_the_features_that_a_similarity_needs(features, message):
    similarity = PairNetwork(dim=2, copies=3)
    with pytest.raises(ValueError, match=message):
        score_in_two_stages(TASK, IMAGES, VECTORS, features, similarity, 2, "the results")
