import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from match_rcnn.lite.modeling.matcher import Matcher

RPN = ([0.3, 0.7], [0, -1, 1])


def test_intervals_are_closed_below_and_open_above():
    overlap = torch.tensor([[0.29, 0.3, 0.69, 0.7, 1.0], [0.0, 0.1, 0.2, 0.1, 0.3]])
    matches, labels = Matcher(*RPN)(overlap)
    assert matches.tolist() == [0, 0, 0, 0, 0]
    assert labels.tolist() == [0, -1, -1, 1, 1]
    assert (matches.dtype, labels.dtype) == (torch.int64, torch.int8)


def test_low_quality_matches_include_ties_and_keep_the_best_ground_truth():
    overlap = torch.tensor([[0.2, 0.2, 0.1, 0.0], [0.25, 0.0, 0.6, 0.0]])
    matches, labels = Matcher(*RPN, allow_low_quality_matches=True)(overlap)
    # Prediction 0 is foreground for ground truth 0, whose best it ties for, yet stays matched to 1.
    assert labels.tolist() == [1, 1, 1, 0]
    assert matches.tolist() == [1, 0, 1, 0]
    assert Matcher(*RPN)(overlap)[1].tolist() == [0, 0, -1, 0]


def test_a_ground_truth_that_overlaps_nothing_makes_all_foreground():
    _, labels = Matcher(*RPN, allow_low_quality_matches=True)(torch.zeros(1, 3))
    assert labels.tolist() == [1, 1, 1]


@pytest.mark.parametrize("low_quality", [False, True])
@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0)])
def test_nothing_to_match(shape, low_quality):
    matches, labels = Matcher([0.5], [-1, 1], low_quality)(torch.zeros(shape))
    assert matches.tolist() == [0] * shape[1]
    assert labels.tolist() == [-1] * shape[1]
    assert labels.dtype == torch.int8


@pytest.mark.parametrize(
    ("thresholds", "labels", "message"),
    [
        ([0.7, 0.3], [0, -1, 1], "ascending"),
        ([0.0, 0.3], [0, -1, 1], "above 0"),
        ([], [1], "above 0"),
        ([0.5], [0, -1, 1], "expected 2 labels"),
        ([0.5], [0, 2], "expected 2 labels out of -1, 0, 1"),
    ],
)
def test_impossible_thresholds_and_labels(thresholds, labels, message):
    with pytest.raises(ValueError, match=message):
        Matcher(thresholds, labels)


def slow_match(overlap, thresholds, labels, low_quality):
    num_gt, num_predictions = overlap.shape
    result = []
    for j in range(num_predictions):
        best = max(overlap[i, j] for i in range(num_gt))
        label = labels[sum(best >= np.float32(t) for t in thresholds)]
        if low_quality and any(overlap[i, j] == max(overlap[i]) for i in range(num_gt)):
            label = 1
        result.append((best, label))
    return result


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.integers(1, 6)),
        elements=st.sampled_from(np.float32([0, 0.1, 0.3, 0.5, 0.7, 0.9]).tolist()),
    ),
    st.booleans(),
)
def test_same_as_a_plain_loop(overlap, low_quality):
    matches, labels = Matcher(*RPN, low_quality)(torch.from_numpy(overlap))
    expected = slow_match(overlap, *RPN, low_quality)
    assert labels.tolist() == [label for _, label in expected]
    chosen = overlap[matches.numpy(), np.arange(overlap.shape[1])]
    assert chosen.tolist() == [best for best, _ in expected]
