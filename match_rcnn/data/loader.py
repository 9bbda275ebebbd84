"""The training loader: a stream of samples, batches of it, and worker processes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import torch.utils.data as torchdata

from match_rcnn.d2 import (
    CfgNode,
    DatasetCatalog,
    DatasetFromList,
    comm,
    get_detection_dataset_dicts,
)
from match_rcnn.data.given_boxes import GivenBoxes, is_given, taxonomy_to_learn
from match_rcnn.data.mapper import GarmentMapper
from match_rcnn.data.pairs import PairBatchSampler, PairedStream, PairIndex
from match_rcnn.data.readable import ReadableSamples
from match_rcnn.data.streams import (
    Items,
    MixedStream,
    ShuffledStream,
    StreamBatchSampler,
    repeat_rates,
)
from match_rcnn.utils.arrays import FloatArray
from match_rcnn.utils.signals import ignore_preemption, kill_helpers_at_exit

Batch = list[dict[str, Any]]
#: A data set's dataset dicts.
Part = Batch | GivenBoxes
BatchSampler = StreamBatchSampler | PairBatchSampler


@dataclass(frozen=True)
class Mixture:
    """How several data sets take turns: see :class:`~match_rcnn.data.streams.MixedStream`."""

    counts: Sequence[int]
    weights: Sequence[float]

    def stream(self, items: Items, seed: int, rates: FloatArray | None = None) -> MixedStream:
        return MixedStream(items, seed, self.counts, self.weights, rates)


def list_collator(batch: Batch) -> Batch:
    """A batch is the list of its samples: images differ in size."""
    return batch


def build_train_loader(
    items: Sequence[dict[str, Any]],
    mapper: GarmentMapper,
    *,
    total_batch_size: int,
    seed: int,
    num_workers: int = 0,
    group_by_orientation: bool = True,
    pair_share: float | None = None,
    mixture: Mixture | None = None,
    rates: FloatArray | None = None,
    given: Sequence[GivenBoxes] = (),
    pin_memory: bool = False,
) -> torchdata.DataLoader[Batch]:
    """The training loader of this process; batches are lists of mapped samples.

    Images that cannot be read are replaced (:mod:`match_rcnn.data.readable`).

    Args:
        items: dataset dicts; they are serialised once and shared by the workers.
        total_batch_size: images of a batch over all processes.
        seed: of order and augmentations; the same in every process.
        group_by_orientation: no batch mixes landscape and portrait images. Not with pairs: it
            would split them.
        pair_share: of the images, how many come as user/shop pairs; None: no pairs.
        mixture: where the items are of several data sets that take turns; None: they are one.
        rates: how often each item comes, relative to the others of its data set; None: equally.
        given: data sets of given boxes, behind the items; their dataset dicts are read when their
            turn comes.
        pin_memory: whether images come in page-locked memory, from which a GPU copies them faster.
    """
    index = PairIndex(items)
    index.mark(items)
    stored: Any = DatasetFromList(items, copy=False)
    if given:
        stored = torchdata.ConcatDataset([stored, *cast(Any, given)])
        if rates is not None:
            rates = np.concatenate([rates, np.ones(sum(map(len, given)))])
    images = (
        ShuffledStream(stored, seed, rates=rates)
        if mixture is None
        else mixture.stream(stored, seed, rates)
    )
    place = {"rank": comm.get_rank(), "world_size": comm.get_world_size()}
    stream: ShuffledStream | PairedStream = images
    if pair_share is None:
        landscape = None
        if group_by_orientation:
            landscape = [i["width"] > i["height"] for i in items]
            landscape += [wide for part in given for wide in part.landscape]
        sampler: BatchSampler = StreamBatchSampler(
            images, total_batch_size, landscape=landscape, **place
        )
    else:
        stream = PairedStream(images, index)
        sampler = PairBatchSampler(stream, total_batch_size, pair_share=pair_share, **place)
    kill_helpers_at_exit()
    return torchdata.DataLoader(
        # By its type, a loader's elements are its data set's; here they are batches of them.
        cast(torchdata.Dataset[Batch], ReadableSamples(stream, mapper)),
        batch_sampler=sampler,
        num_workers=num_workers,
        collate_fn=list_collator,
        # Its own, or starting the workers would move the generator that the training draws from.
        generator=torch.Generator(),
        worker_init_fn=ignore_preemption,
        pin_memory=pin_memory,
    )


#: Dataset dicts that were counted and wait for their loader, by what :func:`_data_of` says.
_waiting: dict[tuple[Any, ...], list[Part]] = {}


def count_training_images(cfg: CfgNode) -> int:
    """How many images the loader of ``cfg`` draws from, of all data sets together.

    It reads them; the next :func:`build_train_loader_from_cfg` need not do it again.
    """
    key = _data_of(cfg)
    if key not in _waiting:
        _waiting.clear()
        _waiting[key] = _read(cfg)
    return sum(map(len, _waiting[key]))


def training_parts(cfg: CfgNode) -> list[Part]:
    """The dataset dicts of each data set of ``DATASETS.TRAIN``, as the next loader will get them;
    for looking at."""
    count_training_images(cfg)
    return _waiting[_data_of(cfg)]


def _data_of(cfg: CfgNode) -> tuple[Any, ...]:
    """Equal for equal data: the functions that read it, which are others for other files."""
    readers = tuple(DatasetCatalog.data.get(name) for name in cfg.DATASETS.TRAIN)
    return (*readers, cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS)


def _read(cfg: CfgNode) -> list[Part]:
    taxonomy_to_learn(cfg.DATASETS.TRAIN)  # the host compares names only
    parts: list[Part] = []
    for name in cfg.DATASETS.TRAIN:
        if is_given(name):
            parts.append(GivenBoxes(DatasetCatalog.get(name)))
            continue
        part = get_detection_dataset_dicts(
            (name,), filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
        )
        parts.append(_with_own_pair_ids(part, parts))
    return parts


def _check_given(cfg: CfgNode) -> None:
    """
    Raises:
        ValueError: the config would take images of given boxes for images to detect in, or needs
            no labels of theirs.
    """
    name = next(filter(is_given, cfg.DATASETS.TRAIN), None)
    if name and cfg.MODEL.PROPOSAL_GENERATOR.NAME == "RPN":
        raise ValueError(
            f"{name} shows garments that are not labelled, which the host's RPN would call "
            "background; choose MODEL.PROPOSAL_GENERATOR.NAME IgnoringRPN"
        )
    if name and not cfg.MODEL.ATTRIBUTE_ON:
        raise ValueError(
            f"{name} has labels for the attribute stream only; switch MODEL.ATTRIBUTE_ON on, or "
            "leave it out of DATASETS.TRAIN"
        )


def _with_own_pair_ids(part: Batch, before: Sequence[Part]) -> Batch:
    """A number means another product in each data set, so later ones count on."""
    detected = [other for other in before if not isinstance(other, GivenBoxes)]
    taken = [item.get("pair_id") for other in detected for item in other]
    first = 1 + max((p for p in taken if p is not None), default=-1)
    if not first:
        return part
    return [
        item if item.get("pair_id") is None else {**item, "pair_id": item["pair_id"] + first}
        for item in part
    ]


def _detected_first(parts: Sequence[Part], values: list[Any]) -> list[Any]:
    """The parts' values, those of given boxes behind the others."""
    order = sorted(range(len(parts)), key=lambda i: isinstance(parts[i], GivenBoxes))
    return [values[i] for i in order]


def build_train_loader_from_cfg(cfg: CfgNode) -> torchdata.DataLoader[Batch]:
    """The loader of ``cfg.DATASETS.TRAIN``. With ``SEED`` < 0 a seed is drawn and shared.

    Raises:
        ValueError: ``DATALOADER.SAMPLER_TRAIN`` is neither TrainingSampler nor PairSampler, or
            there are images of given boxes that the model has no stream for.
    """
    kind = cfg.DATALOADER.SAMPLER_TRAIN
    if kind not in ("TrainingSampler", "PairSampler"):
        raise ValueError(
            f"DATALOADER.SAMPLER_TRAIN must be TrainingSampler or PairSampler, got {kind}"
        )
    _check_given(cfg)
    parts = _waiting.pop(_data_of(cfg), None) or _read(cfg)
    weights = list(cfg.DATASETS.TRAIN_WEIGHTS)
    if len(weights) == len(parts):  # given boxes stand behind the others
        weights = _detected_first(parts, weights)
    threshold = cfg.DATALOADER.REPEAT_THRESHOLD
    found = [part for part in parts if not isinstance(part, GivenBoxes)]
    return build_train_loader(
        [item for part in found for item in part],
        GarmentMapper(cfg, is_train=True),
        total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
        seed=cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed(),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        group_by_orientation=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
        pair_share=cfg.DATALOADER.PAIR_SHARE if kind == "PairSampler" else None,
        mixture=Mixture(_detected_first(parts, [*map(len, parts)]), weights) if weights else None,
        rates=np.concatenate([repeat_rates(p, threshold) for p in found]) if threshold else None,
        given=[part for part in parts if isinstance(part, GivenBoxes)],
        pin_memory=cfg.DATALOADER.PIN_MEMORY,
    )
