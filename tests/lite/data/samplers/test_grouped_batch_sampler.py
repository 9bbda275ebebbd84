from itertools import islice

import pytest
from torch.utils.data import SequentialSampler

from match_rcnn.lite.data.samplers import GroupedBatchSampler, TrainingSampler


def test_batches_of_one_group_in_order() -> None:
    groups = [0, 1, 0, 1, 1, 0, 0, 1]
    sampler = GroupedBatchSampler(SequentialSampler(groups), groups, 2)
    assert list(sampler) == [[0, 2], [1, 3], [5, 6], [4, 7]]


def test_incomplete_batches_wait_for_the_next_pass() -> None:
    sampler = GroupedBatchSampler(SequentialSampler(range(3)), [0, 0, 0], 2)
    assert list(sampler) == [[0, 1]]
    assert list(sampler) == [[2, 0], [1, 2]]


def test_endless_sampler() -> None:
    groups = [i % 3 for i in range(20)]
    sampler = GroupedBatchSampler(TrainingSampler(20, seed=0), groups, 4)
    for batch in islice(sampler, 50):
        assert len(batch) == 4
        assert len({groups[i] for i in batch}) == 1


def test_wrong_sampler_and_length() -> None:
    with pytest.raises(ValueError, match="got list"):
        GroupedBatchSampler([1, 2], [0, 0], 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="no length"):
        len(GroupedBatchSampler(SequentialSampler([1]), [0], 1))
