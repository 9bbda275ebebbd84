"""Dataset dicts of named data sets: loaded, joined, filtered, counted."""

import itertools
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from tabulate import tabulate
from torch.utils.data import ConcatDataset, Dataset

from .catalog import DatasetCatalog, MetadataCatalog
from .detection_utils import check_metadata_consistency

__all__ = [
    "filter_images_with_few_keypoints",
    "filter_images_with_only_crowd_annotations",
    "get_detection_dataset_dicts",
    "load_proposals_into_dataset",
    "print_instances_class_histogram",
]

logger = logging.getLogger(__name__)

DatasetDicts = list[dict[str, Any]]


def filter_images_with_only_crowd_annotations(dataset_dicts: DatasetDicts) -> DatasetDicts:
    """Leave out images without a single annotation that is no crowd."""
    kept = [
        d for d in dataset_dicts if any(not a.get("iscrowd", 0) for a in d.get("annotations", ()))
    ]
    logger.info(
        "Removed %d images with no usable annotations. %d images left.",
        len(dataset_dicts) - len(kept),
        len(kept),
    )
    return kept


def filter_images_with_few_keypoints(
    dataset_dicts: DatasetDicts, min_keypoints_per_image: int
) -> DatasetDicts:
    """Leave out images with fewer labelled keypoints (visibility above 0) than that.

    Keypoints may be flat lists or (K, 3) arrays.
    """

    def labelled(dataset_dict: dict[str, Any]) -> int:
        points = [
            np.asarray(annotation["keypoints"]).reshape(-1, 3)
            for annotation in dataset_dict.get("annotations", ())
            if "keypoints" in annotation
        ]
        return sum(int((p[:, 2] > 0).sum()) for p in points)

    kept = [d for d in dataset_dicts if labelled(d) >= min_keypoints_per_image]
    logger.info(
        "Removed %d images with fewer than %d keypoints. %d images left.",
        len(dataset_dicts) - len(kept),
        min_keypoints_per_image,
        len(kept),
    )
    return kept


def load_proposals_into_dataset(dataset_dicts: DatasetDicts, proposal_file: str) -> DatasetDicts:
    """Precomputed proposals are not offered here.

    Their files are pickles, which run code when they are read.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError(
        f"Precomputed proposals ({proposal_file}) are not supported by this host. Set "
        "MODEL.LOAD_PROPOSALS to False, or put 'proposal_boxes', 'proposal_objectness_logits' and "
        "'proposal_bbox_mode' into the dataset dicts yourself."
    )


def print_instances_class_histogram(
    dataset_dicts: DatasetDicts, class_names: Sequence[str]
) -> None:
    """Log how many instances, crowds aside, each class has.

    Raises:
        ValueError: a category id is not in [0, number of classes).
    """
    ids = np.array(
        [
            annotation["category_id"]
            for dataset_dict in dataset_dicts
            for annotation in dataset_dict.get("annotations", ())
            if not annotation.get("iscrowd", 0)
        ],
        dtype=np.int64,
    )
    wrong = ids[(ids < 0) | (ids >= len(class_names))]
    if len(wrong):
        raise ValueError(
            f"Got an invalid category_id={wrong[0]} for a dataset of {len(class_names)} classes; "
            "dataset dicts count classes from 0."
        )
    counts = np.bincount(ids, minlength=len(class_names))
    logger.info(
        "Distribution of instances among all %d categories:\n%s",
        len(class_names),
        _histogram_table(class_names, counts.tolist()),
    )


def _histogram_table(class_names: Sequence[str], counts: Sequence[int]) -> str:
    """Name and number side by side, three pairs a row, the total last."""
    cells = [
        (name if len(name) <= 13 else f"{name[:11]}..", count)
        for name, count in zip(class_names, counts, strict=True)
    ]
    pairs = min(3, len(cells))
    rows = [
        list(itertools.chain(*cells[start : start + pairs]))
        for start in range(0, len(cells), pairs)
    ]
    if len(cells) > 1:
        rows.append(["total", sum(counts)])
    headers = ["category", "#instances"] * pairs
    return tabulate(rows, headers=headers, tablefmt="pipe", numalign="left", stralign="center")


def get_detection_dataset_dicts(
    names: str | Sequence[str],
    filter_empty: bool = True,
    min_keypoints: int = 0,
    proposal_files: Sequence[str] | None = None,
    check_consistency: bool = True,
) -> Any:
    """Load data sets by name and join them.

    Args:
        names: registered names.
        filter_empty: leave out images without usable annotations.
        min_keypoints: leave out images with fewer labelled keypoints; 0 keeps all.
        proposal_files: not supported, see :func:`load_proposals_into_dataset`.
        check_consistency: data sets with "thing_classes" must agree on them.

    Returns:
        dataset dicts; or a torch Dataset, where that is what a name stands for.

    Raises:
        KeyError: an unknown name.
        ValueError: a data set is empty, before or after filtering; classes differ.
    """
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise ValueError("No data set is named. Set DATASETS.TRAIN or DATASETS.TEST.")
    loaded = [DatasetCatalog.get(name) for name in names]
    if isinstance(loaded[0], Dataset):
        return ConcatDataset(loaded) if len(loaded) > 1 else loaded[0]
    for name, dicts in zip(names, loaded, strict=True):
        if not len(dicts):
            raise ValueError(f"Dataset '{name}' is empty!")
    if proposal_files:
        pairs = zip(loaded, proposal_files, strict=True)
        loaded = [load_proposals_into_dataset(dicts, file) for dicts, file in pairs]
    dicts = list(itertools.chain.from_iterable(loaded))
    if "annotations" in dicts[0]:
        dicts = _usable(dicts, filter_empty, min_keypoints)
        if check_consistency:
            _check_classes(names, dicts)
    if not dicts:
        raise ValueError(
            f"No valid data found in {', '.join(names)}: every image was left out. Are there "
            "annotations, and none but crowds?"
        )
    return dicts


def _usable(dicts: DatasetDicts, filter_empty: bool, min_keypoints: int) -> DatasetDicts:
    if filter_empty:
        dicts = filter_images_with_only_crowd_annotations(dicts)
    if min_keypoints > 0:
        dicts = filter_images_with_few_keypoints(dicts, min_keypoints)
    return dicts


def _check_classes(names: Sequence[str], dicts: DatasetDicts) -> None:
    class_names = MetadataCatalog.get(names[0]).get("thing_classes")
    if class_names is not None:
        check_metadata_consistency("thing_classes", names)
        print_instances_class_histogram(dicts, class_names)
