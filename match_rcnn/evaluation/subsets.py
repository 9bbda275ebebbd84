"""Parts of a data set that are scored on their own (PAPER section 3; Tables 3, 5 and 7).

The source of an image chooses images: the other images do not exist for the score.

The level of an item (scale, occlusion, zoom-in, viewpoint) chooses items, and what is outside is
treated as COCO treats what is outside an area range:

- An item of another level, or of none, is ignored: not to be found, and a detection that takes it
  counts neither as true nor as false. A detection takes it only if no item inside is left.
- A detection that takes nothing is a false positive, unless it is outside itself. COCO knows that
  from the detection's own area; a detection has no level, so it has that of the item (of its image
  and category) which it overlaps most, from a similarity of 0.1 on. So a second detection of an
  outside item, or a badly placed one that is not similar enough at the threshold, does not count
  against the subset, as a second detection of a large object does not count against small ones.
- A detection on no item of its category is outside nothing: a false positive in every subset.

Every false positive of the whole is one of exactly one level of each attribute, but for those of
the last kind, which are one in each.
"""

from dataclasses import dataclass

import numpy as np

from match_rcnn.data.taxonomy import IntArray
from match_rcnn.evaluation.coco_tasks import Scorer, Scores
from match_rcnn.evaluation.records import BoolArray, GroundTruth
from match_rcnn.evaluation.similarity import Similarities

#: Names of the levels 1, 2 and 3 of each attribute.
LEVELS: dict[str, tuple[str, str, str]] = {
    "scale": ("small", "modest", "large"),
    "occlusion": ("slight", "medium", "heavy"),
    "zoom_in": ("none", "medium", "large"),
    "viewpoint": ("not_worn", "frontal", "side_or_back"),
}
#: Less similar than this, a detection is about the background (as in TIDE, arXiv 2008.08115).
ABOUT = 0.1


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
    about = most_overlapped(scorer.similarities)
    scores = {}
    for subset in subsets(scorer.similarities.ground_truth):
        outside = None if subset.ignored is None else np.append(subset.ignored, False)[about]
        scores[subset.name] = scorer.score(subset.ignored, subset.images, outside, brief=True)
    return scores


def most_overlapped(similarities: Similarities) -> IntArray:
    """(D,) the item which each detection overlaps most (of equals the last), -1 where it overlaps
    none by ``ABOUT``."""
    item = np.full(len(similarities.detections.scores), -1, dtype=np.int64)
    pairs = np.flatnonzero(similarities.values >= ABOUT)
    # The last one written stays.
    pairs = pairs[np.argsort(similarities.values[pairs], kind="stable")]
    item[similarities.detection[pairs]] = similarities.item[pairs]
    return item
