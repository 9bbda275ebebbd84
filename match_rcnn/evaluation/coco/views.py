"""Everything that is scored of one task: whole and by subset, landmarks in both settings."""

from dataclasses import dataclass

from match_rcnn.evaluation.coco.records import Detections, GroundTruth
from match_rcnn.evaluation.coco.similarity import compute_similarities
from match_rcnn.evaluation.coco.subsets import score_subsets
from match_rcnn.evaluation.coco.tasks import Scorer, Scores

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
