"""How sure a difference of two models' AP is: the paired bootstrap over images.

Images are drawn with replacement, as many as there are, and both models are scored on the same
draw; the spread of the difference over many draws says what other photos of the same kind could
have shown (Efron and Tibshirani, An Introduction to the Bootstrap, 1993). Matching does not change
with the draw, so it is done once.

Shapes: ``I`` images, ``G`` items, ``D`` detections, ``K`` categories, ``T`` thresholds.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from match_rcnn.evaluation.coco.arrays import Detections, GroundTruth
from match_rcnn.evaluation.coco.assignment import RECALLS, THRESHOLDS, Matcher
from match_rcnn.evaluation.coco.files import read_detections
from match_rcnn.evaluation.coco.scoring import TASKS, base_ignored
from match_rcnn.evaluation.coco.similarity import compute_similarities
from match_rcnn.utils.arrays import FloatArray


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


def draws_of(model: WeightedAP, images: int, draws: int = 1000, seed: int = 0) -> FloatArray:
    """(1 + draws, 2) AP and AP50: on the images as they are, then on each draw. The same seed gives
    every model the same draws.

    Args:
        images: I.
    """
    generator = np.random.default_rng(seed)
    chosen = (generator.integers(images, size=images) for _ in range(draws))
    weights = (np.bincount(one, minlength=images).astype(np.float64) for one in chosen)
    found = [model(weight) for weight in itertools.chain([np.ones(images)], weights)]
    return np.array([[one.mean(), one[0]] for one in found])


def compare(firsts: Sequence[FloatArray], seconds: Sequence[FloatArray]) -> dict[str, Difference]:
    """``AP`` and ``AP50`` of two models on the same images.

    Args:
        firsts, seconds: :func:`draws_of` each model's trainings (seeds), of which the mean counts.
    """
    drawn = np.mean(seconds, axis=0)[1:] - np.mean(firsts, axis=0)[1:]
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return {
        name: Difference(
            tuple(float(one[0, i]) for one in firsts),
            tuple(float(one[0, i]) for one in seconds),
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
    found = [draws_of_file(task, truth, file, draws) for file in (first, second)]
    return compare(found[:1], found[1:])


def draws_of_file(task: str, truth: GroundTruth, file: str | Path, draws: int = 1000) -> FloatArray:
    """:func:`draws_of` a result file."""
    found = read_detections(file, task, truth, TASKS[task].limits[-1])
    return draws_of(WeightedAP(task, truth, found), len(truth.image_ids), draws)
