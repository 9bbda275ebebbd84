"""Which elements to load, in which order, on which process.

Every process of a training draws the same stream of indices and takes every ``world_size``-th of
it, from its own rank on. Loader workers are no concern of samplers: see ToIterableDataset.
"""

import logging
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch.utils.data import Sampler

from match_rcnn.lite.utils import comm

__all__ = [
    "InferenceSampler",
    "RandomSubsetTrainingSampler",
    "RepeatFactorTrainingSampler",
    "TrainingSampler",
]

logger = logging.getLogger(__name__)


class _EndlessSampler(Sampler[int]):
    """This process's share of an endless stream of indices, epoch after epoch."""

    def __init__(self, shuffle: bool, seed: int | None) -> None:
        self._shuffle = shuffle
        self._seed = int(comm.shared_random_seed() if seed is None else seed)
        self._rank = comm.get_rank()
        self._world_size = comm.get_world_size()

    def __iter__(self) -> Iterator[int]:
        yield from islice(self._infinite_indices(), self._rank, None, self._world_size)

    def _infinite_indices(self) -> Iterator[int]:
        generator = torch.Generator()
        generator.manual_seed(self._seed)
        while True:
            indices = self._epoch(generator)
            if self._shuffle:
                indices = indices[torch.randperm(len(indices), generator=generator)]
            yield from indices.tolist()

    def _epoch(self, generator: torch.Generator) -> torch.Tensor:
        """The indices of the next epoch in the data set's order, int64."""
        raise NotImplementedError


class TrainingSampler(_EndlessSampler):
    """Every element once an epoch.

    Args:
        size: number of elements of the data set.
        shuffle: a new order each epoch.
        seed: of the order; the same on all processes. By default the processes agree on one.

    Raises:
        TypeError, ValueError: ``size`` is no positive int.
    """

    def __init__(self, size: int, shuffle: bool = True, seed: int | None = None) -> None:
        if not isinstance(size, int):
            raise TypeError(f"{type(self).__name__}(size=) expects an int. Got type {type(size)}.")
        if size <= 0:
            raise ValueError(f"{type(self).__name__}(size=) expects a positive int. Got {size}.")
        super().__init__(shuffle, seed)
        self._size = size

    def _epoch(self, generator: torch.Generator) -> torch.Tensor:
        return torch.arange(self._size)


class RandomSubsetTrainingSampler(TrainingSampler):
    """Every element of a random subset once an epoch: how good would less data do?

    Args:
        size, shuffle: as for TrainingSampler.
        subset_ratio: part of the elements to use, in (0, 1].
        seed_shuffle: of the order.
        seed_subset: of the choice of elements.

    Raises:
        ValueError: the subset would be empty, or more than everything.
    """

    def __init__(
        self,
        size: int,
        subset_ratio: float,
        shuffle: bool = True,
        seed_shuffle: int | None = None,
        seed_subset: int | None = None,
    ) -> None:
        super().__init__(size, shuffle, seed_shuffle)
        chosen = int(size * subset_ratio)
        if not 0 < chosen <= size:
            raise ValueError(f"subset_ratio={subset_ratio} of {size} elements leaves {chosen}")
        generator = torch.Generator()
        generator.manual_seed(comm.shared_random_seed() if seed_subset is None else seed_subset)
        self._subset = torch.randperm(size, generator=generator)[:chosen]
        logger.info("Training on a random subset: %d of %d elements", chosen, size)

    def _epoch(self, generator: torch.Generator) -> torch.Tensor:
        return self._subset


class RepeatFactorTrainingSampler(_EndlessSampler):
    """Elements as often as their repeat factor says; for classes of very different frequency.

    A factor of 2.3 gives two or three times an epoch, three with probability 0.3.

    Args:
        repeat_factors: (N,) float tensor, one factor an element.
        shuffle, seed: as for TrainingSampler.
    """

    def __init__(
        self, repeat_factors: torch.Tensor, *, shuffle: bool = True, seed: int | None = None
    ) -> None:
        super().__init__(shuffle, seed)
        self._whole = torch.trunc(repeat_factors)
        self._fraction = repeat_factors - self._whole

    @staticmethod
    def repeat_factors_from_category_frequency(
        dataset_dicts: Sequence[dict[str, Any]], repeat_thresh: float, sqrt: bool = True
    ) -> torch.Tensor:
        """Repeat factors that make images of rare categories more frequent (LVIS, appendix B.2).

        A category in the fraction f of the images has the factor max(1, sqrt(repeat_thresh / f)),
        or without the root; an image that of its rarest category, 1 without annotations.

        Returns:
            (N,) float32.
        """
        images = [{a["category_id"] for a in d["annotations"]} for d in dataset_dicts]
        counts = Counter(category for categories in images for category in categories)
        factors = {}
        for category, count in sorted(counts.items()):
            ratio = repeat_thresh / (count / len(images))
            factors[category] = max(1.0, math.sqrt(ratio) if sqrt else ratio)
            logger.info("Category %s: repeat factor %.2f", category, factors[category])
        return torch.tensor(
            [max((factors[c] for c in categories), default=1.0) for categories in images],
            dtype=torch.float32,
        )

    def _epoch(self, generator: torch.Generator) -> torch.Tensor:
        more = torch.rand(len(self._fraction), generator=generator) < self._fraction
        repeats = (self._whole + more).to(torch.int64)
        return torch.repeat_interleave(torch.arange(len(repeats)), repeats)


class InferenceSampler(Sampler[int]):
    """Every element exactly once over all processes; consecutive ranges, the first ones longer.

    Args:
        size: number of elements of the data set, at least 1.
    """

    def __init__(self, size: int) -> None:
        if size <= 0:
            raise ValueError(f"InferenceSampler(size=) expects a positive int. Got {size}.")
        self._local_indices = self._get_local_indices(size, comm.get_world_size(), comm.get_rank())

    @staticmethod
    def _get_local_indices(total_size: int, world_size: int, rank: int) -> range:
        share, left = divmod(total_size, world_size)
        begin = rank * share + min(rank, left)
        return range(begin, begin + share + (rank < left))

    def __iter__(self) -> Iterator[int]:
        yield from self._local_indices

    def __len__(self) -> int:
        return len(self._local_indices)
