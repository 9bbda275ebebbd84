"""Data sets on top of lists and data sets: serialised, mapped, made iterable, grouped."""

import copy as copying
import logging
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, Sampler, get_worker_info

__all__ = ["AspectRatioGroupedDataset", "DatasetFromList", "MapDataset", "SampledDataset"]

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
        logger.info("%d items in one buffer of %.2f MiB", len(items), len(buffer) / 2**20)

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
        serialize: keep the elements in one flat buffer, which many loader workers share.
    """

    def __init__(self, lst: Sequence[Any], copy: bool = True, serialize: bool = True) -> None:
        self._copy = copy and not serialize
        self._items: Any = _SerializedList(lst) if serialize else lst

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Any:
        item = self._items[index]
        return copying.deepcopy(item) if self._copy else item


class MapDataset(Dataset[Any]):
    """A function over a map-style data set."""

    def __init__(self, dataset: Any, map_func: Callable[[Any], Any]) -> None:
        self._dataset, self._map_func = dataset, map_func

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Any:
        return self._map_func(self._dataset[index])


class SampledDataset(IterableDataset[Any]):
    """A map-style data set in the order of a sampler.

    The sampler runs in every loader worker; the workers take turns of ``turn`` indices. With the
    batch size, batches are those of a loader without workers.
    """

    def __init__(self, dataset: Any, sampler: Sampler[int], turn: int) -> None:
        self._dataset, self._sampler, self._turn = dataset, sampler, turn

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        for position, index in enumerate(self._sampler):
            if worker is None or position // self._turn % worker.num_workers == worker.id:
                yield self._dataset[index]


class AspectRatioGroupedDataset(IterableDataset[Any]):
    """Batches of images that are all wider than high, or all not: they need less padding.

    Args:
        dataset: iterable, of dicts with "width" and "height".
        batch_size: elements a batch.
    """

    def __init__(self, dataset: Iterable[dict[str, Any]], batch_size: int) -> None:
        self._dataset, self._batch_size = dataset, batch_size
        self._waiting: dict[bool, list[dict[str, Any]]] = {True: [], False: []}

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        for element in self._dataset:
            wide = bool(element["width"] > element["height"])
            self._waiting[wide].append(element)
            if len(self._waiting[wide]) >= self._batch_size:
                # Emptied before the yield: what follows a yield may never run.
                full, self._waiting[wide] = self._waiting[wide], []
                yield full
