"""The lengths of garments in photos: rows, a table, pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tabulate import tabulate

from match_rcnn.data.images import write_image
from match_rcnn.inference.bulk import BulkPredictor, Shot
from match_rcnn.inference.measures import (
    FILE,
    Known,
    draw_lengths,
    measure,
    read_rules,
    reference_scale,
)
from match_rcnn.inference.predict_files import picture_name
from match_rcnn.inference.predictor import MatchRCNNPredictor
from match_rcnn.inference.shots import common_folder, find_files, is_video, shots
from match_rcnn.structures import Garment
from match_rcnn.utils.arrays import Image
from match_rcnn.utils.files import write_json

RESULTS = "measures.json"


@dataclass
class Measured:
    """What was measured.

    Attributes:
        photos: a dict each: image, cm_per_pixel, garments with category, score, box, lengths.
        broken: photo and what is wrong with it.
    """

    photos: list[dict[str, Any]] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return vars(self)

    def __str__(self) -> str:
        rows = [
            [
                photo["image"],
                f"{garment['category']} {garment['score']:.0%}",
                *(length[key] for key in ("name", "pixels", "ratio", "cm")),
                f"unsure: {', '.join(length['unsure'])}" if length["unsure"] else "",
            ]
            for photo in self.photos
            for garment in photo["garments"]
            for length in garment["lengths"]
        ]
        headers = ("photo", "garment", "measure", "pixels", "ratio", "cm", "")
        parts = [tabulate(rows, headers, floatfmt=("", "", "", ".1f", ".2f", ".1f", ""))]
        parts += [f"no scale in {p['image']}" for p in self.photos if p["scale_missing"]]
        parts += [f"left out: {text}" for text in self.broken.values()]
        return "\n".join(parts)


def measure_files(
    predictor: MatchRCNNPredictor,
    paths: Sequence[Path],
    output: Path | None = None,
    *,
    known: str | None = None,
    reference: str | None = None,
    rules_file: Path = FILE,
    threshold: float = 0.05,
) -> Measured:
    """Measure the garments of photos.

    Args:
        paths: photos, folders, lists.
        output: for ``measures.json`` and the pictures; None writes nothing.
        known: a length in cm, see :class:`Known`; of each photo.
        reference: see :func:`reference_scale`; in each photo.

    Raises:
        ValueError, FileNotFoundError: arguments that cannot be.
    """
    if known and reference:
        raise ValueError("a known length and a reference are two scales; give one of them")
    length = Known.parse(known) if known else None
    scale = reference_scale(reference) if reference else None
    rules = read_rules(rules_file)
    files = [file for file in find_files(paths, without=output) if not is_video(file)]
    if not files:
        raise FileNotFoundError("there are only videos; photos can be measured")

    def finish(
        shot: Shot, _: tuple[int, int], photo: Image | None, garments: list[Garment]
    ) -> dict[str, Any]:
        of_photo = length.scale(garments, rules, threshold) if length else scale
        lengths = [measure(garment, rules, of_photo, threshold) for garment in garments]
        if output is not None and photo is not None:
            pairs = [(g.category, found) for g, found in zip(garments, lengths, strict=True)]
            write_image(output / "pictures" / picture_name(shot.name), draw_lengths(photo, pairs))
        return {
            "image": shot.name,
            "cm_per_pixel": of_photo,
            "scale_missing": length is not None and of_photo is None,
            "garments": [
                {
                    "category": garment.category.name,
                    "score": garment.score,
                    "box": garment.box.tolist(),
                    "lengths": [one.to_dict() for one in found],
                }
                for garment, found in zip(garments, lengths, strict=True)
            ],
        }

    result = Measured()
    bulk = BulkPredictor(predictor, finish, keep=output is not None)
    for shot, found in bulk(shots(files, common_folder(files))):
        if isinstance(found, Exception):
            result.broken[shot.name] = str(found)
        else:
            result.photos.append(found)
    if output is not None:
        write_json(output / RESULTS, result.to_json())
    return result
