import torch
from hypothesis import given
from hypothesis import strategies as st

from match_rcnn.lite.modeling.sampling import subsample_labels


def test_all_of_few_are_taken():
    positive, negative = subsample_labels(torch.tensor([1, 0, -1, 0, 1]), 100, 0.5, bg_label=0)
    assert sorted(positive.tolist()) == [0, 4]
    assert sorted(negative.tolist()) == [1, 3]


def test_background_fills_up_what_foreground_leaves():
    # 13 is the background; every other class is foreground.
    labels = torch.tensor([5] + [13] * 20)
    positive, negative = subsample_labels(labels, 8, 0.25, bg_label=13)
    assert positive.tolist() == [0]
    assert len(negative) == 7


def test_every_element_has_its_chance():
    torch.manual_seed(0)
    labels = torch.tensor([1, 1, 1, 0, 0, 0])
    seen = set()
    for _ in range(60):
        positive, negative = subsample_labels(labels, 2, 0.5, bg_label=0)
        seen |= {*positive.tolist(), *negative.tolist()}
    assert seen == set(range(6))


def test_no_labels():
    positive, negative = subsample_labels(torch.zeros(0, dtype=torch.int64), 8, 0.5, bg_label=0)
    assert (len(positive), len(negative)) == (0, 0)


@given(
    st.lists(st.integers(-1, 3), max_size=40),
    st.integers(0, 20),
    st.floats(0, 1),
    st.integers(0, 3),
)
def test_counts_and_kinds(labels, num_samples, fraction, background):
    positive, negative = subsample_labels(torch.tensor(labels), num_samples, fraction, background)
    num_foreground = sum(x not in (-1, background) for x in labels)
    assert len(positive) == min(num_foreground, int(num_samples * fraction))
    assert len(negative) == min(labels.count(background), num_samples - len(positive))
    assert all(labels[i] not in (-1, background) for i in positive)
    assert all(labels[i] == background for i in negative)
    assert len({*positive.tolist(), *negative.tolist()}) == len(positive) + len(negative)
