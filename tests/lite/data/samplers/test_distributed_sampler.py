import math
from itertools import islice
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Sampler

from match_rcnn.lite.data.samplers import (
    InferenceSampler,
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
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
        with pytest.raises(error, match=r"TrainingSampler\(size=\) expects"):
            TrainingSampler(size)


class TestRandomSubsetTrainingSampler:
    def test_as_detectron2(self) -> None:
        sampler = RandomSubsetTrainingSampler(10, 0.5, seed_shuffle=1, seed_subset=2)
        # detectron2 02b5c4e2 gives
        assert list(islice(sampler, 10)) == [8, 6, 1, 5, 7, 5, 1, 6, 7, 8]

    @pytest.mark.parametrize("ratio", [0.0, 0.05, 1.2])
    def test_wrong_ratio(self, ratio: float) -> None:
        with pytest.raises(ValueError, match=f"subset_ratio={ratio} of 10"):
            RandomSubsetTrainingSampler(10, ratio)


class TestRepeatFactorTrainingSampler:
    def test_as_detectron2(self) -> None:
        sampler = RepeatFactorTrainingSampler(torch.tensor([1.0, 1.5, 2.25, 0.5]), seed=42)
        # detectron2 02b5c4e2 gives
        expected = [2, 2, 0, 1, 2, 2, 2, 0, 1, 1, 2, 3, 0, 2, 2, 0, 3, 1, 2, 1, 2, 0, 2, 1]
        assert list(islice(sampler, 24)) == expected

    def test_frequencies(self) -> None:
        factors = torch.tensor([1.0, 1.5, 2.25, 0.5])
        stream = torch.tensor(list(islice(RepeatFactorTrainingSampler(factors, seed=0), 21000)))
        counts = torch.bincount(stream, minlength=4) / 4000  # an epoch has 5.25 elements
        torch.testing.assert_close(counts, factors, rtol=0.03, atol=0.0)

    def test_ones_are_a_training_sampler_without_shuffling(self) -> None:
        sampler = RepeatFactorTrainingSampler(torch.ones(3), shuffle=False)
        assert list(islice(sampler, 6)) == [0, 1, 2, 0, 1, 2]

    def test_factors_from_frequency(self) -> None:
        images = [[0, 1], [0, 0], [], [0]]
        dicts = [{"annotations": [{"category_id": c} for c in image]} for image in images]
        factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency
        # Category 0 is in 3/4 of the images, category 1 in 1/4.
        expected = torch.tensor([math.sqrt(0.5 / 0.25), 1.0, 1.0, 1.0])
        torch.testing.assert_close(factors(dicts, 0.5), expected)
        expected = torch.tensor([2.0, 1.0, 1.0, 1.0])
        torch.testing.assert_close(factors(dicts, 0.5, sqrt=False), expected)


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
        ranges = [
            InferenceSampler._get_local_indices(size, world_size, rank)
            for rank in range(world_size)
        ]
        assert [i for part in ranges for i in part] == list(range(size))
        assert max(map(len, ranges)) - min(map(len, ranges)) <= 1

    def test_nothing_to_do(self) -> None:
        with pytest.raises(ValueError, match="positive"):
            InferenceSampler(0)

    def test_is_a_torch_sampler(self) -> None:
        assert isinstance(InferenceSampler(1), Sampler)
