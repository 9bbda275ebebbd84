"""Parts of a data set that are scored on their own (PAPER section 3).

The source of an image chooses images: the other images do not exist for the score. The level of
an item (scale, occlusion, zoom-in, viewpoint) chooses items: the others are ignored, as items
outside an area range are in COCO. A detection that takes an ignored item counts neither as true
nor as false; one that takes nothing is a false positive in every subset.
"""

from dataclasses import dataclass

import numpy as np

from match_rcnn.evaluation.records import BoolArray, GroundTruth

#: Names of the levels 1, 2 and 3 of each attribute.
LEVELS: dict[str, tuple[str, str, str]] = {
    "scale": ("small", "modest", "large"),
    "occlusion": ("slight", "medium", "heavy"),
    "zoom_in": ("none", "medium", "large"),
    "viewpoint": ("not_worn", "frontal", "side_or_back"),
}


@dataclass(frozen=True)
class Subset:
    """What ``coco_tasks.score`` takes.

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
