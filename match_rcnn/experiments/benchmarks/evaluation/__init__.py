"""The whole evaluation of a validation set: pycocotools, run once a table, against ours.

Boxes, masks and landmarks (visible; visible and occluded), each whole, for both sources of photos
and for three levels of four attributes: 60 tables. Made-up data of DeepFashion2's size: 32,153
images, 1.6 items each, 20 to 100 detections an image. pycocotools takes hours for that, so it gets
the first images only (--reference-images), ours gets these too for the ratio, and then everything.

Not counted: reading files; for pycocotools, choosing what lies outside a subset. Files are what the
second comparison is about: from files to the whole table as a command, against hotcoco's.

Why not faster-coco-eval (1.8.0, looked at on 300 images of this data): its numbers are equal (to
2e-16) and it takes our sigmas and areas, but it is a faster run of one table. Loading and
evaluating took 0.3 (boxes), 0.9 (masks) and 1.0 (landmarks) times as long as pycocotools, and every
table computes the similarities anew, from lists of 882 numbers a landmark result. Subsets would
have to be written into the areas, a run each. Ours did all 60 tables in half the time of its 4.
"""

import argparse
import contextlib
import io
from collections.abc import Callable, Iterator, Set
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from match_rcnn.data.coco import category_records
from match_rcnn.data.sources.deepfashion2 import SOURCES
from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.evaluation.coco.arrays import GroundTruth
from match_rcnn.evaluation.coco.predictions import ImagePredictions, to_detections
from match_rcnn.evaluation.coco.scoring import TASKS
from match_rcnn.evaluation.coco.subsets import LEVELS, View, score_views, truths
from match_rcnn.experiments.benchmarks.evaluation import files
from match_rcnn.experiments.benchmarks.evaluation.world import World, make_world
from match_rcnn.experiments.benchmarks.harness import Measurement, Result, alternate, measure
from match_rcnn.utils.arrays import FloatArray

GOAL = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=int, default=32153, metavar="N")
    parser.add_argument("--items", type=float, default=1.6, help="items an image, on average")
    parser.add_argument(
        "--detections", type=int, nargs=2, default=(20, 100), metavar=("MIN", "MAX")
    )
    parser.add_argument("--reference-images", type=int, default=200, metavar="N")
    parser.add_argument("--file-images", type=int, default=7500, metavar="N", help="0: no files")
    parser.add_argument("--runs", type=int, default=1, help="timed runs; the median counts")


def run(args: argparse.Namespace) -> Result:
    world = make_world(args.images, args.items, tuple(args.detections))
    part = world.first(min(args.reference_images, args.images))
    reference = Reference(part)
    found: dict[str, Any] = {}

    def theirs() -> None:
        found["theirs"] = reference.tables()

    def ours() -> None:
        found["ours"] = evaluate(part)

    slow, fast = alternate([theirs, ours], args.runs, warmup=0)
    whole = measure(lambda: evaluate(world), runs=1, warmup=0)
    difference = _difference(found["theirs"], found["ours"])
    scaled = slow.seconds * args.images / len(part.predictions)
    result = Result(
        "evaluation",
        [_row("pycocotools", part, slow), _row("ours", part, fast), _row("ours", world, whole)],
        ratios={
            "time": slow.seconds / fast.seconds,
            "memory": slow.peak_mib / max(fast.peak_mib, 1e-9),
        },
        goals={"time": GOAL},
        checks={f"largest difference {difference:.1e} <= 1e-9": difference <= 1e-9},
        notes=[
            f"{len(found['theirs'])} tables; pycocotools on the first {len(part.predictions)} "
            f"images, which scaled to {args.images} would be {scaled:.0f} s, "
            f"{scaled / whole.seconds:.0f} times ours (an estimate)",
            "peak MiB: beyond the ground truth and predictions, which both are given; of files: "
            "of the whole process",
        ],
    )
    if args.file_images:
        files.compare(result, args.file_images, args.runs)
    return result


def _row(way: str, world: World, measured: Measurement) -> dict[str, Any]:
    return {
        "way": way,
        "images": len(world.predictions),
        "detections": sum(len(image.scores) for image in world.predictions),
        "seconds": measured.seconds,
        "CPU seconds": None,
        "peak MiB": measured.peak_mib,
    }


def evaluate(world: World) -> dict[str, View]:
    """Ours, as the evaluator does it."""
    views: dict[str, View] = {}
    for task in TASKS:
        first = next(iter(truths(task, world.truth).values()))
        found = to_detections(task, world.predictions, first, TASKS[task].limits[-1])
        views |= score_views(task, world.truth, found)
    return views


class Reference:
    """pycocotools on the same data, once a table."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.results = {task: list(_results(task, world.predictions)) for task in TASKS}
        self.items = _annotations(world.truth)

    def tables(self) -> dict[str, FloatArray]:
        """AP, AP50 and AP75 by ``view`` and ``view/subset``."""
        tables: dict[str, FloatArray] = {}
        for task in TASKS:
            for view, truth in truths(task, self.world.truth).items():
                tables |= self._view(task, view, truth)
        return tables

    def _view(self, task: str, view: str, truth: GroundTruth) -> dict[str, FloatArray]:
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO()
            coco.dataset = {
                "images": _images(truth),
                "annotations": self._seen(task, view, truth),
                "categories": category_records(),
            }
            coco.createIndex()
            found = coco.loadRes([dict(entry) for entry in self.results[task]])
        tables = {view: _evaluate(coco, found, task)}
        assert truth.sources is not None
        for source in SOURCES:
            ids = truth.image_ids[truth.sources == source].tolist()
            tables[f"{view}/source-{source}"] = _evaluate(coco, found, task, ids)
        for name, names in LEVELS.items():
            for level, level_name in enumerate(names, 1):
                outside = set(truth.ids[truth.attributes[name] != level].tolist())
                stats = _evaluate(coco, found, task, outside=outside)
                tables[f"{view}/{name}-{level_name}"] = stats
        return tables

    def _seen(self, task: str, view: str, truth: GroundTruth) -> list[dict[str, Any]]:
        items = [dict(item) for item in self.items]
        for item, number in zip(items, truth.num_keypoints.tolist(), strict=True):
            item["num_keypoints"] = number
            if task != "keypoints":
                del item["keypoints"]
            elif view == "keypoints_visible":
                points = np.reshape(item["keypoints"], (-1, 3))
                item["keypoints"] = np.where(points[:, 2:] == 1, 0, points).ravel().tolist()
        return items


class _Evaluation(COCOeval):  # type: ignore[misc]
    """pycocotools' own, which ignores the items ``outside`` (ids) as well."""

    outside: Set[int] = frozenset()

    def _prepare(self) -> None:
        super()._prepare()
        for items in self._gts.values():
            for item in items:
                item["ignore"] = item["ignore"] or item["id"] in self.outside


def _evaluate(
    coco: COCO,
    found: COCO,
    task: str,
    image_ids: list[int] | None = None,
    outside: Set[int] = frozenset(),
) -> FloatArray:
    """AP, AP50 and AP75."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = _Evaluation(coco, found, task)
        evaluation.outside = outside
        evaluation.params.kpt_oks_sigmas = DEEPFASHION2.sigmas
        if image_ids is not None:
            evaluation.params.imgIds = image_ids
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats: FloatArray = evaluation.stats[:3]
    return stats


def _images(truth: GroundTruth) -> list[dict[str, Any]]:
    return [
        {"id": i, "height": size[0], "width": size[1]}
        for i, size in zip(truth.image_ids.tolist(), truth.image_sizes.tolist(), strict=True)
    ]


def _annotations(truth: GroundTruth) -> list[dict[str, Any]]:
    assert truth.masks is not None
    return [
        {
            "id": int(truth.ids[i]),
            "image_id": int(truth.image_ids[truth.image[i]]),
            "category_id": int(truth.category[i]) + 1,
            "bbox": truth.boxes[i].tolist(),
            "area": float(truth.areas[i]),
            "iscrowd": 0,
            "segmentation": {
                "size": truth.image_sizes[truth.image[i]].tolist(),
                "counts": truth.masks[i],
            },
            "keypoints": _dense(int(truth.category[i]) + 1, _own_landmarks(truth, i)),
        }
        for i in range(len(truth.ids))
    ]


def _own_landmarks(truth: GroundTruth, index: int) -> FloatArray:
    assert truth.landmarks is not None
    table = truth.landmarks.tables[int(truth.category[index]) + 1]
    points: FloatArray = table[truth.landmarks.rows[index]]
    return points


def _dense(category_id: int, points: Any) -> list[float]:
    dense = np.zeros((DEEPFASHION2.num_landmarks, 3))
    dense[DEEPFASHION2.category(category_id).slice] = points
    return dense.ravel().tolist()


def _results(task: str, predictions: list[ImagePredictions]) -> Iterator[dict[str, Any]]:
    """The official entries, with the digits that written files have."""
    make: dict[str, Callable[[ImagePredictions, int], dict[str, Any]]] = {
        "bbox": lambda p, i: {"bbox": np.round(p.boxes[i].astype(float), 3).tolist()},
        "segm": lambda p, i: {"segmentation": {"size": list(p.size), "counts": p.masks[i]}},  # type: ignore[index]
        "keypoints": lambda p, i: {
            "keypoints": _dense(int(p.category_ids[i]), np.round(p.landmarks[i].astype(float), 2))  # type: ignore[index]
        },
    }
    for image in predictions:
        number = len(image.scores) if task != "keypoints" else len(image.landmarks or [])
        for i in range(number):
            yield {
                "image_id": image.image_id,
                "category_id": int(image.category_ids[i]),
                "score": float(image.scores[i]),
                **make[task](image, i),
            }


def _difference(theirs: dict[str, FloatArray], ours: dict[str, View]) -> float:
    """The largest of any number of any table, infinity if the tables are not the same ones."""
    scores = {name: view.whole for name, view in ours.items()}
    for name, view in ours.items():
        scores |= {f"{name}/{subset}": part for subset, part in view.subsets.items()}
    found = {name: np.array(list(part.stats.values())[:3]) for name, part in scores.items()}
    # A subset without items is -1 for one and not there for the other.
    found = {name: stats for name, stats in found.items() if stats[0] > -1}
    expected = {name: stats for name, stats in theirs.items() if stats[0] > -1}
    if found.keys() != expected.keys():
        return float("inf")
    return max((float(np.abs(expected[k] - found[k]).max()) for k in found), default=0.0)
