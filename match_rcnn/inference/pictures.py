"""From an image, a folder or a data set to a folder of pictures; the work of visualize.py."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from match_rcnn.d2 import DatasetCatalog
from match_rcnn.data.datasets import load_annotation_file, register_deepfashion2
from match_rcnn.data.images import IMAGE_SUFFIXES, read_image, write_image
from match_rcnn.data.taxonomy import Taxonomy, taxonomy_of
from match_rcnn.inference.drawing import draw_garments
from match_rcnn.inference.predictor import MatchRCNNPredictor
from match_rcnn.structures import Garment, garments_from_dataset_dict
from match_rcnn.utils.arrays import Image


class Source(NamedTuple):
    """A picture to draw.

    Attributes:
        path: of the image file.
        upright: how it is to be read (:mod:`match_rcnn.data.images`).
        find: from the image, (H, W, 3) uint8 in BGR, to its garments.
    """

    path: Path
    upright: bool
    find: Callable[[Image], Sequence[Garment]]


@dataclass
class DrawingReport:
    """What was drawn, and what could not be."""

    output: Path
    drawn: int = 0
    garments: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.drawn} pictures with {self.garments} garments in {self.output}"]
        if self.problems:
            lines.append(f"{len(self.problems)} images left out:")
            lines += [f"  {problem}" for problem in self.problems]
        return "\n".join(lines)


def prediction_source(
    where: str, limit: int | None = None, *, predictor: MatchRCNNPredictor
) -> list[Source]:
    """What the predictor finds in an image, in the images of a folder, or in a data set.

    A data set's images are read as evaluations read them, stored; any others upright.
    """
    files = [Path(item["file_name"]) for item in _dataset(where)]
    upright = not files
    files = files or _image_files(Path(where))
    return [Source(path, upright, predictor) for path in _spread(files, limit)]


def ground_truth_source(where: str, limit: int | None = None) -> list[Source]:
    """The annotations of a registered data set, or of DeepFashion2 images on disk.

    For an image file or folder the annotation files are looked for where DeepFashion2 has
    them: ``SPLIT/annos/000001.json`` for ``SPLIT/image/000001.jpg``.
    """
    items = _dataset(where)
    if items:
        taxonomy = taxonomy_of(where)
        return [
            Source(Path(item["file_name"]), False, partial(_of_item, item, taxonomy))
            for item in _spread(items, limit)
        ]
    files = _spread(_image_files(Path(where)), limit)
    return [Source(path, False, partial(_annotated, path)) for path in files]


def _of_item(item: dict[str, Any], taxonomy: Taxonomy, _: Image) -> list[Garment]:
    return garments_from_dataset_dict(item, taxonomy)


def _annotated(image: Path, _: Image) -> list[Garment]:
    annotation = image.parent.parent / "annos" / f"{image.stem}.json"
    if not annotation.is_file():
        raise FileNotFoundError(f"{image} has no annotation file {annotation}")
    return garments_from_dataset_dict(load_annotation_file(annotation, image))


def _dataset(name: str) -> list[dict[str, Any]]:
    register_deepfashion2()
    return DatasetCatalog.get(name) if name in DatasetCatalog.list() else []


def _image_files(where: Path) -> list[Path]:
    if where.is_file():
        return [where]
    if where.is_dir():
        found = sorted(p for p in where.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if found:
            return found
        raise FileNotFoundError(f"no images in {where} ({', '.join(sorted(IMAGE_SUFFIXES))})")
    raise FileNotFoundError(
        f"{where} is no image, folder or data set; the data sets are "
        f"{', '.join(n for n in DatasetCatalog.list() if n.startswith('deepfashion2'))}"
    )


def _spread(items: Sequence[Any], limit: int | None) -> Sequence[Any]:
    if limit is None or limit >= len(items):
        return items
    return [items[i * len(items) // limit] for i in range(limit)]


def draw_sources(sources: Sequence[Source], output: Path) -> DrawingReport:
    """Write one picture a source into ``output``; unreadable images are listed in the report.

    Raises:
        ValueError: a picture would take the place of an image.
    """
    report = DrawingReport(output)
    targets = _targets([source.path for source in sources], output)
    for (path, upright, find), target in tqdm(
        zip(sources, targets, strict=True),
        desc="drawing",
        unit="image",
        total=len(sources),
        disable=len(sources) < 2,
    ):
        try:
            image = read_image(path, upright=upright)
            garments = find(image)
        except (ValueError, FileNotFoundError) as error:
            report.problems.append(str(error))
            continue
        write_image(target, draw_garments(image, garments))
        report.drawn += 1
        report.garments += len(garments)
    return report


def _targets(images: Sequence[Path], output: Path) -> list[Path]:
    """A file of its own for each image: below ``output`` as it lies below the folder that all
    share, ``x.jpg`` for ``x.png``; ``x.png.jpg`` where another image would have that name too."""
    whole = [image.absolute() for image in images]
    root = os.path.commonpath([image.parent for image in whole]) if whole else ""
    below = [image.relative_to(root) for image in whole]
    wanted = Counter(_key(image.with_suffix(".jpg")) for image in below)
    taken: set[str] = set()
    targets = []
    for image in below:
        plain = image.with_suffix(".jpg")
        names = [plain.name] if wanted[_key(plain)] == 1 else []
        names += [f"{image.name}{mark}.jpg" for mark in ("", *(f"-{i}" for i in range(2, 999)))]
        target = next(t for t in map(image.with_name, names) if _key(t) not in taken)
        taken.add(_key(target))
        targets.append(output / target)
    overwritten = {_key(image.resolve()) for image in whole} & {_key(t.resolve()) for t in targets}
    if overwritten:
        raise ValueError(
            f"the pictures would overwrite {len(overwritten)} of the images, {min(overwritten)} "
            "among them: choose another --output"
        )
    return targets


def _key(path: Path) -> str:
    """Equal for names that some file systems take for one."""
    return str(path).casefold()
