"""Catalogues: the photos that a gallery is built of, from a folder or a COCO file."""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from match_rcnn.data.image_size import IMAGE_SUFFIXES
from match_rcnn.data.taxonomy import DEEPFASHION2, Taxonomy
from match_rcnn.structures import Garment
from match_rcnn.utils.json_stream import stream_arrays

#: What is kept of a COCO file as fields of the items, where the file has it.
_IMAGE_FIELDS = ("source", "pair_id")
_ANNOTATION_FIELDS = ("style", "pair_id")


@dataclass(frozen=True)
class Annotated:
    """A garment that the catalogue knows of. ``name`` is unique in its image."""

    name: str
    garment: Garment
    fields: dict[str, Any]


@dataclass(frozen=True)
class CatalogueImage:
    """A photo of a catalogue.

    Attributes:
        key: its path below the catalogue's folder, with slashes; stable and unique.
        size: (width, height) that its boxes are in, where the catalogue says so.
        garments: what the catalogue says is in it.
        fields: for every item found in it.
    """

    key: str
    path: Path
    size: tuple[int, int] | None = None
    garments: tuple[Annotated, ...] = ()
    fields: dict[str, Any] = field(default_factory=dict)


def read_catalogue(
    where: Path, image_root: Path | None = None, taxonomy: Taxonomy = DEEPFASHION2
) -> list[CatalogueImage]:
    """The photos of a catalogue, sorted.

    Args:
        where: a folder, whose sub-folders count too, or a COCO file.
        image_root: of a COCO file; None: the file's own folder, or, for
            ``ROOT/annotations/SPLIT.json``, ``ROOT/SPLIT/image`` where that exists.
        taxonomy: of the COCO file's categories.

    Raises:
        FileNotFoundError: nothing is there, or no photo is.
        ValueError: the file is no COCO file, or has a category that the taxonomy lacks.
    """
    if where.is_dir():
        return _folder(where)
    if not where.is_file():
        raise FileNotFoundError(f"no catalogue at {where}: expected a folder or a COCO file")
    return _CocoReader(where, taxonomy).images(image_root or default_image_root(where))


def default_image_root(where: Path) -> Path:
    """Where the photos of a catalogue are, see :func:`read_catalogue`."""
    if where.is_dir():
        return where
    beside = where.parent.parent / where.stem / "image"
    return beside if beside.is_dir() else where.parent


def _folder(where: Path) -> list[CatalogueImage]:
    paths = (p for p in where.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    images = [CatalogueImage(p.relative_to(where).as_posix(), p) for p in paths]
    if not images:
        raise FileNotFoundError(f"no images in {where} ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return sorted(images, key=lambda image: image.key)


class _CocoReader:
    """Keeps of a COCO file what a gallery needs; landmarks and outlines are passed over."""

    def __init__(self, file: Path, taxonomy: Taxonomy) -> None:
        self.file = file
        self._taxonomy = taxonomy
        self._records: dict[Any, dict[str, Any]] = {}
        self._garments: dict[Any, list[Annotated]] = defaultdict(list)
        categories: list[dict[str, Any]] = []
        take = {
            "images": self._image,
            "annotations": self._annotation,
            "categories": categories.append,
        }
        for key, elements in stream_arrays(file):
            for element in elements if key in take else ():
                take[str(key)](element)
        self._check(categories)

    def _image(self, record: dict[str, Any]) -> None:
        self._records[record["id"]] = record

    def _annotation(self, record: dict[str, Any]) -> None:
        x, y, w, h = (float(v) for v in record["bbox"])
        try:
            kind = self._taxonomy.category(record["category_id"])
        except ValueError as error:
            raise ValueError(f"{self.file}, annotation {record.get('id')}: {error}") from error
        box = np.array([x, y, x + w, y + h], np.float32)
        fields = {k: record[k] for k in _ANNOTATION_FIELDS if record.get(k) is not None}
        annotated = Annotated(str(record["id"]), Garment(kind, box), fields)
        self._garments[record["image_id"]].append(annotated)

    def _check(self, categories: list[dict[str, Any]]) -> None:
        if not self._records:
            raise ValueError(f"{self.file} is no COCO file, or lists no images")
        for record in categories:
            expected = self._taxonomy.category(record["id"])
            if record["name"] not in expected.names:
                raise ValueError(
                    f"{self.file} calls category {record['id']} {record['name']!r}; the model "
                    f"knows {self._taxonomy.name}'s categories, where it is {expected.name!r}"
                )

    def images(self, root: Path) -> list[CatalogueImage]:
        found: dict[str, CatalogueImage] = {}
        for number, record in self._records.items():
            key = Path(record["file_name"]).as_posix()
            if key in found:
                raise ValueError(f"{self.file} lists the image {key} twice")
            size = (
                (record["width"], record["height"])
                if {"width", "height"} <= record.keys()
                else None
            )
            fields = {k: record[k] for k in _IMAGE_FIELDS if record.get(k) is not None}
            garments = tuple(self._garments.pop(number, ()))
            found[key] = CatalogueImage(key, root / key, size, garments, fields)
        return [found[key] for key in sorted(found)]
