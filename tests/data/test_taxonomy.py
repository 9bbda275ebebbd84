import numpy as np
import pytest

from match_rcnn.data import taxonomy
from match_rcnn.data.taxonomy import CATEGORIES, MAX_LANDMARKS, NUM_LANDMARKS, SIGMAS, category


def test_counts_and_offsets_are_the_published_ones():
    counts = [25, 33, 31, 39, 15, 15, 10, 14, 8, 29, 37, 19, 19]
    offsets = [0, 25, 58, 89, 128, 143, 158, 168, 182, 190, 219, 256, 275]
    assert [c.id for c in CATEGORIES] == list(range(1, 14))
    assert [c.num_landmarks for c in CATEGORIES] == counts
    assert [c.offset for c in CATEGORIES] == offsets
    assert (NUM_LANDMARKS, MAX_LANDMARKS, taxonomy.NUM_CATEGORIES) == (294, 39, 13)
    assert CATEGORIES[7].slice == slice(168, 182)


@pytest.mark.parametrize("cat", CATEGORIES, ids=lambda c: c.name)
def test_every_category_is_consistent(cat):
    n = cat.num_landmarks
    assert cat.sigmas.shape == (n,)
    assert cat.template.shape == (n, 2)
    assert cat.template.min() == 0.0
    assert cat.template.max() == 1.0
    assert {i for path in cat.paths for i in path} == set(range(n))
    assert len({i for pair in cat.flip_pairs for i in pair}) == 2 * len(cat.flip_pairs)


@pytest.mark.parametrize("cat", CATEGORIES, ids=lambda c: c.name)
def test_flip_exchanges_left_and_right_of_the_template(cat):
    permutation = cat.flip_permutation
    assert np.array_equal(permutation[permutation], np.arange(cat.num_landmarks))
    mirrored = cat.template[permutation] * [-1, 1] + [1, 0]
    # drawn by hand, so only roughly symmetric
    assert np.abs(mirrored - cat.template).max() < 0.2


def test_sigmas_hold_the_published_values_at_known_places():
    assert SIGMAS.shape == (294,)
    assert SIGMAS[0] == 0.012  # short sleeve top 1
    assert SIGMAS[58] == 0.0074  # short sleeve outwear 1
    assert SIGMAS[-1] == 0.0173  # sling dress 19
    # kept as published although they mirror each other: long sleeve dress 15 and 29
    assert (SIGMAS[219 + 14], SIGMAS[219 + 28]) == (0.0455, 0.0486)


def test_edges_follow_the_paths():
    skirt = category(9)
    assert skirt.edges == ((0, 3), (3, 4), (4, 5), (5, 6), (6, 7), (7, 2), (2, 1), (1, 0))


@pytest.mark.parametrize("bad", [0, 14, -1, "1", 1.0, None, True])
def test_unknown_category_ids_are_refused(bad):
    with pytest.raises(ValueError, match="category_id from 1 to 13"):
        category(bad)
