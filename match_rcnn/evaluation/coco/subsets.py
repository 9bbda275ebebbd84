"""Parts of a data set that are scored on their own (the paper's Tables 3, 5 and 7).

The source of an image chooses images: the other images do not exist for the score.

The level of an item (scale, occlusion, zoom-in, viewpoint) chooses items, and an item outside the
subset is ignored, as COCO ignores an item outside an area range:

- An item of another level, or of none, is not to be found: no miss.
- A detection that takes it is neither a hit nor a false positive. A detection takes it only where
  no item inside the subset is left that is similar enough.
- Every other detection that takes nothing is a false positive in every subset. COCO's area ranges
  leave out those whose own area is outside the range; but a detection has no level.

The numbers are those of pycocotools with ``ignore`` set on the items outside. What follows from
the last rule: one false positive in the background, or one more detection of an item, counts
against all three levels of an attribute. So the levels of a data set can all have a lower AP than
the whole, which they share the false positives of.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from match_rcnn.data.taxonomy import DEEPFASHION2, Taxonomy
from match_rcnn.evaluation.coco.arrays import Detections, GroundTruth
from match_rcnn.evaluation.coco.files import read_detections, read_ground_truth
from match_rcnn.evaluation.coco.scoring import TASKS, Scorer, Scores
from match_rcnn.evaluation.coco.similarity import compute_similarities
from match_rcnn.utils.arrays import BoolArray

#: Names of the levels 1, 2 and 3 of each attribute.
LEVELS: dict[str, tuple[str, str, str]] = {
    "scale": ("small", "modest", "large"),
    "occlusion": ("slight", "medium", "heavy"),
    "zoom_in": ("none", "medium", "large"),
    "viewpoint": ("not_worn", "frontal", "side_or_back"),
}


@dataclass(frozen=True)
class Subset:
    """What is inside.

    Attributes:
        name: such as ``"source-user"`` or ``"occlusion-heavy"``.
        images: (I,) the images that count, ``None``: all.
        ignored: (G,) items outside the subset, ``None``: none.
    """

    name: str
    images: BoolArray | None = None
    ignored: BoolArray | None = None


def subsets(ground_truth: GroundTruth) -> list[Subset]:
    """All subsets that the ground truth tells apart and that are not empty."""
    found = []
    if ground_truth.sources is not None:
        for source in np.unique(ground_truth.sources[ground_truth.sources != ""]):
            found.append(Subset(f"source-{source}", images=ground_truth.sources == source))
    for attribute, names in LEVELS.items():
        levels = ground_truth.attributes[attribute]
        for level, name in enumerate(names, 1):
            if (levels == level).any():
                found.append(Subset(f"{attribute}-{name}", ignored=levels != level))
    return found


def score_subsets(scorer: Scorer) -> dict[str, Scores]:
    """AP, AP50 and AP75 of every subset, by name."""
    return {
        subset.name: scorer.score(subset.ignored, subset.images, brief=True)
        for subset in subsets(scorer.similarities.ground_truth)
    }


#: Names of what is measured, by task: landmarks with visible ones only, and with occluded ones.
VIEWS: dict[str, tuple[str, ...]] = {
    "bbox": ("bbox",),
    "segm": ("segm",),
    "keypoints": ("keypoints_visible", "keypoints"),
}


@dataclass(frozen=True)
class View:
    """Scores of one setting. Attributes: subsets: AP, AP50 and AP75 by the subset's name."""

    whole: Scores
    subsets: dict[str, Scores]

    def to_json(self) -> dict[str, Any]:
        """``stats`` is the list in pycocotools' order, ``stat_names`` says what they are."""
        subsets = {name: part.stats for name, part in self.subsets.items()}
        return {
            "task": self.whole.task.name,
            "stats": list(self.whole.stats.values()),
            "stat_names": list(self.whole.stats),
            "per_category": self.whole.per_category(),
            **({"subsets": subsets} if subsets else {}),
        }


def truths(task: str, truth: GroundTruth) -> dict[str, GroundTruth]:
    """The ground truth of each of the task's views. The first has the most items without labels,
    which ask for more of a landmark detection: read detections for that one."""
    seen = (truth.visible_only(), truth) if task == "keypoints" else (truth,)
    return dict(zip(VIEWS[task], seen, strict=True))


def score_views(
    task: str, truth: GroundTruth, found: Detections, by_subset: bool = True
) -> dict[str, View]:
    """Each view of the task; its similarities are computed once for all subsets.

    Args:
        found: read for the first of ``truths``.
    """
    scored = {}
    for name, seen in truths(task, truth).items():
        scorer = Scorer(compute_similarities(task, seen, found))
        scored[name] = View(scorer.score(), score_subsets(scorer) if by_subset else {})
    return scored


def evaluate_files(
    task: str,
    ground_truth: str | Path,
    results: str | Path,
    visible_only: bool = False,
    taxonomy: Taxonomy = DEEPFASHION2,
    by_subset: bool = False,
    workers: int = 1,
) -> View:
    """Score a result file in the official format (``tools/evaluate_results.py``).

    Args:
        ground_truth: COCO form, dense or compact.
        visible_only: occluded landmarks count as unlabelled.
        by_subset: score the subsets too.
        workers: processes that compare masks.

    Raises:
        FileNotFoundError, ValueError: what is wrong with which file, or ``visible_only`` without
            landmarks.
    """
    if visible_only and task != "keypoints":
        raise ValueError(f"visible_only is for the task 'keypoints', not {task!r}")
    truth = read_ground_truth(ground_truth, [task], taxonomy)
    if truth is None:
        raise ValueError(f"{ground_truth} has no list 'annotations': nothing to compare with")
    truth = truth.visible_only() if visible_only else truth
    found = read_detections(results, task, truth, TASKS[task].limits[-1])
    scorer = Scorer(compute_similarities(task, truth, found, workers))
    return View(scorer.score(), score_subsets(scorer) if by_subset else {})
