"""A generator of small ground-truth and result files, and plain pycocotools as the reference."""

import contextlib
import copy
import io
import json
from collections.abc import Callable, Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from match_rcnn.data import taxonomy
from match_rcnn.data.synthetic.templates import TEMPLATES

CATEGORY_IDS = (6, 7, 8)  # 15, 10 and 14 landmarks
SIZE = (300, 400)  # height, width


class Case:
    """Random ground truth and results in the official dense form, for one seed."""

    def __init__(self, seed: int, images: int = 6, crowds: float = 0.1) -> None:
        self.crowds = crowds  # share of ignore regions
        self.rng = np.random.default_rng(seed)
        self.image_ids = self.rng.choice(1000, size=images, replace=False) + 1
        self.annotations: list[dict[str, Any]] = []
        self.results: dict[str, list[dict[str, Any]]] = {"bbox": [], "segm": [], "keypoints": []}
        for image_id in self.image_ids.tolist():
            self._add_image(image_id)
        for results in self.results.values():
            self.rng.shuffle(results)

    @property
    def ground_truth(self) -> dict[str, Any]:
        categories = [
            {"id": c, "name": taxonomy.DEEPFASHION2.category(c).coco_name} for c in (8, 7, 6, 1)
        ]
        sizes = {"height": SIZE[0], "width": SIZE[1]}
        images = [{"id": int(i), "file_name": f"{i:06d}.jpg", **sizes} for i in self.image_ids]
        return {
            "info": {},
            "images": images,
            "annotations": self.annotations,
            "categories": categories,
        }

    def _add_image(self, image_id: int) -> None:
        for _ in range(self.rng.integers(0, 5)):
            category_id = int(self.rng.choice(CATEGORY_IDS))
            scale = self.rng.choice([0.3, 1.0, 3.0])
            box = self.rng.uniform([0, 0, 20, 20], [60, 45, 60, 45]) * scale
            self._add_item(image_id, category_id, np.round(box, 1))
            for _ in range(self.rng.integers(0, 5)):
                self._add_result(image_id, category_id, box)
        if self.rng.random() < 0.7:  # of a category that may have no item here
            self._add_result(image_id, int(self.rng.choice(CATEGORY_IDS)), np.array([5, 5, 40, 40]))

    def _add_item(self, image_id: int, category_id: int, box: Any) -> None:
        category = taxonomy.DEEPFASHION2.category(category_id)
        points = np.zeros((294, 3))
        if self.rng.random() < 0.8:
            inside = box[:2] + TEMPLATES[category.id].xy * box[2:]
            labels = self.rng.choice([0, 1, 2], size=(category.num_landmarks, 1))
            points[category.slice] = np.hstack([np.round(inside), labels]) * (labels > 0)
        x, y, w, h = box.tolist()
        polygons = [[x, y, x + w, y, x + w, y + h], [x, y, x, y + h, x + w, y + h / 2]]
        self.annotations.append(
            {
                "id": len(self.annotations) + 1,
                "image_id": image_id,
                "category_id": category_id,
                "bbox": box.tolist(),
                "area": w * h,
                "iscrowd": int(self.rng.random() < self.crowds),
                "segmentation": polygons,
                "keypoints": points.reshape(-1).tolist(),
                "num_keypoints": int((points[:, 2] > 0).sum()),
            }
        )

    def _add_result(self, image_id: int, category_id: int, box: Any) -> None:
        if self.rng.random() < 0.15:
            category_id = int(self.rng.choice(CATEGORY_IDS))
        # Few different scores and boxes: ties are common.
        head = {"image_id": image_id, "category_id": category_id}
        score = float(self.rng.choice([0.1, 0.3, 0.5, 0.7, 0.9]) + self.rng.choice([0, 0.01]))
        moved = np.abs(box + self.rng.choice([0, 0, 1, 3, 9]) * self.rng.uniform(-1, 1, 4))
        self.results["bbox"].append({**head, "bbox": moved.tolist(), "score": score})
        self.results["segm"].append({**head, "segmentation": rle(moved), "score": score})
        keypoints = self._keypoints(category_id, moved)
        self.results["keypoints"].append({**head, "keypoints": keypoints, "score": score})

    def _keypoints(self, category_id: int, box: Any) -> list[float]:
        category = taxonomy.DEEPFASHION2.category(category_id)
        points = np.zeros((294, 3))
        if self.rng.random() < 0.3:  # a model that fills all channels
            points[:] = self.rng.uniform(-20, 100, size=(294, 3))
        points[category.slice, :2] = box[:2] + TEMPLATES[category.id].xy * box[2:]
        points[category.slice, 2] = 1
        return points.reshape(-1).tolist()


def rle(box: Any) -> dict[str, Any]:
    mask = np.zeros(SIZE, dtype=np.uint8, order="F")
    x, y, w, h = np.round(box).astype(int)
    mask[y : y + h, x : x + w] = 1
    encoded = mask_utils.encode(mask)
    return {"size": list(SIZE), "counts": encoded["counts"].decode()}


class IgnoringEval(COCOeval):
    """COCOeval whose ground truth may say what is ignored: the original overwrites ``ignore``."""

    ignored: Collection[int] = ()

    def _prepare(self) -> None:
        super()._prepare()
        for items in self._gts.values():
            for item in items:
                item["ignore"] = item["ignore"] or item["id"] in self.ignored


def reference(
    ground_truth: dict[str, Any],
    results: list[dict[str, Any]],
    task: str,
    image_ids: list[int] | None = None,
    ignored: Collection[int] = (),
) -> Any:
    """COCOeval of pycocotools with the official sigmas: what the official evaluator is.

    Args:
        ignored: ids of annotations that get ``ignore``.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(ground_truth)
        coco.createIndex()
        evaluation = IgnoringEval(coco, coco.loadRes(copy.deepcopy(results)), task)
        evaluation.ignored = ignored
        evaluation.params.kpt_oks_sigmas = taxonomy.DEEPFASHION2.sigmas
        if image_ids is not None:
            evaluation.params.imgIds = image_ids
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def compact(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same annotations or results with the landmarks of their category only."""
    kept = copy.deepcopy(entries)
    for entry in kept:
        dense = np.reshape(entry["keypoints"], (294, 3))
        own = dense[taxonomy.DEEPFASHION2.category(entry["category_id"]).slice]
        entry["keypoints"] = own.reshape(-1).tolist()
    return kept


@pytest.fixture(scope="session")
def tools() -> SimpleNamespace:
    return SimpleNamespace(
        Case=Case,
        reference=reference,
        compact=compact,
        rle=rle,
        SIZE=SIZE,
    )


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, Any], Path]:
    def write(name: str, value: Any) -> Path:
        path = tmp_path / name
        path.write_text(json.dumps(value))
        return path

    return write
