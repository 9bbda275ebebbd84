import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from match_rcnn.data.streams import ShuffledStream, StreamBatchSampler


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
