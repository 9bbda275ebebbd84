"""Loaders for training and inference, from a config or from explicit arguments."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from ..config import CfgNode, configurable
from ..utils.comm import get_world_size
from ..utils.env import seed_all_rng
from .common import AspectRatioGroupedDataset, DatasetFromList, MapDataset, SampledDataset
from .dataset_dicts import get_detection_dataset_dicts
from .samplers import InferenceSampler, TrainingSampler

__all__ = ["build_detection_test_loader", "build_detection_train_loader"]

logger = logging.getLogger(__name__)

Mapper = Callable[[dict[str, Any]], Any]


def _as_list(batch: list[Any]) -> list[Any]:
    return batch


def _only_element(batch: list[Any]) -> Any:
    return batch[0]


def _seed_worker(worker_id: int) -> None:
    """Seed all generators of a loader worker: torch's seed for the worker, plus its number.

    Torch gives each worker another seed, drawn anew at each start of the loader; without this
    all workers would continue numpy's sequence of the parent, and augment alike.
    """
    seed_all_rng(torch.initial_seed() % 2**31 + worker_id)


def _mapped(dataset: Any, mapper: Mapper | None) -> Any:
    """Lists become data sets; a mapper is put over them."""
    items = DatasetFromList(dataset, copy=False) if isinstance(dataset, list) else dataset
    return items if mapper is None else MapDataset(items, mapper)


def _own_batch_size(total: int) -> int:
    """Elements of a batch on this process."""
    processes = get_world_size()
    if total < 1 or total % processes:
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH, the images of a batch over all {processes} processes, must be "
            f"a positive multiple of their number; got {total}"
        )
    return total // processes


def _train_loader_from_config(
    cfg: CfgNode, mapper: Mapper, *, dataset: Any = None, sampler: Sampler[int] | None = None
) -> dict[str, Any]:
    if dataset is None:
        fewest = cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE
        dataset = get_detection_dataset_dicts(
            cfg.DATASETS.TRAIN,
            filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
            min_keypoints=fewest if cfg.MODEL.KEYPOINT_ON else 0,
        )
    if sampler is None:
        if cfg.DATALOADER.SAMPLER_TRAIN != "TrainingSampler":
            raise ValueError(
                f"DATALOADER.SAMPLER_TRAIN {cfg.DATALOADER.SAMPLER_TRAIN} is not made here, only "
                "TrainingSampler; give another one as sampler="
            )
        # As on detectron2's main branch: also a SEED below 0, which fixes nothing else.
        sampler = TrainingSampler(len(dataset), seed=cfg.SEED)
    return {
        "dataset": dataset,
        "sampler": sampler,
        "mapper": mapper,
        "total_batch_size": cfg.SOLVER.IMS_PER_BATCH,
        "aspect_ratio_grouping": cfg.DATALOADER.ASPECT_RATIO_GROUPING,
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
    }


@configurable(from_config=_train_loader_from_config)
def build_detection_train_loader(
    dataset: Any,
    *,
    mapper: Mapper | None,
    sampler: Sampler[int] | None = None,
    total_batch_size: int,
    aspect_ratio_grouping: bool = True,
    num_workers: int = 0,
    seed: int | None = None,
) -> Any:
    """An endless iterable of training batches, lists of mapped elements.

    Either ``build_detection_train_loader(cfg, mapper=..., dataset=..., sampler=...)``, the last
    two optional, or with explicit arguments:

    Args:
        dataset: dataset dicts, or a map-style torch data set.
        mapper: dataset dict -> model input, or None for a data set that needs none.
        sampler: a TrainingSampler by default.
        total_batch_size: images a batch over all processes.
        aspect_ratio_grouping: no batch mixes wide images and high ones; elements are dicts with
            "width" and "height".
        num_workers: loader processes.
        seed: of the workers' own generators; by default from torch's global one.

    Raises:
        ValueError: batches do not divide among the processes, or an unknown sampler.
    """
    batch_size = _own_batch_size(total_batch_size)
    dataset = _mapped(dataset, mapper)
    sampler = TrainingSampler(len(dataset)) if sampler is None else sampler
    elements: DataLoader[Any] = DataLoader(
        SampledDataset(dataset, sampler, turn=batch_size),
        batch_size=1 if aspect_ratio_grouping else batch_size,
        drop_last=True,
        collate_fn=_only_element if aspect_ratio_grouping else _as_list,
        num_workers=num_workers,
        worker_init_fn=_seed_worker,
        generator=None if seed is None else torch.Generator().manual_seed(seed),
    )
    # Grouped here, in the parent, so that groups fill soonest.
    return AspectRatioGroupedDataset(elements, batch_size) if aspect_ratio_grouping else elements


def _test_loader_from_config(
    cfg: CfgNode, dataset_name: str | Sequence[str], mapper: Mapper
) -> dict[str, Any]:
    return {
        "dataset": get_detection_dataset_dicts(dataset_name, filter_empty=False),
        "mapper": mapper,
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
    }


@configurable(from_config=_test_loader_from_config)
def build_detection_test_loader(
    dataset: Any,
    *,
    mapper: Mapper | None,
    sampler: Sampler[int] | None = None,
    batch_size: int = 1,
    num_workers: int = 0,
) -> DataLoader[Any]:
    """A loader of every element once, over all processes; batches are lists.

    Either ``build_detection_test_loader(cfg, dataset_name, mapper=...)`` or with explicit
    arguments:

    Args:
        dataset: dataset dicts, or a map-style torch data set.
        mapper: dataset dict -> model input, or None.
        sampler: an InferenceSampler by default.
        batch_size: images a batch on each process; the last one may be smaller.
        num_workers: loader processes.
    """
    dataset = _mapped(dataset, mapper)
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=InferenceSampler(len(dataset)) if sampler is None else sampler,
        num_workers=num_workers,
        collate_fn=_as_list,
    )
