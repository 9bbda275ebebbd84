"""Dataset dicts of named data sets: loaded, joined, filtered, counted."""

import logging
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from tabulate import tabulate
from torch.utils.data import ConcatDataset, Dataset

from .catalog import DatasetCatalog, MetadataCatalog

__all__ = ["get_detection_dataset_dicts"]

logger = logging.getLogger(__name__)

DatasetDicts = list[dict[str, Any]]


def get_detection_dataset_dicts(
    names: str | Sequence[str], filter_empty: bool = True, min_keypoints: int = 0
) -> Any:
    """Load data sets by name and join them. Torch data sets stay as they are, several are
    chained; nothing is filtered.

    Args:
        names: registered names; those that state "thing_classes" must agree on them.
        filter_empty: leave out images without an annotation other than crowds.
        min_keypoints: leave out images with fewer labelled keypoints (visibility above 0).

    Raises:
        KeyError: an unknown name.
        ValueError: a data set is empty, before or after filtering; classes differ.
    """
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise ValueError("no data set is named: set DATASETS.TRAIN or DATASETS.TEST")
    loaded = {name: DatasetCatalog.get(name) for name in names}
    for name, part in loaded.items():
        if not part:
            raise ValueError(f"data set {name!r} holds no image")
    if isinstance(loaded[names[0]], Dataset):
        return loaded[names[0]] if len(names) == 1 else ConcatDataset(loaded.values())
    dicts = list(chain.from_iterable(loaded[name] for name in names))
    if "annotations" not in dicts[0]:
        return dicts
    if filter_empty:
        dicts = _left(dicts, lambda d: any(map(_is_item, d.get("annotations", ()))), "an item")
    if min_keypoints > 0:
        wanted = f"{min_keypoints} labelled keypoints"
        dicts = _left(dicts, lambda d: _labelled_keypoints(d) >= min_keypoints, wanted)
    if not dicts:
        raise ValueError(
            f"{', '.join(names)}: every image was left out; are there annotations, and none but "
            "crowds?"
        )
    classes = _common_classes(names)
    if classes is not None:
        _log_counts(dicts, classes)
    return dicts


def _left(dicts: DatasetDicts, wanted: Any, what: str) -> DatasetDicts:
    kept = [d for d in dicts if wanted(d)]
    logger.info("%d images without %s left out, %d stay", len(dicts) - len(kept), what, len(kept))
    return kept


def _is_item(annotation: dict[str, Any]) -> bool:
    return not annotation.get("iscrowd", 0)


def _labelled_keypoints(dataset_dict: dict[str, Any]) -> int:
    """Of all annotations; theirs may be flat lists or (K, 3) arrays."""
    points = [a["keypoints"] for a in dataset_dict.get("annotations", ()) if "keypoints" in a]
    return sum(int((np.asarray(p).reshape(-1, 3)[:, 2] > 0).sum()) for p in points)


def _common_classes(names: Sequence[str]) -> Any:
    """ "thing_classes" of the data sets; None where the first states none."""
    first = MetadataCatalog.get(names[0]).get("thing_classes")
    if first is None:
        return None
    for name in names[1:]:
        other = MetadataCatalog.get(name).thing_classes
        if other != first:
            raise ValueError(
                f"data sets that are joined must have the same thing_classes: {names[0]!r} has "
                f"{first!r}, {name!r} has {other!r}"
            )
    return first


def _log_counts(dicts: DatasetDicts, classes: Sequence[str]) -> None:
    """How many items each class has.

    Raises:
        ValueError: a category id is not in [0, number of classes).
    """
    annotations = chain.from_iterable(d.get("annotations", ()) for d in dicts)
    ids = np.array([a["category_id"] for a in annotations if _is_item(a)], dtype=np.int64)
    wrong = ids[(ids < 0) | (ids >= len(classes))]
    if len(wrong):
        raise ValueError(
            f"category_id {wrong[0]} does not exist: dataset dicts count the {len(classes)} "
            "classes from 0"
        )
    rows = [*zip(classes, np.bincount(ids, minlength=len(classes)).tolist(), strict=True)]
    table = tabulate([*rows, ("total", len(ids))], headers=("class", "items"), tablefmt="simple")
    logger.info("Items of each class:\n%s", table)
