"""What a run can be trained on and scored by, told before it starts."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from tabulate import tabulate

from match_rcnn.d2 import CfgNode, DatasetCatalog
from match_rcnn.data.given_boxes import GivenBoxes, is_given
from match_rcnn.data.loader import training_parts
from match_rcnn.data.pairs import PairIndex
from match_rcnn.evaluation.evaluators import tables
from match_rcnn.modeling.streams.stream import ROI_STREAM_REGISTRY

logger = logging.getLogger(__name__)


@dataclass
class Labels:
    """How many items of a data set have each label.

    Attributes:
        images, items: all; ``items`` are those that something can be learned from.
        masks, landmarks: items that have them.
        pairs: items whose product is in a photo of the other domain too.
        ignored: ignore regions.
        attributes: items some of whose attributes are known.
        given: items in a given box, from which boxes and categories are not learned.
    """

    images: int = 0
    items: int = 0
    masks: int = 0
    landmarks: int = 0
    pairs: int = 0
    ignored: int = 0
    attributes: int = 0
    given: int = 0

    def __add__(self, other: "Labels") -> "Labels":
        names = [field.name for field in fields(self)]
        return Labels(*(getattr(self, name) + getattr(other, name) for name in names))

    @property
    def names(self) -> list[str]:
        """Of the labels that there are, as evaluators call them."""
        labels = ("masks", "landmarks", "pairs", "attributes")
        found = [name for name in labels if getattr(self, name)]
        return ["boxes", *found] if self.items > self.given else found


_DETECTOR = "loss_rpn_cls, loss_rpn_loc, loss_cls, loss_box_reg"


def count_labels(items: Sequence[dict[str, Any]] | GivenBoxes) -> Labels:
    """The labels of dataset dicts."""
    found = Labels(images=len(items))
    if isinstance(items, GivenBoxes):
        for image in items:
            found.given += len(image["annotations"])
            found.attributes += sum(map(_has_attributes, image["annotations"]))
        found.items = found.given
        return found
    index = PairIndex(items)
    for image in items:
        annotations = image.get("annotations", ())
        found.ignored += len({tuple(a["bbox"]) for a in annotations if a.get("iscrowd")})
        for annotation in annotations:
            if annotation.get("iscrowd"):
                continue  # below: a file repeats a region for each category that it might be
            found.items += 1
            found.masks += bool(annotation.get("segmentation"))
            found.landmarks += bool(annotation.get("num_keypoints"))
            found.pairs += index.has_partner(image, annotation)
            found.attributes += _has_attributes(annotation)
    return found


def _has_attributes(annotation: dict[str, Any]) -> bool:
    return bool(np.any(annotation.get("attributes", 0)))


def describe_run(cfg: CfgNode) -> str:
    """The data sets of a config with their labels, the losses that they train, and the tables that
    come out; streams without a label to learn from get a warning."""
    trained = dict(zip(cfg.DATASETS.TRAIN, map(count_labels, training_parts(cfg)), strict=True))
    tested = {name: count_labels(_data_set(name)) for name in cfg.DATASETS.TEST}
    everything = sum([*trained.values(), *tested.values()], Labels())
    rare = {"attributes", "given"}
    names = [f.name for f in fields(Labels) if f.name not in rare or getattr(everything, f.name)]
    rows = [
        (what, name, *(getattr(found, column) for column in names))
        for what, part in (("training", trained), ("evaluation", tested))
        for name, found in part.items()
    ]
    lines = [tabulate(rows, headers=("", "data set", *names), tablefmt="simple")]
    lines.append(f"losses: {', '.join([_DETECTOR, *_losses(cfg, trained)])}")
    for name, found in tested.items():
        names = tables(cfg, found.names)
        lines.append(f"tables of {name}: {', '.join(names) or 'none'}")
    return "\n".join(lines)


def _data_set(name: str) -> Any:
    items = DatasetCatalog.get(name)
    return GivenBoxes(items) if is_given(name) else items


def _losses(cfg: CfgNode, trained: dict[str, Labels]) -> list[str]:
    everything = sum(trained.values(), Labels())
    losses = []
    for name in cfg.MODEL.ROI_STREAMS:
        stream = ROI_STREAM_REGISTRY.get(name)
        if stream.switch and not cfg.MODEL[stream.switch]:
            continue
        loss, number = stream.loss or name, getattr(everything, stream.label or "", None)
        if number is None:
            losses.append(f"{loss} (of items with labels of its own)")
            continue
        losses.append(f"{loss} (of {number} of {everything.items} items)")
        if not number:
            text = "%s learns, but no item of %s has %s: %s will stay 0"
            logger.warning(text, name, ", ".join(trained), stream.label, loss)
    return losses
