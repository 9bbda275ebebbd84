"""Data sets on top of lists and data sets: serialised, mapped, made iterable, grouped."""

import copy
import logging
import pickle
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, Sampler, get_worker_info

__all__ = ["AspectRatioGroupedDataset", "DatasetFromList", "MapDataset", "ToIterableDataset"]

logger = logging.getLogger(__name__)


class _SerializedList:
    """A list whose items lie pickled, one behind the other, in one buffer.

    Python objects carry reference counts, so that reading them in forked workers copies their
    memory page by page, up to once per worker. A buffer stays shared; as a tensor it moves to
    shared memory when workers are spawned instead.
    """

    def __init__(self, items: Sequence[Any]) -> None:
        buffer = bytearray()  # grows in place: never a second copy of everything
        ends = np.empty(len(items), dtype=np.int64)
        for i, item in enumerate(items):
            buffer += pickle.dumps(item, protocol=pickle.HIGHEST_PROTOCOL)
            ends[i] = len(buffer)
        self._bytes = torch.frombuffer(buffer or bytearray(1), dtype=torch.uint8)
        self._ends = torch.from_numpy(ends)
        logger.info(
            "Serialized dataset of %d items takes %.2f MiB", len(items), len(buffer) / 2**20
        )

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> Any:
        length = len(self)
        if not -length <= index < length:
            raise IndexError(f"index {index} is out of range for a data set of {length} items")
        index %= length
        start = int(self._ends[index - 1]) if index else 0
        # Only what this process has pickled itself.
        return pickle.loads(self._bytes[start : int(self._ends[index])].numpy().data)


class DatasetFromList(Dataset[Any]):
    """A list as a map-style data set.

    Args:
        lst: the elements.
        copy: give deep copies, so that whoever gets an element may change it. Serialised elements
            are new at each access anyway.
        serialize: keep the elements in one flat buffer, which many loader workers share; or a
            function that makes some other sequence of the list.

    Raises:
        TypeError: ``serialize`` is neither.
    """

    def __init__(
        self,
        lst: Sequence[Any],
        copy: bool = True,
        serialize: bool | Callable[[Sequence[Any]], Any] = True,
    ) -> None:
        if not isinstance(serialize, bool) and not callable(serialize):
            raise TypeError(f"serialize must be a bool or a function, got {serialize!r}")
        self._copy = copy and serialize is False
        self._items: Any = lst
        if serialize is not False:
            self._items = _SerializedList(lst) if serialize is True else serialize(lst)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Any:
        item = self._items[index]
        return copy.deepcopy(item) if self._copy else item


class _MapIterableDataset(IterableDataset[Any]):
    """A function over an iterable data set; elements that become None are left out."""

    def __init__(self, dataset: Any, map_func: Callable[[Any], Any]) -> None:
        self._dataset = dataset
        self._map_func = map_func

    def __len__(self) -> int:
        return len(self._dataset)

    def __iter__(self) -> Iterator[Any]:
        for element in self._dataset:
            mapped = self._map_func(element)
            if mapped is not None:
                yield mapped


class MapDataset(Dataset[Any]):
    """A function over a data set. An iterable data set gives an iterable data set again.

    Args:
        dataset: map-style or iterable.
        map_func: element -> element, or None for one that is of no use. A map-style data set
            then tries another element at random, an iterable one goes on to the next.

    Raises:
        RuntimeError: ``map_func`` gave None for every element.
    """

    def __new__(cls, dataset: Any, map_func: Callable[[Any], Any]) -> Any:
        if isinstance(dataset, IterableDataset):
            return _MapIterableDataset(dataset, map_func)
        return super().__new__(cls)

    def __init__(self, dataset: Any, map_func: Callable[[Any], Any]) -> None:
        self._dataset = dataset
        self._map_func = map_func
        self._rng = random.Random(42)
        self._candidates = set(range(len(dataset)))

    def __getnewargs__(self) -> tuple[Any, Callable[[Any], Any]]:
        return self._dataset, self._map_func

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Any:
        current = int(index)
        tries = 0
        while (mapped := self._map_func(self._dataset[current])) is None:
            tries += 1
            self._candidates.discard(current)
            if not self._candidates:
                raise RuntimeError(
                    f"map_func gave None for each of the {len(self)} elements that were tried; "
                    "there is nothing to load."
                )
            current = self._rng.choice(list(self._candidates))
            if tries >= 3:
                logger.warning("map_func gave None %d times in place of index %d", tries, index)
        self._candidates.add(current)
        return mapped


class ToIterableDataset(IterableDataset[Any]):
    """A map-style data set and a sampler, as an iterable data set.

    The sampler then runs in every loader worker, and each worker takes its share.

    Args:
        dataset: map-style.
        sampler: gives the indices; cheap to run, and the same in every worker.
        shard_sampler: False when the sampler shares among the workers by itself.
        shard_chunk_size: workers take turns of so many indices. With the batch size, batches are
            those of a loader without workers.
    """

    def __init__(
        self,
        dataset: Any,
        sampler: Sampler[int],
        shard_sampler: bool = True,
        shard_chunk_size: int = 1,
    ) -> None:
        assert not isinstance(dataset, IterableDataset), dataset
        assert isinstance(sampler, Sampler), sampler
        self.dataset = dataset
        self.sampler = sampler
        self.shard_sampler = shard_sampler
        self.shard_chunk_size = shard_chunk_size

    def __len__(self) -> int:
        return len(self.sampler)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info() if self.shard_sampler else None
        for position, index in enumerate(self.sampler):
            turn = position // self.shard_chunk_size
            if worker is None or turn % worker.num_workers == worker.id:
                yield self.dataset[index]


class AspectRatioGroupedDataset(IterableDataset[Any]):
    """Batches of images that are all wider than high, or all not: they need less padding.

    Args:
        dataset: iterable, of dicts with "width" and "height".
        batch_size: elements a batch.
    """

    def __init__(self, dataset: Iterable[dict[str, Any]], batch_size: int) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self._buckets: list[list[dict[str, Any]]] = [[], []]

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        for element in self.dataset:
            kind = int(element["width"] > element["height"])
            bucket = self._buckets[kind]
            bucket.append(element)
            if len(bucket) == self.batch_size:
                # A new list before the yield: what follows a yield may never run.
                self._buckets[kind] = []
                yield bucket
