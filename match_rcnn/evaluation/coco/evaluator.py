"""The host's evaluator for DeepFashion2: box, mask and landmark AP, and official result files.

Shapes: ``R`` detections of an image, ``n`` landmarks of a category, ``L = 39`` or 294 landmark
rows of a model's output.
"""

import itertools
import logging
from collections import OrderedDict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils

from match_rcnn.d2 import CfgNode, DatasetEvaluator, Instances, MetadataCatalog, comm
from match_rcnn.data.given_boxes import is_given
from match_rcnn.data.taxonomy import Taxonomy, taxonomy_of
from match_rcnn.evaluation import tables
from match_rcnn.evaluation.coco.arrays import GroundTruth
from match_rcnn.evaluation.coco.files import read_ground_truth
from match_rcnn.evaluation.coco.predictions import (
    ImagePredictions,
    to_detections,
    write_predictions,
)
from match_rcnn.evaluation.coco.scoring import TASKS, Scores
from match_rcnn.evaluation.coco.subsets import VIEWS, View, score_views, truths
from match_rcnn.evaluation.evaluators import EVALUATOR_REGISTRY, inference_folder
from match_rcnn.utils.arrays import Float32Array, IntArray
from match_rcnn.utils.files import write_json

logger = logging.getLogger(__name__)

#: Beside the result files: where ground truth (``json_file``) and photos (``image_root``) lie.
DATA_FILE_NAME = "data.json"

_FIELDS = {"bbox": "pred_boxes", "segm": "pred_masks", "keypoints": "pred_keypoints"}


@EVALUATOR_REGISTRY.register()
class DeepFashion2Evaluator(DatasetEvaluator):
    """Scores a model's ``Instances`` as the official evaluator scores result files.

    The metrics are percentages by task: ``bbox``, ``segm``, ``keypoints_visible`` and
    ``keypoints`` (visible and occluded), each with ``AP``, ``AP50``, ``AP75``, ``AP{s,m,l}``, with
    ``AP-<category>``, and with ``{AP,AP50,AP75}-<subset>`` for the subsets that the ground truth
    tells apart (``source-user``, ``occlusion-heavy``, ...; see ``subsets``). NaN: no such item.

    Attributes:
        predictions: of this process, as :meth:`process` took them.

    Memory: 20 bytes a detection, 12 a landmark, and the masks' run lengths.
    """

    def __init__(
        self,
        dataset_name: str,
        tasks: Sequence[str] = ("bbox", "segm", "keypoints"),
        distributed: bool = True,
        output_dir: str | Path | None = None,
        *,
        max_detections: int = 100,
        max_landmark_detections: int = 20,
        by_subset: bool = True,
        mask_confidence: float = 0.0,
        landmark_confidence: float = 0.0,
    ) -> None:
        """
        Args:
            dataset_name: its metadata names the ground truth as ``json_file`` (COCO form, dense
                or compact). Without one, or without annotations in it, files are all there is.
            tasks: of ``bbox``, ``segm``, ``keypoints``.
            distributed: gather the detections of all processes; else each scores its own.
            output_dir: where ``{bbox,segm,keypoints}_results.json`` are written, and in
                ``data.json`` where the data set lies; None: nowhere.
            max_detections: of an image that count, the best ones.
            max_landmark_detections: of an image whose landmarks count (official: 20).
            by_subset: score the subsets too.
            mask_confidence, landmark_confidence: results of masks and of landmarks have the
                detection's score times their own confidence to this power.

        Raises:
            ValueError: an unknown task.
        """
        unknown = set(tasks) - TASKS.keys()
        if unknown:
            raise ValueError(f"tasks must be of {', '.join(TASKS)}; got {', '.join(unknown)}")
        self._metadata = MetadataCatalog.get(dataset_name)
        self._tasks = [task for task in TASKS if task in tasks]
        self._distributed = distributed
        self._output_dir = None if output_dir is None else Path(output_dir)
        self._max_detections = max_detections
        self._max_landmark_detections = max_landmark_detections
        self._by_subset = by_subset
        self._mask_confidence = mask_confidence
        self._landmark_confidence = landmark_confidence
        self._category_ids = category_ids(self._metadata)
        self._taxonomy = taxonomy_of(self._metadata)
        self.predictions: list[ImagePredictions] = []
        self._ground_truth: GroundTruth | None = None

    @classmethod
    def from_config(
        cls, cfg: CfgNode, dataset_name: str, model: Any = None
    ) -> "DeepFashion2Evaluator | None":
        """Box AP, and mask and landmark AP where the config has the streams; not for images of
        given boxes, which show unlabelled garments."""
        if is_given(dataset_name):
            return None
        return cls(
            dataset_name,
            cls._streams(cfg),
            output_dir=inference_folder(cfg, dataset_name),
            max_detections=cfg.TEST.DETECTIONS_PER_IMAGE,
            max_landmark_detections=cfg.TEST.LANDMARK_DETECTIONS_PER_IMAGE,
            mask_confidence=cfg.TEST.MASK_CONFIDENCE,
            landmark_confidence=cfg.TEST.LANDMARK_CONFIDENCE,
        )

    @classmethod
    def tables(cls, cfg: CfgNode, labels: Collection[str]) -> list[str]:
        needed = {"bbox": "boxes", "segm": "masks", "keypoints": "landmarks"}
        scored = [task for task in cls._streams(cfg) if needed[task] in labels]
        return [view for task in scored for view in VIEWS[task]]

    @staticmethod
    def _streams(cfg: CfgNode) -> list[str]:
        streams = {"bbox": True, "segm": cfg.MODEL.MASK_ON, "keypoints": cfg.MODEL.KEYPOINT_ON}
        return [task for task, on in streams.items() if on]

    def reset(self) -> None:
        self.predictions = []

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Take a batch. Args: inputs: dataset dicts; outputs: ``{"instances": Instances}`` each,
        in the original image's pixels."""
        for image, output in zip(inputs, outputs, strict=True):
            self.predictions.append(self._compact(image["image_id"], output["instances"]))

    def _compact(self, image_id: int, instances: Instances) -> ImagePredictions:
        best = (-instances.scores).argsort(stable=True)[: self._max_detections]
        instances = instances[best].to("cpu")
        for task in self._tasks:
            if not instances.has(_FIELDS[task]) and len(instances):
                raise ValueError(
                    f"task {task!r} needs {_FIELDS[task]}, which the model's output lacks; "
                    f"leave the task out, or turn the model's stream on"
                )
        boxes = instances.pred_boxes.tensor.numpy().astype(np.float32)
        prediction = ImagePredictions(
            image_id,
            instances.image_size,
            self._category_ids[instances.pred_classes.numpy()],
            np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]),
            instances.scores.numpy().astype(np.float32),
        )
        if "segm" in self._tasks:
            prediction.masks = _encode(instances)
            if instances.has("mask_confidence") and self._mask_confidence:
                sure = instances.mask_confidence.numpy().astype(np.float32)
                scores = prediction.scores * sure**self._mask_confidence
                prediction.task_scores["segm"] = scores
        if "keypoints" in self._tasks:
            prediction.landmarks = _own_landmarks(
                instances[: self._max_landmark_detections], prediction.category_ids, self._taxonomy
            )
            if self._landmark_confidence:
                sure = np.array(
                    [own[:, 2].mean() if len(own) else 1 for own in prediction.landmarks]
                )
                scores = prediction.scores[: len(sure)] * sure**self._landmark_confidence
                prediction.task_scores["keypoints"] = scores.astype(np.float32)
        return prediction

    def evaluate(self) -> "OrderedDict[str, dict[str, float]]":
        """Write the result files and score them, on the main process; ``{}`` elsewhere and for a
        data set without annotations."""
        predictions = self._gather()
        results: OrderedDict[str, dict[str, float]] = OrderedDict()
        if predictions is None:
            return results
        if self._output_dir is not None:
            self._write(self._output_dir, predictions)
        truth = self.ground_truth
        if truth is None:
            logger.info("no annotations: nothing is scored")
            return results
        for task in self._tasks:
            first = next(iter(truths(task, truth).values()))
            found = to_detections(task, predictions, first, TASKS[task].limits[-1])
            for name, view in score_views(task, truth, found, self._by_subset).items():
                results[name] = self._metrics(view, truth)
        _log_tables(results)
        return results

    def _write(self, folder: Path, predictions: list[ImagePredictions]) -> None:
        for task in self._tasks:
            path = write_predictions(folder, task, predictions, self._taxonomy)
            logger.info("results written to %s", path)
        # For tools/report.py, which may be started with other settings.
        where = {key: self._metadata.get(key) for key in ("json_file", "image_root")}
        known = {key: str(Path(path).absolute()) for key, path in where.items() if path}
        write_json(folder / DATA_FILE_NAME, known)

    def _gather(self) -> list[ImagePredictions] | None:
        if not self._distributed:
            return self.predictions
        comm.synchronize()
        gathered = comm.gather(self.predictions, dst=0)
        return list(itertools.chain(*gathered)) if comm.is_main_process() else None

    @property
    def ground_truth(self) -> GroundTruth | None:
        """Of the data set; None where it has no annotations."""
        json_file = self._metadata.get("json_file")
        if self._ground_truth is None and json_file is not None:
            self._ground_truth = read_ground_truth(json_file, self._tasks, self._taxonomy)
        return self._ground_truth

    def _metrics(self, view: View, ground_truth: GroundTruth) -> dict[str, float]:
        metrics = {k: _percent(v) for k, v in view.whole.stats.items() if k.startswith("AP")}
        metrics |= self._per_category(view.whole, ground_truth)
        for name, part in view.subsets.items():
            metrics |= {f"{k}-{name}": _percent(v) for k, v in part.stats.items()}
        return metrics

    def _per_category(self, scores: Scores, ground_truth: GroundTruth) -> dict[str, float]:
        ids = ground_truth.category_ids.tolist()
        names = dict(zip(ground_truth.category_names, ids, strict=True))
        known = self._metadata.get("thing_classes") or []
        places = {int(i): place for place, i in enumerate(self._category_ids)}
        metrics = {}
        for name, values in scores.per_category().items():
            place = places.get(names[name], len(known))
            shown = known[place] if place < len(known) else name
            metrics[f"AP-{shown}"] = _percent(values["AP"])
        return metrics


def category_ids(metadata: Any) -> IntArray:
    """(classes,) the category id of each of a model's classes, from a data set's metadata, which
    may name them as ``thing_dataset_id_to_contiguous_id``."""
    places = metadata.get("thing_dataset_id_to_contiguous_id")
    places = places or {c.id: i for i, c in enumerate(taxonomy_of(metadata).categories)}
    return np.array(sorted(places, key=places.__getitem__), dtype=np.int64)


def _encode(instances: Instances) -> list[bytes]:
    """Run lengths of (R, H, W) masks."""
    if not instances.has("pred_masks"):
        return []
    masks = instances.pred_masks
    masks = getattr(masks, "tensor", masks).numpy().astype(np.uint8)
    return [mask_utils.encode(np.asfortranarray(mask))["counts"] for mask in masks]


def _own_landmarks(
    instances: Instances, category_ids: Any, taxonomy: Taxonomy
) -> list[Float32Array]:
    """(n, 3) of each detection from (R, L, 3), without the half pixel that the loader added."""
    if not instances.has("pred_keypoints"):
        return []
    found = []
    points = instances.pred_keypoints.numpy().astype(np.float32)
    for own, category_id in zip(points, category_ids, strict=False):
        category = taxonomy.category(category_id)
        dense = len(own) == taxonomy.num_landmarks
        own = own[category.slice if dense else slice(category.num_landmarks)].copy()
        own[:, :2] -= 0.5
        found.append(own)
    return found


def _percent(value: float) -> float:
    return 100 * value if value >= 0 else float("nan")


def _log_tables(results: "OrderedDict[str, dict[str, float]]") -> None:
    metrics = tables.flatten(results)
    parts = [tables.task_table(metrics), tables.category_table(metrics)]
    by_subset = tables.subset_table(metrics)
    logger.info("AP in percent\n%s", "\n\n".join(parts + [by_subset] * bool(by_subset)))
