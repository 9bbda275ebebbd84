"""Training batches as a pure function of (seed, iteration): any run can be continued exactly.

Shapes and names: ``N`` images of the data set; a *position* ``p = 0, 1, 2, ...`` counts samples
since the start of training. Position ``p`` shows image ``order(p // N)[p % N]``, where
``order(epoch)`` is a permutation drawn from (seed, epoch). A batch is a list of positions; all
processes compute the same global batches and each takes its own part of them. A sample's
augmentations are drawn from (seed, p). Hence nothing about the loader needs to be saved but the
seed: to continue at iteration ``i``, the first ``i`` batches are passed over without loading.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch.utils.data as torchdata

from match_rcnn.d2 import (
    CfgNode,
    DatasetFromList,
    MapDataset,
    comm,
    get_detection_dataset_dicts,
)
from match_rcnn.data.mapper import DeepFashion2Mapper


class ShuffledStream:
    """An endless sequence over ``items``, reshuffled every epoch.

    ``stream[p]`` is a copy of the item at position ``p`` with the key ``"seed"`` added, from
    which the mapper draws the sample's augmentations. ``len`` is that of one epoch.
    """

    def __init__(self, items: Sequence[dict[str, Any]], seed: int, shuffle: bool = True) -> None:
        if len(items) == 0:
            raise ValueError("the training set holds no image; check DATASETS.TRAIN and its files")
        self.items = items
        self.seed = seed
        self.shuffle = shuffle
        self._epoch = -1
        self._order: npt.NDArray[np.int64] = np.arange(0)

    def __len__(self) -> int:
        return len(self.items)

    def index(self, position: int) -> int:
        """The item that ``position`` shows."""
        epoch, place = divmod(position, len(self.items))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._draw(epoch)
        return int(self._order[place])

    def _draw(self, epoch: int) -> npt.NDArray[np.int64]:
        if not self.shuffle:
            return np.arange(len(self.items))
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.items))

    def reseed(self, seed: int) -> None:
        """Become the stream of another seed."""
        self.seed, self._epoch = seed, -1

    def __getitem__(self, position: int) -> dict[str, Any]:
        item = dict(self.items[self.index(position)])
        item["seed"] = int(np.random.SeedSequence([self.seed, position]).generate_state(1)[0])
        return item


class StreamBatchSampler(torchdata.Sampler[list[int]]):
    """Endless batches of positions for one process.

    Args:
        stream: what the positions index.
        total_batch_size: images of one batch over all processes.
        rank, world_size: this process among them.
        landscape: for each item, whether its image is wider than high. Given, a batch holds
            images of one orientation only (less padding); the order is otherwise the stream's.

    Attributes:
        start: the iteration to begin with; set it before iterating to continue a run.
    """

    def __init__(
        self,
        stream: ShuffledStream,
        total_batch_size: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        landscape: Sequence[bool] | None = None,
    ) -> None:
        if total_batch_size < world_size or total_batch_size % world_size:
            raise ValueError(
                f"SOLVER.IMS_PER_BATCH ({total_batch_size}) must be a multiple of the number of "
                f"processes ({world_size})"
            )
        self.stream = stream
        self.total_batch_size = total_batch_size
        self.rank = rank
        self.world_size = world_size
        self.landscape = landscape
        self.start = 0

    def __iter__(self) -> Iterator[list[int]]:
        share = self.total_batch_size // self.world_size
        own = slice(self.rank * share, (self.rank + 1) * share)
        for iteration, batch in enumerate(self._global_batches()):
            if iteration >= self.start:
                yield batch[own]

    def _global_batches(self) -> Iterator[list[int]]:
        buckets: dict[bool, list[int]] = {False: [], True: []}
        position = 0
        while True:
            wide = bool(self.landscape[self.stream.index(position)]) if self.landscape else False
            buckets[wide].append(position)
            if len(buckets[wide]) == self.total_batch_size:
                yield buckets[wide]
                buckets[wide] = []
            position += 1


def list_collator(batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A batch is the list of its samples: images differ in size."""
    return batch


def build_train_loader(
    items: Sequence[dict[str, Any]],
    mapper: DeepFashion2Mapper,
    *,
    total_batch_size: int,
    seed: int,
    num_workers: int = 0,
    group_by_orientation: bool = True,
) -> torchdata.DataLoader[list[dict[str, Any]]]:
    """The training loader of this process; batches are lists of mapped samples.

    Args:
        items: dataset dicts; they are serialised once and shared by the workers.
        seed: of order and augmentations; the same in every process.
    """
    landscape = [item["width"] > item["height"] for item in items] if group_by_orientation else None
    stream = ShuffledStream(DatasetFromList(items, copy=False), seed)
    return torchdata.DataLoader(
        MapDataset(stream, mapper),
        batch_sampler=StreamBatchSampler(
            stream,
            total_batch_size,
            rank=comm.get_rank(),
            world_size=comm.get_world_size(),
            landscape=landscape,
        ),
        num_workers=num_workers,
        collate_fn=list_collator,
        pin_memory=False,
    )


def build_train_loader_from_cfg(cfg: CfgNode) -> torchdata.DataLoader[list[dict[str, Any]]]:
    """The loader of ``cfg.DATASETS.TRAIN``. With ``SEED`` < 0 a seed is drawn and shared."""
    items = get_detection_dataset_dicts(
        cfg.DATASETS.TRAIN, filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
    )
    return build_train_loader(
        items,
        DeepFashion2Mapper(cfg, is_train=True),
        total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
        seed=cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed(),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        group_by_orientation=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
    )
