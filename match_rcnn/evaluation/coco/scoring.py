"""Box, mask and landmark AP: COCO's numbers with DeepFashion2's landmarks and sigmas.

Shapes: ``T`` similarity thresholds, ``R`` recall points, ``K`` categories, ``A`` area ranges, ``M``
limits of detections; as ``COCOeval.eval`` of pycocotools has them, whose numbers these are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from match_rcnn.evaluation.coco.arrays import Detections, GroundTruth
from match_rcnn.evaluation.coco.assignment import THRESHOLDS, Curves, Matcher
from match_rcnn.evaluation.coco.similarity import Similarities, compute_similarities
from match_rcnn.utils.arrays import BoolArray, FloatArray

_RANGES = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}


@dataclass(frozen=True)
class Stat:
    """One of COCO's numbers: a mean of precision or recall over what is not fixed here."""

    name: str
    recall: bool = False
    threshold: float | None = None
    area: str = "all"
    limit: int = -1


@dataclass(frozen=True)
class Task:
    """What is measured, and how.

    Attributes:
        limits: detections an image and category that count; the last one is the task's own.
        areas: names of the area ranges.
        stats: in pycocotools' order.
    """

    name: str
    limits: tuple[int, ...]
    areas: tuple[str, ...]
    stats: tuple[Stat, ...]


_PRECISION = (Stat("AP"), Stat("AP50", threshold=0.5), Stat("AP75", threshold=0.75))
_SIZES = {"s": "small", "m": "medium", "l": "large"}
_BOX_STATS = (
    *_PRECISION,
    *(Stat(f"AP{letter}", area=area) for letter, area in _SIZES.items()),
    *(Stat(f"AR{limit}", recall=True, limit=i) for i, limit in enumerate((1, 10, 100))),
    *(Stat(f"AR{letter}", recall=True, area=area) for letter, area in _SIZES.items()),
)
_LANDMARK_STATS = (
    *_PRECISION,
    Stat("APm", area="medium"),
    Stat("APl", area="large"),
    Stat("AR", recall=True),
    Stat("AR50", recall=True, threshold=0.5),
    Stat("AR75", recall=True, threshold=0.75),
    Stat("ARm", recall=True, area="medium"),
    Stat("ARl", recall=True, area="large"),
)
TASKS: dict[str, Task] = {
    "bbox": Task("bbox", (1, 10, 100), tuple(_RANGES), _BOX_STATS),
    "segm": Task("segm", (1, 10, 100), tuple(_RANGES), _BOX_STATS),
    "keypoints": Task("keypoints", (20,), ("all", "medium", "large"), _LANDMARK_STATS),
}


@dataclass(frozen=True)
class Scores:
    """Precision and recall, and COCO's numbers from them.

    Attributes:
        precision: (T, R, K, A, M); recall: (T, K, A, M). -1: the category has no item that counts.
    """

    task: Task
    category_names: tuple[str, ...]
    precision: FloatArray = field(repr=False)
    recall: FloatArray = field(repr=False)

    @property
    def stats(self) -> dict[str, float]:
        """COCO's 12 or 10 numbers in pycocotools' order, from 0 to 1; -1 where nothing counts."""
        return {stat.name: self._mean(stat) for stat in self.task.stats}

    def per_category(self) -> dict[str, dict[str, float]]:
        """AP, AP50 and AP75 of each category, -1 where it has no item."""
        return {
            name: {stat.name: self._mean(stat, k) for stat in _PRECISION}
            for k, name in enumerate(self.category_names)
        }

    def _mean(self, stat: Stat, category: int | None = None) -> float:
        values = self.recall if stat.recall else self.precision
        if stat.threshold is not None:
            values = values[np.isclose(THRESHOLDS, stat.threshold)]
        values = values[..., self.task.areas.index(stat.area), stat.limit]
        if category is not None:
            values = values[..., category]
        values = values[values > -1]
        return float(values.mean()) if values.size else -1.0


def evaluate(task: str, ground_truth: GroundTruth, detections: Detections) -> Scores:
    """Args: task: ``bbox``, ``segm`` or ``keypoints``, which ``detections`` must be of."""
    return Scorer(compute_similarities(task, ground_truth, detections)).score()


def base_ignored(task: str, truth: GroundTruth) -> BoolArray:
    """(G,) the items that a task counts neither as hit nor as miss."""
    if task == "keypoints":
        return truth.crowd | (truth.num_keypoints == 0)
    if task == "segm" and truth.unmasked is not None:
        return truth.crowd | truth.unmasked
    return truth.crowd


class Scorer:
    """Scores of everything and of any subset; similarities, and all that does not depend on the
    subset, are computed once."""

    def __init__(self, similarities: Similarities) -> None:
        self.similarities = similarities
        self.matcher = Matcher(similarities)

    def score(
        self,
        ignored: BoolArray | None = None,
        images: BoolArray | None = None,
        brief: bool = False,
    ) -> Scores:
        """
        Args:
            ignored: (G,) more items that count neither as hit nor as miss, and whose detections
                count neither as true nor as false; as items outside an area range.
            images: (I,) only these images count, all if ``None``.
            brief: AP, AP50 and AP75 only, without area ranges and recall.
        """
        task, truth = TASKS[self.similarities.task], self.similarities.ground_truth
        if brief:
            task = replace(task, limits=task.limits[-1:], areas=("all",), stats=_PRECISION)
        base = base_ignored(task.name, truth)
        base = base if ignored is None else base | ignored
        parts = [self._range(area, task.limits, base, images) for area in task.areas]
        precision = np.stack([part.precision for part in parts], axis=3)
        recall = np.stack([part.recall for part in parts], axis=2)
        every = list(range(len(truth.category_ids)))
        kept = truth.with_landmarks() if task.name == "keypoints" else every
        names = tuple(truth.category_names[k] for k in kept)
        return Scores(task, names, precision[:, :, kept], recall[:, kept])

    def _range(
        self,
        area: str,
        limits: Sequence[int],
        ignored: BoolArray,
        images: BoolArray | None,
    ) -> Curves:
        truth, found = self.similarities.ground_truth, self.similarities.detections
        low, high = _RANGES[area]
        ignored = ignored | (truth.areas < low) | (truth.areas > high)
        outside = (found.areas < low) | (found.areas > high)
        return self.matcher.curves(ignored, outside, limits, images)
