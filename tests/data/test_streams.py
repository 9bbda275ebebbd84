import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from match_rcnn.data.streams import (
    MixedStream,
    ShuffledStream,
    StreamBatchSampler,
    repeat_rates,
)


def items(n):
    return [{"image_id": i, "width": 10 + i % 2, "height": 10} for i in range(n)]


def flat(lists):
    return list(itertools.chain.from_iterable(lists))


def take(iterable, n):
    return list(itertools.islice(iterable, n))


def test_every_epoch_shows_every_item_once_in_a_new_order():
    stream = ShuffledStream(items(17), seed=3)
    epochs = [[stream.index(17 * e + i) for i in range(17)] for e in range(3)]
    assert all(sorted(epoch) == list(range(17)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_positions_are_pure_functions_of_the_seed():
    one, two = ShuffledStream(items(5), seed=1), ShuffledStream(items(5), seed=1)
    forward = [one[p] for p in range(20)]
    backward = [two[p] for p in reversed(range(20))][::-1]
    assert forward == backward
    assert len({sample["seed"] for sample in forward}) == 20
    two.reseed(2)
    assert [two[p] for p in range(20)] != forward


def test_the_stored_items_are_not_changed():
    stored = items(2)
    ShuffledStream(stored, seed=0)[0]
    assert all("seed" not in item for item in stored)


def test_an_empty_training_set_is_refused():
    with pytest.raises(ValueError, match=r"DATASETS\.TRAIN"):
        ShuffledStream([], seed=0)


@given(
    n=st.integers(1, 20),
    share=st.integers(1, 3),
    world=st.integers(1, 4),
    start=st.integers(0, 9),
    grouped=st.booleans(),
)
def test_processes_share_one_global_sequence_and_can_start_anywhere(
    n, share, world, start, grouped
):
    stream = ShuffledStream(items(n), seed=7)
    landscape = [item["width"] > item["height"] for item in items(n)] if grouped else None

    def sampler(rank, size, begin=0):
        made = StreamBatchSampler(
            stream, share * world, rank=rank, world_size=size, landscape=landscape
        )
        made.start = begin
        return iter(made)

    whole = take(sampler(0, 1), 12)
    parts = [take(sampler(rank, world), 12) for rank in range(world)]
    assert [flat(batches) for batches in zip(*parts, strict=True)] == whole
    assert take(sampler(0, 1, start), 12 - start) == whole[start:]
    if grouped:
        for batch in whole:
            assert len({landscape[stream.index(p)] for p in batch}) == 1
    else:
        assert flat(whole) == list(range(12 * share * world))


def test_batch_size_must_divide_among_the_processes():
    with pytest.raises(ValueError, match=r"IMS_PER_BATCH \(6\).*processes \(4\)"):
        StreamBatchSampler(ShuffledStream(items(3), 0), 6, rank=0, world_size=4)


class TestMixedStream:
    def stream(self, weights, counts=(5, 3, 8), seed=1):
        return MixedStream(items(sum(counts)), seed, counts, weights)

    def parts(self, stream, first, last):
        """Which data set each position shows."""
        starts = [0, 5, 8]
        return [sum(stream.index(p) >= s for s in starts) - 1 for p in range(first, last)]

    def test_shares_are_met_in_every_batch(self):
        stream = self.stream((3, 1, 2))
        for first in range(0, 120, 12):
            assert Counter(self.parts(stream, first, first + 12)) == {0: 6, 1: 2, 2: 4}
        # in a smaller batch, within one
        assert all(2 <= self.parts(stream, p, p + 6).count(0) <= 4 for p in range(60))

    def test_each_data_set_is_gone_through_before_it_repeats(self):
        stream = self.stream((3, 1, 2))
        shown = [stream.index(p) for p in range(6 * 40)]
        for first, last in ((0, 5), (5, 8), (8, 16)):
            own = [i for i in shown if first <= i < last]
            size = last - first
            for k in range(0, len(own) - size, size):
                assert sorted(own[k : k + size]) == list(range(first, last))
            assert own[:size] != own[size : 2 * size] or own[size : 2 * size] != own[2 * size :]

    def test_a_position_shows_the_same_whatever_came_before(self):
        expected = [self.stream((0.7, 0.2, 0.1)).index(p) for p in range(200)]
        again = self.stream((7, 2, 1))
        assert [again.index(p) for p in reversed(range(200))] == expected[::-1]
        other = self.stream((7, 2, 1), seed=2)
        assert [other.index(p) for p in range(200)] != expected
        other.reseed(1)
        assert [other.index(p) for p in range(200)] == expected

    def test_substitutes_come_from_the_same_data_set(self):
        stream = self.stream((3, 1, 2))
        for position in range(30):
            (part,) = self.parts(stream, position, position + 1)
            found = {stream.substitutes([position], k)[0]["image_id"] for k in range(30)}
            assert found <= set(range(*[(0, 5), (5, 8), (8, 16)][part]))
            assert len(found) > 1

    @pytest.mark.parametrize("weights", [(1, 1), (1, 0, 1), (1, -1, 1), (1, float("nan"), 1)])
    def test_bad_weights(self, weights):
        with pytest.raises(ValueError, match="TRAIN_WEIGHTS: expected 3 numbers above 0"):
            self.stream(weights)


class TestRepeats:
    """Rare categories come more often."""

    def photos(self, *categories):
        return [{"annotations": [{"category_id": c} for c in found]} for found in categories]

    def test_rates_by_hand(self):
        # Category 0 is in all four images, 1 in one of them: sqrt(0.5 / 0.25).
        images = self.photos([0], [0], [0], [0, 1])
        assert repeat_rates(images, 0.5).tolist() == pytest.approx([1, 1, 1, 2**0.5])
        assert repeat_rates(images, 0.25).tolist() == [1, 1, 1, 1]

    def test_images_without_items_and_ignore_regions_ask_for_nothing(self):
        images = [*self.photos([], [0]), {"annotations": [{"category_id": 5, "iscrowd": 1}]}]
        assert repeat_rates(images, 0.01).tolist() == [1, 1, 1]

    @given(st.lists(st.floats(0.2, 8), min_size=1, max_size=30), st.integers(0, 99))
    def test_an_epoch_holds_each_as_often_as_its_share_says(self, rates, seed):
        rates = np.array(rates)
        n = len(rates)
        stream = ShuffledStream(items(n), seed, rates=rates)
        share = rates / rates.sum() * n
        for epoch in range(3):
            shown = [stream.index(epoch * n + i) for i in range(n)]
            often = np.bincount(shown, minlength=n)
            assert (often >= np.floor(share - 1e-9)).all()
            assert (often <= np.ceil(share + 1e-9)).all()

    def test_equal_rates_are_no_rates_but_for_the_order(self):
        stream = ShuffledStream(items(9), 3, rates=np.full(9, 2.5))
        assert sorted(stream.index(i) for i in range(9)) == list(range(9))

    def test_of_mixed_data_sets_each_has_its_own(self):
        rates = np.array([1, 1, 1, 5, 1, 1, 6.0])
        stream = MixedStream(items(7), 0, [4, 3], [1, 1], rates)
        shown = np.bincount([stream.index(i) for i in range(2400)], minlength=7)
        assert shown[:4].tolist() == pytest.approx([150, 150, 150, 750], abs=40)
        assert shown[4:].tolist() == pytest.approx([150, 150, 900], abs=40)
        assert stream.index(77) == MixedStream(items(7), 0, [4, 3], [1, 1], rates).index(77)
