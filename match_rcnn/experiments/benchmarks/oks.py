"""Landmark similarity (OKS) of detections and items at 294 landmarks: pycocotools against ours.

pycocotools' ``computeOks`` loops over the pairs of an image and category, with Python lists of 882
numbers; it gets the official sigmas. Ours compares all pairs of all images at once, the category's
landmarks only. Both have read the same dense files; reading is measured apart.
"""

import argparse
import contextlib
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from match_rcnn.data.coco import category_records
from match_rcnn.data.synthetic.templates import TEMPLATES
from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.evaluation.coco.arrays import Detections, GroundTruth
from match_rcnn.evaluation.coco.files import read_detections, read_ground_truth
from match_rcnn.evaluation.coco.scoring import TASKS
from match_rcnn.evaluation.coco.similarity import Similarities, compute_similarities
from match_rcnn.experiments.benchmarks.harness import Result, alternate
from match_rcnn.utils.arrays import FloatArray
from match_rcnn.utils.files import write_json

GOAL = 10.0
_TASK = "keypoints"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=int, default=600, metavar="N")
    parser.add_argument("--items", type=int, default=2, help="items an image")
    parser.add_argument("--detections", type=int, default=20, help="detections an item")
    parser.add_argument("--unlabelled", type=float, default=0.02, help="share of such items")
    parser.add_argument("--runs", type=int, default=3, help="timed runs; the median counts")


def run(args: argparse.Namespace) -> Result:
    with tempfile.TemporaryDirectory(prefix="benchmark-oks-") as folder:
        files = _write_files(Path(folder), args)
        theirs, ours = _read_theirs(*files), _read_ours(*files)
        ways: dict[str, Callable[[], Any]] = {
            "pycocotools computeOks": lambda: _loop(theirs),
            "ours": lambda: compute_similarities(_TASK, *ours),
            "reading, pycocotools": lambda: _read_theirs(*files),
            "reading, ours": lambda: _read_ours(*files),
        }
        measured = dict(zip(ways, alternate(list(ways.values()), args.runs), strict=True))
    values = compute_similarities(_TASK, *ours)
    difference = _difference(_loop(theirs), values)
    pairs = len(values.values)
    loop, fast, loading, streaming = (m.seconds for m in measured.values())
    return Result(
        "oks",
        [
            {"way": way, "pairs": pairs, "seconds": m.seconds, "peak MiB": m.peak_mib}
            for way, m in measured.items()
        ],
        ratios={"similarity": loop / fast, "reading": loading / streaming},
        goals={"similarity": GOAL},
        checks={f"largest difference {difference:.1e} <= 1e-12": difference <= 1e-12},
        notes=[f"{args.unlabelled:.0%} of the items have no labelled landmark (all 294 count)"],
    )


def _write_files(folder: Path, args: argparse.Namespace) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    annotations = _annotations(rng, args.images, args.items, args.unlabelled)
    results = [r for item in annotations for r in _results(rng, item, args.detections)]
    truth = {
        "images": [{"id": i + 1} for i in range(args.images)],
        "annotations": annotations,
        "categories": category_records(),
    }
    files = folder / "ground_truth.json", folder / "results.json"
    write_json(files[0], truth, indent=False)
    write_json(files[1], results, indent=False)
    return files


def _annotations(
    rng: np.random.Generator, images: int, items: int, unlabelled: float
) -> list[dict[str, Any]]:
    annotations = []
    for index in range(images * items):
        category = DEEPFASHION2.categories[rng.integers(DEEPFASHION2.num_categories)]
        box = rng.uniform([0, 0, 150, 200], [200, 150, 400, 450])
        labels = rng.choice([0, 1, 2], p=[0.2, 0.3, 0.5], size=category.num_landmarks)
        points = np.zeros((DEEPFASHION2.num_landmarks, 3))
        if rng.random() >= unlabelled:
            xy = np.rint(box[:2] + TEMPLATES[category.id].xy * box[2:])
            points[category.slice] = np.column_stack([xy, labels]) * (labels > 0)[:, None]
        annotations.append(
            {
                "id": index + 1,
                "image_id": index // items + 1,
                "category_id": category.id,
                "bbox": box.tolist(),
                "area": float(box[2] * box[3]),
                "iscrowd": 0,
                "num_keypoints": int((points[:, 2] > 0).sum()),
                "keypoints": points.reshape(-1),
            }
        )
    return annotations


def _results(rng: np.random.Generator, item: dict[str, Any], number: int) -> list[dict[str, Any]]:
    category = DEEPFASHION2.category(item["category_id"])
    box = np.array(item["bbox"])
    results = []
    for _ in range(number):
        points = np.zeros((DEEPFASHION2.num_landmarks, 3))
        moved = box + rng.normal(0, 8, 4)
        spread = rng.normal(0, 6, (category.num_landmarks, 2))
        points[category.slice, :2] = moved[:2] + TEMPLATES[category.id].xy * moved[2:] + spread
        points[category.slice, 2] = 1
        entry = {"image_id": item["image_id"], "category_id": category.id}
        entry |= {"score": float(rng.random()), "keypoints": points.reshape(-1)}
        results.append(entry)
    return results


def _read_theirs(ground_truth: Path, results: Path) -> COCOeval:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(ground_truth))
        evaluation = COCOeval(coco, coco.loadRes(str(results)), _TASK)
    evaluation.params.kpt_oks_sigmas = DEEPFASHION2.sigmas
    evaluation._prepare()
    return evaluation


def _read_ours(ground_truth: Path, results: Path) -> tuple[GroundTruth, Detections]:
    truth = read_ground_truth(ground_truth, [_TASK])
    assert truth is not None
    return truth, read_detections(results, _TASK, truth, TASKS[_TASK].limits[-1])


def _loop(evaluation: COCOeval) -> dict[tuple[int, int], FloatArray]:
    return {key: evaluation.computeOks(*key) for key in list(evaluation._gts)}


def _difference(expected: dict[tuple[int, int], FloatArray], ours: Similarities) -> float:
    """The largest difference of any pair; both list an image's pairs in the same order."""
    truth = ours.ground_truth
    groups = truth.groups[ours.item]
    difference, pairs = 0.0, 0
    for (image_id, category_id), values in expected.items():
        group = (category_id - 1) * len(truth.image_ids) + image_id - 1
        own = ours.values[np.searchsorted(groups, group) :][: values.size]
        pairs += values.size
        difference = max(difference, float(np.abs(own - values.reshape(-1)).max()))
    return difference if pairs == len(ours.values) else float("inf")
