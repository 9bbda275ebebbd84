"""Which elements to load, in which order, on which process."""

from collections.abc import Iterator
from functools import partial
from itertools import chain, islice

import torch
from torch.utils.data import Sampler

from ..utils import comm

__all__ = ["InferenceSampler", "TrainingSampler"]


class TrainingSampler(Sampler[int]):
    """Every element once an epoch, epoch after epoch.

    All processes draw the same stream of indices; each takes every ``world_size``-th of it, from
    its own rank on.

    Args:
        size: number of elements of the data set.
        shuffle: a new order each epoch.
        seed: of the order; the same on all processes. By default the processes agree on one.

    Raises:
        TypeError, ValueError: ``size`` is no positive int.
    """

    def __init__(self, size: int, shuffle: bool = True, seed: int | None = None) -> None:
        _check_size(size)
        self._size, self._shuffle = size, shuffle
        self._seed = int(comm.shared_random_seed() if seed is None else seed)
        self._share = slice(comm.get_rank(), None, comm.get_world_size())

    def __iter__(self) -> Iterator[int]:
        stream = chain.from_iterable(self._epochs())
        return islice(stream, self._share.start, None, self._share.step)

    def _epochs(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self._seed)
        order = partial(torch.randperm, generator=generator) if self._shuffle else torch.arange
        while True:
            yield order(self._size).tolist()


class InferenceSampler(Sampler[int]):
    """Every element exactly once over all processes; consecutive ranges, the first ones longer.

    Args:
        size: number of elements of the data set, at least 1.
    """

    def __init__(self, size: int) -> None:
        _check_size(size)
        self._indices = _share(size, comm.get_world_size(), comm.get_rank())

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)


def _share(size: int, world_size: int, rank: int) -> range:
    each, left = divmod(size, world_size)
    begin = rank * each + min(rank, left)
    return range(begin, begin + each + (rank < left))


def _check_size(size: int) -> None:
    if not isinstance(size, int):
        raise TypeError(f"the size of a data set is an int, got {size!r}")
    if size < 1:
        raise ValueError(f"a sampler needs a data set of at least one element, got {size}")
