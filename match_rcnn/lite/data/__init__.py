"""Data sets, from their name to batches for a model."""

from . import detection_utils, samplers, transforms
from .build import build_detection_test_loader, build_detection_train_loader
from .catalog import DatasetCatalog, Metadata, MetadataCatalog
from .common import DatasetFromList, MapDataset
from .dataset_dicts import get_detection_dataset_dicts

__all__ = [
    "DatasetCatalog",
    "DatasetFromList",
    "MapDataset",
    "Metadata",
    "MetadataCatalog",
    "build_detection_test_loader",
    "build_detection_train_loader",
    "detection_utils",
    "get_detection_dataset_dicts",
    "samplers",
    "transforms",
]
