"""Training and evaluating a recognition model: one given box an image (DeepFashion, 2016)."""

from typing import Any

import numpy as np
import torch
from tabulate import tabulate
from torch.utils.data import DataLoader

from match_rcnn.d2 import CfgNode, DatasetCatalog, comm
from match_rcnn.data.recognition_loader import (
    ItemPairs,
    Relabelled,
    build_recognition_test_loader,
    build_recognition_train_loader,
)
from match_rcnn.engine.schedule import IN_EPOCHS, epochs_to_iterations, scale_to_processes
from match_rcnn.engine.trainer import MatchRCNNTrainer
from match_rcnn.modeling.taxonomy import taxonomy_from_config


class RecognitionTrainer(MatchRCNNTrainer):
    """``MODEL.META_ARCHITECTURE Recognition``."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__(cfg)
        model: Any = getattr(self._trainer.model, "module", self._trainer.model)
        model.learn_counts(count_attributes(_records(cfg)))

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


def count_attributes(parts: list[Relabelled]) -> torch.Tensor:
    """(2, A) of how many images it is known that they have each attribute not, and have it."""
    counts = np.zeros((2, parts[0].num_attributes), np.int64)
    for part in parts:
        for record in part.items:
            labels = record["annotations"][0].get("attributes")
            if labels is not None:
                counts[:, part.attributes] += np.stack([labels == -1, labels == 1])
    return torch.from_numpy(counts)


def describe_recognition(cfg: CfgNode) -> str:
    """The data sets of a config with their labels, told before a run starts."""
    taxonomy = taxonomy_from_config(cfg)
    rows = []
    for what, names in (("training", cfg.DATASETS.TRAIN), ("evaluation", cfg.DATASETS.TEST)):
        for name in names:
            records = DatasetCatalog.get(name)
            found = [record["annotations"][0] for record in records]
            counts = [sum(key in a for a in found) for key in _LABELS.values()]
            rows.append((what, name, len(found), *counts, len(ItemPairs.of([records]).anchors)))
    headers = ("", "data set", "images", *_LABELS, "in pairs")
    words = (
        f"{taxonomy.num_categories} categories, {len(taxonomy.attributes)} attributes; heads: "
        f"{', '.join(cfg.MODEL.RECOGNITION.HEADS)}"
    )
    return f"{tabulate(rows, headers=headers, tablefmt='simple')}\n{words}"


_LABELS = {"categories": "category_id", "attributes": "attributes", "landmarks": "landmarks"}
