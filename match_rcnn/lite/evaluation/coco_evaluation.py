"""Average precision of boxes, masks and keypoints by pycocotools.

``R`` detections an image, ``K`` keypoints, ``H`` and ``W`` the image's size in pixels.
"""

import contextlib
import copy
import io
import itertools
import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as mask_util
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tabulate import tabulate
from torch import Tensor

from ..checkpoint.atomic_file import whole_file
from ..config import CfgNode
from ..data import MetadataCatalog
from ..data.datasets.coco import convert_to_coco_dict
from ..structures import BoxMode, Instances
from ..utils import comm
from ..utils.file_io import PathManager
from ..utils.logger import create_small_table
from .evaluator import DatasetEvaluator

logger = logging.getLogger(__name__)

CocoResult = dict[str, Any]
TASKS = ("bbox", "segm", "keypoints")
# pycocotools' names of box areas, and ours in metrics.
AREAS = {"small": "APs", "medium": "APm", "large": "APl"}


class COCOEvaluator(DatasetEvaluator):
    """AP of a model's detections on a data set with COCO annotations.

    Results are ``{"bbox": {"AP", "AP50", "AP75", "APs", "APm", "APl", "AP-<category>", ...},
    "segm": the same, "keypoints": without "APs"}`` in percent; NaN where there is nothing to
    average over.
    """

    def __init__(
        self,
        dataset_name: str,
        tasks: Sequence[str] | CfgNode | None = None,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        max_dets_per_image: int | Sequence[int] | None = None,
        use_fast_impl: bool = True,
        kpt_oks_sigmas: Sequence[float] = (),
        allow_cached_coco: bool = True,
    ):
        """
        Args:
            dataset_name: registered, with metadata ``json_file`` (COCO annotations; without it
                the data set's dicts are converted) and ``thing_classes``.
            tasks: of "bbox", "segm", "keypoints"; None for those that the model predicts.
            distributed: collect from all processes, or else judge each for itself.
            output_dir: gets ``coco_instances_results.json``.
            max_dets_per_image: the best so many of an image count (100, and never less than 10);
                or three numbers as in COCO, of which the greatest counts.
            use_fast_impl, allow_cached_coco: of detectron2, without effect here.
            kpt_oks_sigmas: of the K keypoints; empty for COCO's 17.
        """
        if isinstance(tasks, CfgNode):
            kpt_oks_sigmas = kpt_oks_sigmas or tasks.TEST.KEYPOINT_OKS_SIGMAS
            tasks = None
        unknown = set(tasks or ()) - set(TASKS)
        if unknown:
            raise ValueError(f"tasks may be {', '.join(TASKS)}; got {', '.join(sorted(unknown))}")
        self._tasks = tasks
        self._distributed = distributed
        self._output_dir = output_dir
        self._max_dets = _max_dets(max_dets_per_image)
        self._kpt_oks_sigmas = kpt_oks_sigmas
        self._metadata = MetadataCatalog.get(dataset_name)
        self._coco_api = _ground_truth(dataset_name, self._metadata.get("json_file"))
        self.reset()

    def reset(self) -> None:
        self._predictions: list[dict[str, Any]] = []

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Any]) -> None:
        """
        Args:
            inputs: dicts with "image_id".
            outputs: dicts with "instances", the detections in the image's own pixels.
        """
        for given, output in zip(inputs, outputs, strict=True):
            if "instances" in output:
                image_id = given["image_id"]
                results = instances_to_coco_json(output["instances"].to("cpu"), image_id)
                self._predictions.append({"image_id": image_id, "instances": results})

    def evaluate(self, img_ids: Sequence[int] | None = None) -> dict[str, dict[str, float]]:
        """
        Args:
            img_ids: judge these images only.

        Returns:
            ``{task: {metric: percent}}``; ``{}`` in all but the main process, and when there is
            nothing to judge.

        Raises:
            ValueError: a class that the data set does not have; a wrong number of keypoints.
        """
        predictions = self._predictions
        if self._distributed:
            comm.synchronize()
            predictions = list(itertools.chain(*comm.gather(predictions)))
            if not comm.is_main_process():
                return {}
        if not predictions:
            logger.warning("[COCOEvaluator] Did not receive valid predictions.")
            return {}
        results = [r for prediction in predictions for r in prediction["instances"]]
        tasks = self._tasks or _predicted_tasks(results)
        results = self._with_dataset_categories(results)
        if self._output_dir:
            _save(results, os.path.join(self._output_dir, "coco_instances_results.json"))
        if "annotations" not in self._coco_api.dataset:
            logger.info("Annotations are not available for evaluation.")
            return {}
        return {task: self._evaluate_task(results, task, img_ids) for task in sorted(tasks)}

    def _with_dataset_categories(self, results: list[CocoResult]) -> list[CocoResult]:
        """The same, with the category ids of the annotation file."""
        ids = self._metadata.get("thing_dataset_id_to_contiguous_id")
        if ids is None:
            return results
        of_class = {contiguous: category for category, contiguous in ids.items()}
        for result in results:
            if result["category_id"] not in of_class:
                raise ValueError(
                    f"A prediction has class={result['category_id']}, but the dataset only has "
                    f"{len(of_class)} classes, counted from 0"
                )
        return [{**r, "category_id": of_class[r["category_id"]]} for r in results]

    def _evaluate_task(
        self, results: list[CocoResult], task: str, img_ids: Sequence[int] | None
    ) -> dict[str, float]:
        if not results:
            logger.warning("No predictions from the model!")
            return dict.fromkeys(_metric_names(task), math.nan)
        coco_eval = _run_cocoeval(
            self._coco_api, results, task, self._kpt_oks_sigmas, self._max_dets, img_ids
        )
        metrics = _overall_metrics(coco_eval, task)
        logger.info("Evaluation results for %s:\n%s", task, create_small_table(metrics))
        if not all(map(math.isfinite, metrics.values())):
            logger.info("Some metrics cannot be computed and are shown as NaN.")
        names = self._metadata.get("thing_classes") or ()
        if len(names) > 1:
            per_category = _category_metrics(coco_eval, names)
            logger.info("Per-category %s AP:\n%s", task, _category_table(per_category))
            metrics |= {f"AP-{name}": ap for name, ap in per_category.items()}
        return metrics


def _max_dets(given: int | Sequence[int] | None) -> list[int]:
    if given is None:
        return [1, 10, 100]
    if isinstance(given, int):
        return [1, 10, given]
    if len(given) < 3:
        raise ValueError(f"max_dets_per_image must be a number or three, got {list(given)}")
    return list(given)


def _ground_truth(dataset_name: str, json_file: str | None) -> COCO:
    # pycocotools prints.
    with contextlib.redirect_stdout(io.StringIO()):
        if json_file is not None:
            return COCO(PathManager.get_local_path(json_file))
        coco = COCO()
        coco.dataset = convert_to_coco_dict(dataset_name)
        coco.createIndex()
        return coco


def _predicted_tasks(results: Sequence[CocoResult]) -> set[str]:
    fields = {field for result in results for field in result}
    return {"bbox"} | ({"segm"} if "segmentation" in fields else set()) | (fields & {"keypoints"})


def _save(results: list[CocoResult], path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    logger.info("Saving results to %s", path)
    with whole_file(path) as file:
        file.write(json.dumps(results).encode())


def instances_to_coco_json(instances: Instances, img_id: int) -> list[CocoResult]:
    """Detections of one image as COCO results.

    Args:
        instances: ``pred_boxes``, ``scores``, ``pred_classes``, and if there are such,
            ``pred_masks`` (R, H, W) and ``pred_keypoints`` (R, K, 3) of x, y, score.

    Returns:
        R dicts; masks as RLE, boxes as x, y, w, h, keypoints half a pixel less (COCO counts
        pixels, we measure from their edge).
    """
    if len(instances) == 0:
        return []
    boxes = BoxMode.convert(instances.pred_boxes.tensor.clone(), BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
    columns = {
        "category_id": instances.pred_classes.tolist(),
        "bbox": boxes.tolist(),
        "score": instances.scores.tolist(),
    }
    if instances.has("pred_masks"):
        columns["segmentation"] = [_rle(mask) for mask in instances.pred_masks]
    if instances.has("pred_keypoints"):
        half = instances.pred_keypoints.new_tensor([0.5, 0.5, 0.0])
        columns["keypoints"] = (instances.pred_keypoints - half).flatten(1).tolist()
    rows = zip(*columns.values(), strict=True)
    return [{"image_id": img_id, **dict(zip(columns, row, strict=True))} for row in rows]


def _rle(mask: Tensor) -> dict[str, Any]:
    rle: dict[str, Any] = mask_util.encode(np.asfortranarray(mask.numpy(), dtype=np.uint8))
    # JSON has no bytes.
    return {**rle, "counts": rle["counts"].decode()}


def _run_cocoeval(
    coco_gt: COCO,
    results: list[CocoResult],
    task: str,
    sigmas: Sequence[float],
    max_dets: list[int],
    img_ids: Sequence[int] | None,
) -> COCOeval:
    results = copy.deepcopy(results)  # pycocotools adds to them
    if task == "segm":
        for result in results:
            # Else the box's area, not the mask's, would decide whether it is small or large.
            result.pop("bbox")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        coco_eval = COCOeval(coco_gt, coco_gt.loadRes(results), task)
        if task == "keypoints":
            _set_sigmas(coco_eval, sigmas, coco_gt, results)
        else:
            coco_eval.params.maxDets = max_dets
        if img_ids is not None:
            coco_eval.params.imgIds = img_ids
        coco_eval.evaluate()
        coco_eval.accumulate()
        if task == "keypoints" or max_dets[2] == 100:
            # Its table knows no other number.
            coco_eval.summarize()
    logger.info("pycocotools on %s:\n%s", task, printed.getvalue())
    return coco_eval


def _set_sigmas(
    coco_eval: COCOeval, sigmas: Sequence[float], coco_gt: COCO, results: list[CocoResult]
) -> None:
    if sigmas:
        coco_eval.params.kpt_oks_sigmas = np.array(sigmas)
    annotation = next(iter(coco_gt.anns.values()), None)
    counts = {
        "sigmas (kpt_oks_sigmas)": len(coco_eval.params.kpt_oks_sigmas),
        "predictions": len(results[0]["keypoints"]) // 3,
    }
    if annotation is not None:
        counts["annotations"] = len(annotation.get("keypoints", ())) // 3
    if len(set(counts.values())) > 1:
        raise ValueError(f"numbers of keypoints differ: {counts}")


def _metric_names(task: str) -> list[str]:
    areas = [AREAS[area] for area in AREAS if not (task == "keypoints" and area == "small")]
    return ["AP", "AP50", "AP75", *areas]


def _overall_metrics(coco_eval: COCOeval, task: str) -> dict[str, float]:
    """The metrics over all categories, in percent."""
    params = coco_eval.params
    # (thresholds, recalls, categories, areas) at the highest number of detections.
    precision = coco_eval.eval["precision"][..., -1]
    metrics = {
        "AP": _mean(precision[..., 0]),
        "AP50": _mean(precision[np.isclose(params.iouThrs, 0.5), :, :, 0]),
        "AP75": _mean(precision[np.isclose(params.iouThrs, 0.75), :, :, 0]),
    }
    for i, area in enumerate(params.areaRngLbl):
        if area in AREAS:
            metrics[AREAS[area]] = _mean(precision[..., i])
    assert list(metrics) == _metric_names(task)
    return metrics


def _category_metrics(coco_eval: COCOeval, names: Sequence[str]) -> dict[str, float]:
    precision = coco_eval.eval["precision"][:, :, :, 0, -1]
    if precision.shape[2] != len(names):
        raise ValueError(
            f"the annotations have {precision.shape[2]} categories, but thing_classes {len(names)}"
        )
    return {name: _mean(precision[:, :, i]) for i, name in enumerate(names)}


def _mean(precision: np.ndarray[Any, Any]) -> float:
    """In percent; pycocotools marks with -1 what does not exist."""
    existing = precision[precision > -1]
    return float(existing.mean() * 100) if existing.size else math.nan


def _category_table(per_category: Mapping[str, float]) -> str:
    """(category, AP) three times a row."""
    cells = [cell for row in per_category.items() for cell in row]
    width = min(6, len(cells))
    rows = [cells[i : i + width] for i in range(0, len(cells), width)]
    return tabulate(
        rows, headers=["category", "AP"] * (width // 2), tablefmt="pipe", floatfmt=".3f"
    )
