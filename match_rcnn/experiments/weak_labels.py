"""Boxes for photos of which only a word is known: what a detector finds, under the known category.

A detector that has seen street photos finds a garment on a bed or a hanger, and names it badly. So
its most confident box is taken, whatever category it says, and gets a category that the photo's
word allows; where the word allows several, the one of them that the detector favours. Photos in
which it is not sure of a box, or of which allowed category, are left out and counted.
"""

import csv
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torchvision.ops import box_iou
from tqdm import tqdm

from match_rcnn.d2 import Instances
from match_rcnn.data.images import UnreadableImageError
from match_rcnn.data.taxonomy import Taxonomy
from match_rcnn.inference.predictor import MatchRCNNPredictor
from match_rcnn.utils.files import write_json

#: The words of alexeygrigorev/clothing-dataset, and what they are in DeepFashion2. Hats, shoes,
#: undergarments and what its makers were not sure of have no category.
CLOTHING_DATASET: Mapping[str, tuple[str, ...]] = {
    "T-Shirt": ("short sleeve top",),
    "Polo": ("short sleeve top",),
    "Longsleeve": ("long sleeve top",),
    "Shirt": ("short sleeve top", "long sleeve top"),
    "Blouse": ("short sleeve top", "long sleeve top"),
    "Hoodie": ("long sleeve top", "long sleeve outwear"),
    "Outwear": ("long sleeve outwear",),
    "Blazer": ("long sleeve outwear",),
    "Undershirt": ("vest", "sling"),
    "Pants": ("trousers",),
    "Shorts": ("shorts",),
    "Skirt": ("skirt",),
    "Dress": ("short sleeve dress", "long sleeve dress", "vest dress", "sling dress"),
}


@dataclass(frozen=True)
class Choice:
    """Of which detections a label is made.

    Attributes:
        score: of the most confident box, at least.
        share: of the photo that it covers, at least.
        overlap: IoU from which on another detection speaks of the same garment.
        allowed_score: of an allowed category on that box, at least, where the word leaves several.
    """

    score: float = 0.3
    share: float = 0.08
    overlap: float = 0.6
    allowed_score: float = 0.02


@dataclass
class LabelReport:
    """What became of the photos, counted by reason; ``labelled`` by category."""

    labelled: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """In one line."""
        reasons = ", ".join(f"{number} {why}" for why, number in self.left_out.most_common())
        return f"{self.labelled.total()} photos labelled; left out: {reasons or 'none'}" + (
            f"; unreadable: {len(self.unreadable)}" if self.unreadable else ""
        )


def read_words(root: Path) -> Iterator[tuple[Path, str]]:
    """Photos of a clone of alexeygrigorev/clothing-dataset, grown-ups' clothes, with their words.

    Raises:
        FileNotFoundError, ValueError: it is no such clone.
    """
    file = root / "images.csv"
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there; name a clone of clothing-dataset")
    with open(file, encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        missing = {"image", "label", "kids"} - set(reader.fieldnames or ())
        if missing:
            raise ValueError(f"{file} has no columns {', '.join(sorted(missing))}")
        for row in reader:
            if row["kids"] == "False":
                yield root / "images" / f"{row['image']}.jpg", row["label"]


def label_photos(
    predictor: MatchRCNNPredictor,
    root: Path,
    output: Path,
    words: Mapping[str, tuple[str, ...]] = CLOTHING_DATASET,
    choice: Choice | None = None,
    most: int | None = None,
) -> LabelReport:
    """Write a COCO file with one box a photo, whole or not at all.

    Args:
        predictor: whose boxes are taken; all that it has must reach this function (threshold 0,
            ``TEST.AGNOSTIC_NMS_THRESH`` 1).
        most: photos of a word, the first ones; None: all. Common words outnumber the others else.
    """
    choice = choice or Choice()
    report = LabelReport()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for path, word in tqdm(_chosen(read_words(root), words, most, report), unit="photo"):
        try:
            photo = predictor.read(path)
        except (UnreadableImageError, FileNotFoundError) as error:
            report.unreadable.append(str(error))
            continue
        found = predictor.instances(photo)
        chosen = choose(found, words[word], predictor.taxonomy, choice)
        if isinstance(chosen, str):
            report.left_out[chosen] += 1
            continue
        category, box = predictor.taxonomy.categories[chosen[0]], chosen[1]
        number, (height, width) = len(images) + 1, photo.shape[:2]
        images.append({"id": number, "file_name": path.name, "width": width, "height": height})
        annotations.append({"id": number, "image_id": number, **_item(category.id, box)})
        report.labelled[category.name] += 1
    write_json(output, {"images": images, "annotations": annotations})
    return report


def _chosen(
    photos: Iterator[tuple[Path, str]],
    words: Mapping[str, tuple[str, ...]],
    most: int | None,
    report: LabelReport,
) -> list[tuple[Path, str]]:
    """Photos with known words, of each the first ones; the others are counted."""
    kept, seen = [], Counter[str]()
    for path, word in photos:
        seen[word] += 1
        if word not in words:
            report.left_out["of another kind"] += 1
        elif most is not None and seen[word] > most:
            report.left_out["beyond the most of a word"] += 1
        else:
            kept.append((path, word))
    return kept


def _item(category_id: int, box: list[float]) -> dict[str, Any]:
    x1, y1, x2, y2 = box
    sides = [round(value, 1) for value in (x1, y1, x2 - x1, y2 - y1)]
    area = round((x2 - x1) * (y2 - y1), 1)
    return {"category_id": category_id, "bbox": sides, "area": area, "iscrowd": 0}


def choose(
    found: Instances, allowed: tuple[str, ...], taxonomy: Taxonomy, choice: Choice
) -> tuple[int, list[float]] | str:
    """A class index and a box x1, y1, x2, y2; or why there is none.

    Args:
        found: detections of a photo, most confident first.
        allowed: names of categories.
    """
    height, width = found.image_size
    boxes = found.pred_boxes.tensor
    large = found.pred_boxes.area() >= choice.share * height * width
    best = large.nonzero()[:1, 0]
    if len(best) == 0 or float(found.scores[best]) < choice.score:
        return "without a sure box"
    indices = [i for i, c in enumerate(taxonomy.categories) if c.name in allowed]
    box = boxes[best]
    if len(indices) > 1:
        same = box_iou(box, boxes)[0] >= choice.overlap
        fits = torch.isin(found.pred_classes, torch.tensor(indices))
        candidates = (same & fits & (found.scores >= choice.allowed_score)).nonzero()[:1, 0]
        if len(candidates) == 0:
            return "of an unsure category"
        return int(found.pred_classes[candidates]), box[0].tolist()
    return indices[0], box[0].tolist()
