import numpy as np
import pytest


@pytest.fixture
def part(runs):
    return runs[0].retrieval["retrieval"]


def test_right_items(part):
    """Queries are items 1 and 3; retrieved are, for both, items 4 and 5 in this order."""
    assert part.scores.places.tolist() == [0, 1]
    assert part.right(0).tolist() == [True, False]
    assert part.right(1).tolist() == [False, True]


def test_the_first_right_one_is_the_place(runs):
    for run in runs:
        for part in run.retrieval.values():
            for query in np.flatnonzero(part.standing >= 0):
                right = np.flatnonzero(part.right(int(query)))
                assert part.scores.places[query] == (right[0] if len(right) else -1)


def test_partners(part):
    assert [part.partners(query) for query in (0, 1)] == [1, 1]


def test_examples(part):
    assert part.examples(4) == [0, 1]
    assert part.examples(2) == [0]
    assert part.examples(0) == []
