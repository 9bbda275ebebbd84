"""The host's evaluator for attributes of garments that a detector has to find first.

Each image shows one labelled garment in a known box (:mod:`match_rcnn.data.given_boxes`). Of the
detections whose boxes overlap it by an IoU of at least 0.5 the most confident one stands for it,
whatever its category; without one all its attributes are missed.

Shapes: ``N`` images, ``R`` detections of an image, ``A`` attributes.
"""

import logging
from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from tabulate import tabulate

from match_rcnn.d2 import (
    Boxes,
    BoxMode,
    CfgNode,
    DatasetCatalog,
    DatasetEvaluator,
    Instances,
    comm,
    pairwise_iou,
)
from match_rcnn.data.given_boxes import attributes_of, is_given
from match_rcnn.data.taxonomy import Attribute
from match_rcnn.evaluation.evaluators import EVALUATOR_REGISTRY
from match_rcnn.evaluation.recognition.rankings import attribute_recall
from match_rcnn.modeling.taxonomy import taxonomy_from_config
from match_rcnn.utils.arrays import Array, Float32Array

logger = logging.getLogger(__name__)

IOU_THRESHOLD = 0.5
TOPS = (3, 5)


class _Found(NamedTuple):
    """Of an image: the labels (A,) int8, and the scores (A,) or None where it was missed."""

    labels: Array
    scores: Float32Array | None


@EVALUATOR_REGISTRY.register()
class DetectedAttributesEvaluator(DatasetEvaluator):
    """Recall of attributes among the k best of their type, as
    :func:`~match_rcnn.evaluation.recognition.rankings.attribute_recall` counts.

    ``attributes``: over all garments, ``detected``, the share of garments that were found, beside
    it. ``attributes_found``: over those that were found. In percent.

    Args:
        dataset_name: registered; gives boxes and labels.
        attributes: of the data set and the model, in order.
        distributed: gather what all processes have seen; else each scores its own.
    """

    def __init__(
        self, dataset_name: str, attributes: Sequence[Attribute], *, distributed: bool = True
    ) -> None:
        self._dataset_name = dataset_name
        self._attributes = tuple(attributes)
        self._distributed = distributed
        self._truth: dict[Any, dict[str, Any]] = {}
        self.reset()

    @classmethod
    def from_config(
        cls, cfg: CfgNode, dataset_name: str, model: Any = None
    ) -> "DetectedAttributesEvaluator | None":
        """Where the model has an attribute stream and the data set gives boxes.

        Raises:
            ValueError: model and data set know different attributes.
        """
        if not cfg.MODEL.ATTRIBUTE_ON or not is_given(dataset_name):
            return None
        known, stated = taxonomy_from_config(cfg).attributes, attributes_of(dataset_name)
        if known != stated:
            raise ValueError(
                f"the model knows {len(known)} attributes, and {dataset_name} has {len(stated)}, "
                "or others; leave it out of DATASETS.TEST"
            )
        return cls(dataset_name, known)

    @classmethod
    def tables(cls, cfg: CfgNode, labels: Collection[str]) -> list[str]:
        scored = cfg.MODEL.ATTRIBUTE_ON and "attributes" in labels and "boxes" not in labels
        return ["attributes", "attributes_found"] if scored else []

    def reset(self) -> None:
        self._found: list[_Found] = []

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Take a batch. Args: inputs: dataset dicts; outputs: ``{"instances": Instances}`` each,
        in the original image's pixels, with ``pred_attributes`` (R, A).

        Raises:
            ValueError: the instances lack the field.
        """
        if not self._truth:
            items = DatasetCatalog.get(self._dataset_name)
            self._truth = {item["image_id"]: item["annotations"][0] for item in items}
        for image, output in zip(inputs, outputs, strict=True):
            garment = self._truth[image["image_id"]]
            self._found.append(_Found(garment["attributes"], _scores(output["instances"], garment)))

    def evaluate(self) -> "OrderedDict[str, dict[str, float]]":
        """Recall at 3 and 5 by type; ``{}`` but on the main process."""
        results: OrderedDict[str, dict[str, float]] = OrderedDict()
        gathered = [self._found]
        if self._distributed:
            comm.synchronize()
            gathered = comm.gather(self._found, dst=0)
        every = [found for own in gathered for found in own]
        if not comm.is_main_process() or not every:
            return results
        seen = np.array([found.scores is not None for found in every])
        blank = np.zeros(len(self._attributes), np.float32)
        scores = np.stack([blank if f.scores is None else f.scores for f in every])
        labels = np.stack([f.labels for f in every])
        results["attributes"] = self._recall(scores, labels, seen)
        results["attributes"]["detected"] = 100 * float(seen.mean())
        results["attributes_found"] = self._recall(scores[seen], labels[seen], seen[seen])
        logger.info("attributes, recall\n%s", _table(results))
        return results

    def _recall(self, scores: Array, labels: Array, seen: Array) -> dict[str, float]:
        names = list(dict.fromkeys(attribute.type for attribute in self._attributes))
        types = np.array([names.index(attribute.type) + 1 for attribute in self._attributes])
        recall = attribute_recall(scores, labels, types, names, TOPS, seen)
        return {
            f"{name}_top{k}": float("nan") if value is None else 100 * value
            for name, own in recall.items()
            for k, value in own.items()
        }


def _scores(found: Instances, garment: dict[str, Any]) -> Float32Array | None:
    """(A,) of the detection that stands for an annotated garment; None where none does."""
    if not found.has("pred_attributes"):
        raise ValueError(
            "attributes are scored by the field 'pred_attributes', which the model's output lacks; "
            "turn MODEL.ATTRIBUTE_ON on, or leave the evaluator out"
        )
    box = BoxMode.convert(list(garment["bbox"]), garment["bbox_mode"], BoxMode.XYXY_ABS)
    found = found.to("cpu")
    overlap = pairwise_iou(Boxes(torch.tensor([box], dtype=torch.float32)), found.pred_boxes)[0]
    rows = (overlap >= IOU_THRESHOLD).nonzero()[:, 0]
    if not len(rows):
        return None
    best = rows[found.scores[rows].argmax()]
    scores: Float32Array = found.pred_attributes[best].float().numpy()
    return scores


def _table(results: "OrderedDict[str, dict[str, float]]") -> str:
    rows = [
        [task, f"top-{k}", *(v for name, v in own.items() if name.endswith(f"_top{k}"))]
        for task, own in results.items()
        for k in TOPS
    ]
    tail = f"_top{TOPS[0]}"
    names = [n.removesuffix(tail) for n in results["attributes"] if n.endswith(tail)]
    share = f"garments detected: {results['attributes']['detected']:.1f} %"
    return f"{tabulate(rows, headers=['', '', *names], floatfmt='.1f')}\n{share}"
