"""Batches within groups."""

from collections.abc import Iterator, Sequence
from typing import NoReturn

import numpy as np
from torch.utils.data import BatchSampler, Sampler

__all__ = ["GroupedBatchSampler"]


class GroupedBatchSampler(BatchSampler):
    """Batches of another sampler's indices, each of one group only, in about the same order.

    Args:
        sampler: gives indices in [0, N).
        group_ids: the group of each of the N elements.
        batch_size: indices a batch; incomplete batches are never given.

    Raises:
        ValueError: ``sampler`` is not a torch Sampler.
    """

    def __init__(self, sampler: Sampler[int], group_ids: Sequence[int], batch_size: int) -> None:
        if not isinstance(sampler, Sampler):
            raise ValueError(
                f"sampler must be a torch.utils.data.Sampler, got {type(sampler).__name__}"
            )
        self.sampler = sampler
        self.group_ids = np.asarray(group_ids)
        assert self.group_ids.ndim == 1, self.group_ids.shape
        self.batch_size = batch_size
        self._waiting: dict[int, list[int]] = {}

    def __iter__(self) -> Iterator[list[int]]:
        for index in self.sampler:
            group = int(self.group_ids[index])
            batch = self._waiting.setdefault(group, [])
            batch.append(index)
            if len(batch) == self.batch_size:
                del self._waiting[group]
                yield batch

    def __len__(self) -> NoReturn:
        # TypeError is what list() expects of something without a length.
        raise TypeError("GroupedBatchSampler has no length: how many batches come is not known")
