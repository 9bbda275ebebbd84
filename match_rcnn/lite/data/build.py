"""Loaders for training and inference, from a config or from explicit arguments."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, Sampler

from match_rcnn.lite.config import CfgNode, configurable
from match_rcnn.lite.utils.comm import get_world_size
from match_rcnn.lite.utils.env import seed_all_rng

from .common import AspectRatioGroupedDataset, DatasetFromList, MapDataset, ToIterableDataset
from .dataset_dicts import (
    filter_images_with_few_keypoints,
    filter_images_with_only_crowd_annotations,
    get_detection_dataset_dicts,
    load_proposals_into_dataset,
    print_instances_class_histogram,
)
from .dataset_mapper import DatasetMapper
from .samplers import (
    InferenceSampler,
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)

__all__ = [
    "build_batch_data_loader",
    "build_detection_test_loader",
    "build_detection_train_loader",
    "filter_images_with_few_keypoints",
    "filter_images_with_only_crowd_annotations",
    "get_detection_dataset_dicts",
    "load_proposals_into_dataset",
    "print_instances_class_histogram",
    "trivial_batch_collator",
    "worker_init_reset_seed",
]

logger = logging.getLogger(__name__)

Mapper = Callable[[dict[str, Any]], Any]


def trivial_batch_collator(batch: list[Any]) -> list[Any]:
    """A batch is the list of its elements."""
    return batch


def _only_element(batch: list[Any]) -> Any:
    return batch[0]


def worker_init_reset_seed(worker_id: int) -> None:
    """Seed all generators of a loader worker: torch's seed for the worker, plus its number.

    Torch gives each worker another seed, drawn anew at each start of the loader; without this
    all workers would continue numpy's sequence of the parent, and augment alike.
    """
    seed_all_rng(torch.initial_seed() % 2**31 + worker_id)


def _as_dataset(dataset: Any, mapper: Mapper | None) -> Any:
    """Lists become data sets; a mapper is put over them."""
    if isinstance(dataset, list):
        dataset = DatasetFromList(dataset, copy=False)
    return dataset if mapper is None else MapDataset(dataset, mapper)


def _batch_size(total_batch_size: int | None, single_gpu_batch_size: int | None) -> int:
    """Elements a batch on this process."""
    if single_gpu_batch_size:
        if total_batch_size:
            raise ValueError(
                f"total_batch_size={total_batch_size} and single_gpu_batch_size="
                f"{single_gpu_batch_size} are mutually incompatible. Please specify only one."
            )
        return single_gpu_batch_size
    world_size = get_world_size()
    if not total_batch_size or total_batch_size < 0 or total_batch_size % world_size:
        raise ValueError(
            f"Total batch size ({total_batch_size}) must be positive and divisible by the number "
            f"of processes ({world_size}). Change SOLVER.IMS_PER_BATCH."
        )
    return total_batch_size // world_size


def build_batch_data_loader(
    dataset: Any,
    sampler: Sampler[int] | None,
    total_batch_size: int | None,
    *,
    aspect_ratio_grouping: bool = False,
    num_workers: int = 0,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    drop_last: bool = True,
    single_gpu_batch_size: int | None = None,
    prefetch_factor: int = 2,
    persistent_workers: bool = False,
    pin_memory: bool = False,
    seed: int | None = None,
    **kwargs: Any,
) -> Any:
    """An iterable of this process's batches.

    Args:
        dataset: map-style or iterable.
        sampler: indices for a map-style data set; None for an iterable one.
        total_batch_size: elements a batch over all processes; or give
        single_gpu_batch_size: elements a batch on each process.
        aspect_ratio_grouping: batches of images that are all wide, or all high.
        num_workers, prefetch_factor, persistent_workers, pin_memory, kwargs: as for torch's
            DataLoader.
        collate_fn: list of elements -> batch; by default the list itself.
        drop_last: leave out a last batch that is not full.
        seed: of the workers' own generators; by default from torch's global one.

    Raises:
        ValueError: batch sizes that contradict each other or do not divide.
    """
    batch_size = _batch_size(total_batch_size, single_gpu_batch_size)
    logger.info("Making batched data loader with batch_size=%d", batch_size)
    if isinstance(dataset, IterableDataset):
        assert sampler is None, "an iterable dataset takes no sampler"
    else:
        assert sampler is not None, "a map-style dataset needs a sampler"
        dataset = ToIterableDataset(dataset, sampler, shard_chunk_size=batch_size)
    common = {
        "num_workers": num_workers,
        "worker_init_fn": worker_init_reset_seed,
        "prefetch_factor": prefetch_factor if num_workers > 0 else None,
        "persistent_workers": persistent_workers,
        "pin_memory": pin_memory,
        "generator": None if seed is None else torch.Generator().manual_seed(seed),
        **kwargs,
    }
    if not aspect_ratio_grouping:
        return DataLoader(
            dataset,
            batch_size=batch_size,
            drop_last=drop_last,
            collate_fn=collate_fn or trivial_batch_collator,
            **common,
        )
    assert drop_last, "Aspect ratio grouping will drop incomplete batches."
    # Elements one by one; they are grouped here, in the parent, so that groups fill soonest.
    elements = DataLoader(dataset, collate_fn=_only_element, **common)
    batches = AspectRatioGroupedDataset(elements, batch_size)
    return batches if collate_fn is None else MapDataset(batches, collate_fn)


def _train_sampler(cfg: CfgNode, dataset: Any) -> Sampler[int]:
    name = cfg.DATALOADER.SAMPLER_TRAIN
    logger.info("Using training sampler %s", name)
    if name == "TrainingSampler":
        return TrainingSampler(len(dataset))
    if name == "RepeatFactorTrainingSampler":
        return RepeatFactorTrainingSampler(
            RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
                dataset, cfg.DATALOADER.REPEAT_THRESHOLD, sqrt=cfg.DATALOADER.REPEAT_SQRT
            )
        )
    if name == "RandomSubsetTrainingSampler":
        # As in detectron2, this key is not among the defaults: set it along with the sampler.
        return RandomSubsetTrainingSampler(len(dataset), cfg.DATALOADER.RANDOM_SUBSET_RATIO)
    raise ValueError(
        f"Unknown training sampler: {name}. DATALOADER.SAMPLER_TRAIN is one of TrainingSampler, "
        "RepeatFactorTrainingSampler, RandomSubsetTrainingSampler; others go to "
        "build_detection_train_loader(sampler=...)."
    )


def _train_loader_from_config(
    cfg: CfgNode,
    mapper: Mapper | None = None,
    *,
    dataset: Any = None,
    sampler: Sampler[int] | None = None,
) -> dict[str, Any]:
    if dataset is None:
        keypoints = cfg.MODEL.KEYPOINT_ON
        dataset = get_detection_dataset_dicts(
            cfg.DATASETS.TRAIN,
            filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
            min_keypoints=cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE if keypoints else 0,
            proposal_files=_proposal_files(cfg, cfg.DATASETS.PROPOSAL_FILES_TRAIN),
        )
    if sampler is None and not isinstance(dataset, IterableDataset):
        sampler = _train_sampler(cfg, dataset)
    return {
        "dataset": dataset,
        "sampler": sampler,
        "mapper": DatasetMapper(cfg, True) if mapper is None else mapper,
        "total_batch_size": cfg.SOLVER.IMS_PER_BATCH,
        "aspect_ratio_grouping": cfg.DATALOADER.ASPECT_RATIO_GROUPING,
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
    }


def _proposal_files(cfg: CfgNode, files: Sequence[str]) -> Sequence[str] | None:
    return files if cfg.MODEL.LOAD_PROPOSALS else None


@configurable(from_config=_train_loader_from_config)
def build_detection_train_loader(
    dataset: Any,
    *,
    mapper: Mapper | None,
    sampler: Sampler[int] | None = None,
    total_batch_size: int | None,
    aspect_ratio_grouping: bool = True,
    num_workers: int = 0,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    **kwargs: Any,
) -> Any:
    """An endless iterable of training batches, lists of mapped elements.

    Either ``build_detection_train_loader(cfg, mapper=..., dataset=..., sampler=...)``, all but
    ``cfg`` optional, or with explicit arguments:

    Args:
        dataset: dataset dicts, or a torch data set, map-style or iterable.
        mapper: dataset dict -> model input, or None for a data set that needs none.
        sampler: of a map-style data set; a TrainingSampler by default.
        total_batch_size: images a batch over all processes.
        aspect_ratio_grouping: see :func:`build_batch_data_loader`; needs elements with "width"
            and "height", and parts images that should come together.
        num_workers, collate_fn, kwargs: see :func:`build_batch_data_loader`.
    """
    dataset = _as_dataset(dataset, mapper)
    if sampler is None and not isinstance(dataset, IterableDataset):
        sampler = TrainingSampler(len(dataset))
    assert sampler is None or isinstance(sampler, Sampler), f"expected a Sampler, got {sampler!r}"
    return build_batch_data_loader(
        dataset,
        sampler,
        total_batch_size,
        aspect_ratio_grouping=aspect_ratio_grouping,
        num_workers=num_workers,
        collate_fn=collate_fn,
        **kwargs,
    )


def _test_loader_from_config(
    cfg: CfgNode, dataset_name: str | Sequence[str], mapper: Mapper | None = None
) -> dict[str, Any]:
    names = [dataset_name] if isinstance(dataset_name, str) else list(dataset_name)
    proposal_files = None
    if cfg.MODEL.LOAD_PROPOSALS:
        tests = list(cfg.DATASETS.TEST)
        proposal_files = [cfg.DATASETS.PROPOSAL_FILES_TEST[tests.index(name)] for name in names]
    dataset = get_detection_dataset_dicts(names, filter_empty=False, proposal_files=proposal_files)
    iterable = isinstance(dataset, IterableDataset)
    return {
        "dataset": dataset,
        "mapper": DatasetMapper(cfg, False) if mapper is None else mapper,
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
        "sampler": None if iterable else InferenceSampler(len(dataset)),
    }


@configurable(from_config=_test_loader_from_config)
def build_detection_test_loader(
    dataset: Any,
    *,
    mapper: Mapper | None,
    sampler: Sampler[int] | None = None,
    batch_size: int = 1,
    num_workers: int = 0,
    collate_fn: Callable[[list[Any]], Any] | None = None,
) -> DataLoader[Any]:
    """A loader of every element once, over all processes.

    Either ``build_detection_test_loader(cfg, dataset_name, mapper=...)`` or with explicit
    arguments:

    Args:
        dataset: dataset dicts, or a torch data set, map-style or iterable.
        mapper: dataset dict -> model input, or None.
        sampler: of a map-style data set; an InferenceSampler by default.
        batch_size: images a batch on each process; the last one may be smaller.
        num_workers: loader processes.
        collate_fn: list of elements -> batch; by default the list itself.
    """
    dataset = _as_dataset(dataset, mapper)
    if isinstance(dataset, IterableDataset):
        assert sampler is None, "an iterable dataset takes no sampler"
    elif sampler is None:
        sampler = InferenceSampler(len(dataset))
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        drop_last=False,
        num_workers=num_workers,
        collate_fn=collate_fn or trivial_batch_collator,
    )
