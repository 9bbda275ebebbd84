from itertools import islice
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Sampler

from match_rcnn.lite.data.samplers import (
    InferenceSampler,
    TrainingSampler,
    _share,
)
from match_rcnn.lite.utils.env import seed_all_rng


def as_rank(rank: int, world_size: int) -> mock._patch_dict:
    """Samplers made inside believe to be on that process."""
    return mock.patch.multiple(
        "match_rcnn.lite.utils.comm",
        get_rank=lambda: rank,
        get_world_size=lambda: world_size,
    )


class TestTrainingSampler:
    def test_as_detectron2(self) -> None:
        # detectron2 02b5c4e2 gives
        expected = [2, 6, 1, 8, 4, 5, 0, 9, 3, 7, 3, 5, 8, 9, 4, 6, 1, 0, 7, 2]
        assert list(islice(TrainingSampler(10, seed=42), 20)) == expected

    def test_every_element_once_an_epoch(self) -> None:
        stream = list(islice(TrainingSampler(7, seed=1), 21))
        epochs = [stream[:7], stream[7:14], stream[14:]]
        assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
        assert epochs[0] != epochs[1]

    def test_without_shuffling(self) -> None:
        assert list(islice(TrainingSampler(3, shuffle=False), 7)) == [0, 1, 2, 0, 1, 2, 0]

    def test_processes_share_one_stream(self) -> None:
        whole = list(islice(TrainingSampler(10, seed=5), 30))
        for rank in range(3):
            with as_rank(rank, 3):
                sampler = TrainingSampler(10, seed=5)
            assert list(islice(sampler, 10)) == whole[rank::3]

    def test_starts_again_at_each_iteration(self) -> None:
        sampler = TrainingSampler(10)
        assert list(islice(sampler, 12)) == list(islice(sampler, 12))

    def test_seed_is_drawn_when_it_is_made(self) -> None:
        streams = []
        for _ in range(2):
            seed_all_rng(42)
            sampler = TrainingSampler(30)
            seed_all_rng(999)
            streams.append(list(islice(sampler, 65)))
        assert streams[0] == streams[1]

    @pytest.mark.parametrize(
        ("size", "error"), [(0, ValueError), (-1, ValueError), ("3", TypeError)]
    )
    def test_wrong_size(self, size: int, error: type[Exception]) -> None:
        with pytest.raises(error, match=r"an int, got '3'|at least one element, got (0|-1)"):
            TrainingSampler(size)


class TestInferenceSampler:
    @pytest.mark.parametrize(
        ("size", "world_size", "expected"),
        [
            (16, 2, [range(8), range(8, 16)]),
            (2, 3, [range(1), range(1, 2), range(0)]),  # fewer elements than processes
            (42, 4, [range(11), range(11, 22), range(22, 32), range(32, 42)]),
        ],
    )
    def test_ranges(self, size: int, world_size: int, expected: list[range]) -> None:
        for rank in range(world_size):
            with as_rank(rank, world_size):
                sampler = InferenceSampler(size)
            assert list(sampler) == list(expected[rank])
            assert len(sampler) == len(expected[rank])

    @given(st.integers(0, 200), st.integers(1, 20))
    def test_every_element_once(self, size: int, world_size: int) -> None:
        ranges = [_share(size, world_size, rank) for rank in range(world_size)]
        assert [i for part in ranges for i in part] == list(range(size))
        assert max(map(len, ranges)) - min(map(len, ranges)) <= 1

    def test_nothing_to_do(self) -> None:
        with pytest.raises(ValueError, match="at least one element, got 0"):
            InferenceSampler(0)

    def test_is_a_torch_sampler(self) -> None:
        assert isinstance(InferenceSampler(1), Sampler)
