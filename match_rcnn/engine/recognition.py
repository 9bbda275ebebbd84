"""Training and evaluating a recognition model: one given box an image (DeepFashion, 2016)."""

from typing import Any

import torch
from tabulate import tabulate
from torch.utils.data import DataLoader

from match_rcnn.d2 import CfgNode, DatasetCatalog, comm
from match_rcnn.data.recognition_loader import (
    ItemPairs,
    Relabelled,
    build_recognition_test_loader,
    build_recognition_train_loader,
    count_attributes,
    count_together,
)
from match_rcnn.engine.schedule import IN_EPOCHS, epochs_to_iterations, scale_to_processes
from match_rcnn.engine.trainer import MatchRCNNTrainer
from match_rcnn.modeling.recognition.typed_attributes import places_by_type
from match_rcnn.modeling.taxonomy import taxonomy_from_config


class RecognitionTrainer(MatchRCNNTrainer):
    """``MODEL.META_ARCHITECTURE Recognition``."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__(cfg)
        model: Any = getattr(self._trainer.model, "module", self._trainer.model)
        records, attributes = _records(cfg), taxonomy_from_config(cfg).attributes
        types = list(places_by_type([attribute.type for attribute in attributes]).values())
        counts = count_attributes(records), count_together(records, types)
        model.learn_counts(*map(torch.from_numpy, counts))

    @classmethod
    def plan(cls, cfg: CfgNode) -> CfgNode:
        planned = scale_to_processes(cfg, comm.get_world_size())
        if any(cfg[s][k] not in (None, (), []) for s, k in (key.split(".") for key in IN_EPOCHS)):
            images = sum(map(len, _records(cfg)))
            planned = epochs_to_iterations(planned, images)
        return planned

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> DataLoader[list[dict[str, Any]]]:
        return build_recognition_train_loader(cfg, taxonomy_from_config(cfg))

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> DataLoader[Any]:
        return build_recognition_test_loader(cfg, dataset_name)


def _records(cfg: CfgNode) -> list[Relabelled]:
    return [Relabelled(name, taxonomy_from_config(cfg)) for name in cfg.DATASETS.TRAIN]


def describe_recognition(cfg: CfgNode) -> str:
    """The data sets of a config with their labels, told before a run starts."""
    taxonomy = taxonomy_from_config(cfg)
    rows = []
    for what, names in (("training", cfg.DATASETS.TRAIN), ("evaluation", cfg.DATASETS.TEST)):
        for name in names:
            records = DatasetCatalog.get(name)
            first = records[0]
            labels = [key for key in _LABELS if key in {**first, **first["annotations"][0]}]
            pairs = len(ItemPairs.of([records]).anchors)
            rows.append((what, name, len(records), ", ".join(labels), pairs))
    headers = ("", "data set", "images", "labels", "in pairs")
    words = (
        f"{taxonomy.num_categories} categories, {len(taxonomy.attributes)} attributes, "
        f"{len(taxonomy.words)} words; heads: "
        f"{', '.join(cfg.MODEL.RECOGNITION.HEADS)}"
    )
    return f"{tabulate(rows, headers=headers, tablefmt='simple')}\n{words}"


_LABELS = ("category_id", "attributes", "landmarks", "description")
