"""How sure a difference of two models' AP is: the paired bootstrap over images.

Images are drawn with replacement, as many as there are, and both models are scored on the same
draw; the spread of the difference over many draws says what other photos of the same kind could
have shown (Efron and Tibshirani, An Introduction to the Bootstrap, 1993). Matching does not change
with the draw, so it is done once.

Shapes: ``I`` images, ``G`` items, ``D`` detections, ``K`` categories, ``T`` thresholds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from match_rcnn.evaluation.coco.arrays import Detections, GroundTruth
from match_rcnn.evaluation.coco.assignment import RECALLS, THRESHOLDS, Matcher
from match_rcnn.evaluation.coco.files import read_detections
from match_rcnn.evaluation.coco.scoring import TASKS, base_ignored
from match_rcnn.evaluation.coco.similarity import compute_similarities
from match_rcnn.utils.arrays import FloatArray, IntArray


class WeightedAP:
    """AP of a model for any weights of the images.

    Args:
        task: ``bbox``, ``segm`` or ``keypoints``, which ``detections`` must be of.
    """

    def __init__(self, task: str, truth: GroundTruth, detections: Detections) -> None:
        matcher = Matcher(compute_similarities(task, truth, detections))
        ignored = base_ignored(task, truth)
        matches = matcher.match(ignored)
        hit = (matches >= 0) & (np.append(truth.ids, 0)[matches] != 0)
        counts = ~ignored[matches] | (matches < 0)
        self._true = np.zeros((len(THRESHOLDS), len(matcher.order)), dtype=bool)
        self._false = np.ones_like(self._true)
        self._true[:, matcher.places] = hit & counts
        self._false[:, matcher.places] = ~hit & counts
        self._image = detections.image[matcher.order]
        self._starts = matcher.starts
        self._items = np.stack([truth.image[~ignored], truth.category[~ignored]])

    def __call__(self, weights: FloatArray) -> FloatArray:
        """(T,) the mean over the categories that have items, from 0 to 1.

        Args:
            weights: (I,) how often each image counts.
        """
        number = len(self._starts) - 1
        positives = np.bincount(self._items[1], weights[self._items[0]], minlength=number)
        parts = [
            self._category(slice(self._starts[k], self._starts[k + 1]), weights, positives[k])
            for k in np.flatnonzero(positives)
        ]
        return np.mean(parts, axis=0) if parts else np.full(len(THRESHOLDS), np.nan)

    def _category(self, part: slice, weights: FloatArray, positives: float) -> FloatArray:
        weight = weights[self._image[part]]
        true = np.cumsum(self._true[:, part] * weight, axis=1)
        false = np.cumsum(self._false[:, part] * weight, axis=1)
        precision = true / np.maximum(true + false, 1e-12)
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        found = np.zeros(len(THRESHOLDS))
        for t in range(len(THRESHOLDS)):
            place = np.searchsorted(true[t] / positives, RECALLS, side="left")
            inside = place < true.shape[1]
            found[t] = envelope[t, place[inside]].sum() / len(RECALLS)
        return found


@dataclass(frozen=True)
class Difference:
    """Of two models, second minus first, in the unit of AP (0 to 1).

    Attributes:
        firsts, seconds: on the images as they are; of each training, where there are several.
        low, high: of the 95 % interval of the (mean) difference.
        not_better: the share of draws in which the second is not better.
    """

    firsts: tuple[float, ...]
    seconds: tuple[float, ...]
    low: float
    high: float
    not_better: float

    @property
    def value(self) -> float:
        """The mean difference."""
        return fmean(self.seconds) - fmean(self.firsts)


def compare(
    firsts: Sequence[WeightedAP],
    seconds: Sequence[WeightedAP],
    images: int,
    *,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Difference]:
    """``AP`` and ``AP50`` of two models on the same images.

    Args:
        firsts, seconds: each model's trainings (seeds), of which the mean counts.
        images: I.
    """
    whole = np.ones(images)
    plain = [np.array([_two(model(whole)) for model in models]) for models in (firsts, seconds)]
    drawn = np.array(
        [
            np.mean([_two(model(weights)) for model in seconds], axis=0)
            - np.mean([_two(model(weights)) for model in firsts], axis=0)
            for weights in _draws(images, draws, seed)
        ]
    )
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return {
        name: Difference(
            tuple(plain[0][:, i].tolist()),
            tuple(plain[1][:, i].tolist()),
            float(low[i]),
            float(high[i]),
            float((drawn[:, i] <= 0).mean()),
        )
        for i, name in enumerate(("AP", "AP50"))
    }


def compare_files(
    task: str, truth: GroundTruth, first: str | Path, second: str | Path, draws: int = 1000
) -> dict[str, Difference]:
    """The same of two result files in the official format.

    Raises:
        FileNotFoundError, ValueError: what is wrong with which file.
    """
    limit = TASKS[task].limits[-1]
    models = [
        WeightedAP(task, truth, read_detections(file, task, truth, limit))
        for file in (first, second)
    ]
    return compare(models[:1], models[1:], len(truth.image_ids), draws=draws)


def _two(by_threshold: FloatArray) -> FloatArray:
    return np.array([by_threshold.mean(), by_threshold[0]])


def _draws(images: int, draws: int, seed: int) -> Iterator[FloatArray]:
    generator = np.random.default_rng(seed)
    for _ in range(draws):
        chosen: IntArray = generator.integers(images, size=images)
        yield np.bincount(chosen, minlength=images).astype(np.float64)
