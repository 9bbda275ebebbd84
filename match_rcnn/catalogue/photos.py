"""Catalogues: the photos that a gallery is built of, from a folder, a COCO file, or a registered
data set of one garment an image."""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from match_rcnn.catalogue.remote import files_below, is_address, joined
from match_rcnn.d2 import DatasetCatalog, MetadataCatalog, PathManager
from match_rcnn.data.coco import CocoFile, read_coco
from match_rcnn.data.datasets import register_data_sets
from match_rcnn.data.given_boxes import is_given
from match_rcnn.data.image_size import IMAGE_SUFFIXES
from match_rcnn.data.taxonomy import DEEPFASHION2, Category, Taxonomy
from match_rcnn.structures import Garment

#: What is kept of a COCO file's annotations as fields of the items, where the file has it.
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
    path: str | Path
    size: tuple[int, int] | None = None
    garments: tuple[Annotated, ...] = ()
    fields: dict[str, Any] = field(default_factory=dict)


def read_catalogue(
    where: str | Path, image_root: str | Path | None = None, taxonomy: Taxonomy = DEEPFASHION2
) -> list[CatalogueImage]:
    """The photos of a catalogue, sorted.

    Args:
        where: a folder, whose sub-folders count too, or a COCO file; or the address of one, such as
            ``s3://shop/photos`` or ``s3://shop/photos.json``; or the name of a data set, such as
            ``deepfashion_inshop_gallery``.
        image_root: of a COCO file; None: the file's own folder, or, for
            ``ROOT/annotations/SPLIT.json``, ``ROOT/SPLIT/image`` where that exists.
        taxonomy: of the COCO file's categories.

    Raises:
        FileNotFoundError: nothing is there, or no photo is.
        ValueError: the file is no COCO file, or has a category that the taxonomy lacks.
    """
    if is_folder(where):
        return _folder(where)
    if is_data_set(where):
        return _recorded(str(where), taxonomy)
    file = Path(PathManager.get_local_path(str(where)))
    if not file.is_file():
        raise FileNotFoundError(f"no catalogue at {where}: expected a folder or a COCO file")
    return _listed(file, image_root or default_image_root(where), taxonomy)


def is_folder(where: str | Path) -> bool:
    """Whether it is a catalogue's folder; an address is, unless it is a JSON file's."""
    return not str(where).endswith(".json") if is_address(where) else Path(where).is_dir()


def is_data_set(where: str | Path) -> bool:
    """Whether it is no file and the name of a registered data set of one garment an image."""
    if is_address(where) or Path(where).exists():
        return False
    register_data_sets([])
    return str(where) in DatasetCatalog.list() and is_given(str(where))


def default_image_root(where: str | Path) -> str | Path:
    """Where the photos of a catalogue are, see :func:`read_catalogue`."""
    if is_address(where):
        return where if is_folder(where) else str(where).rpartition("/")[0]
    if is_data_set(where):
        return Path(MetadataCatalog.get(str(where)).root)
    where = Path(where)
    if where.is_dir():
        return where
    beside = where.parent.parent / where.stem / "image"
    return beside if beside.is_dir() else where.parent


def _folder(where: str | Path) -> list[CatalogueImage]:
    found: dict[str, Any] = {}
    if is_address(where):
        found = {**files_below(str(where))}
    else:
        found = {p.relative_to(where).as_posix(): p for p in Path(where).rglob("*") if p.is_file()}
    photos = (key for key in found if Path(key).suffix.lower() in IMAGE_SUFFIXES)
    images = [CatalogueImage(key, found[key]) for key in photos]
    if not images:
        raise FileNotFoundError(f"no images in {where} ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return sorted(images, key=lambda image: image.key)


def _recorded(name: str, taxonomy: Taxonomy) -> list[CatalogueImage]:
    """The images of a data set; what it calls a garment's category is a field as well."""
    records, root = DatasetCatalog.get(name), MetadataCatalog.get(name).root
    classes = MetadataCatalog.get(name).thing_classes
    images = []
    for record in records:
        key = Path(record["file_name"]).relative_to(root).as_posix()
        (annotation,) = record["annotations"]
        box = np.array(annotation["bbox"], np.float32)
        stated = {k: record[k] for k in ("item", "domain", "description") if k in record}
        if "category_id" in annotation:
            stated["category_name"] = classes[annotation["category_id"]]
        garment = Garment(_category(stated.get("category_name"), taxonomy, name), box)
        size = (record["width"], record["height"])
        known = (Annotated("0", garment, {}),)
        images.append(CatalogueImage(key, record["file_name"], size, known, stated))
    return sorted(images, key=lambda image: image.key)


def _category(name: str | None, taxonomy: Taxonomy, dataset: str) -> Category:
    """Of a model that knows but one kind, that one."""
    if taxonomy.num_categories == 1:
        return taxonomy.categories[0]
    try:
        return taxonomy.named(name or "")
    except ValueError as error:
        raise ValueError(
            f"{dataset} has garments of the category {name!r}, which the model does not know: "
            f"{error}"
        ) from error


def _listed(file: Path, root: str | Path, taxonomy: Taxonomy) -> list[CatalogueImage]:
    """The images of a COCO file."""
    coco = read_coco(file, labels=(), fields=_ANNOTATION_FIELDS)
    images = coco.images
    if not len(images.ids):
        raise ValueError(f"{file} lists no images")
    _check_categories(coco, taxonomy)
    garments = _garments(coco, taxonomy)
    found: dict[str, CatalogueImage] = {}
    for row, name in enumerate(images.file_names):
        if not name:
            raise ValueError(f"{file}, image {images.ids[row]}: expected a file_name")
        key = Path(name).as_posix()
        if key in found:
            raise ValueError(f"{file} lists the image {key} twice")
        height, width = images.sizes[row].tolist()
        stated = {"source": images.sources[row], "pair_id": int(images.pair_ids[row])}
        fields = {k: v for k, v in stated.items() if v not in ("", -1)}
        size = (width, height) if width and height else None
        found[key] = CatalogueImage(key, joined(root, key), size, tuple(garments[row]), fields)
    return [found[key] for key in sorted(found)]


def _check_categories(coco: CocoFile, taxonomy: Taxonomy) -> None:
    for record in coco.categories:
        expected = taxonomy.category(record["id"])
        if record["name"] not in expected.names:
            raise ValueError(
                f"{coco.path} calls category {record['id']} {record['name']!r}; the model "
                f"knows {taxonomy.name}'s categories, where it is {expected.name!r}"
            )


def _garments(coco: CocoFile, taxonomy: Taxonomy) -> dict[int, list[Annotated]]:
    """By the row of their image; crowds are no garments."""
    garments: dict[int, list[Annotated]] = defaultdict(list)
    items = coco.items
    if items is None:
        return garments
    for i in np.flatnonzero(~items.crowd).tolist():
        number = int(items.ids[i])
        try:
            kind = taxonomy.category(int(items.category_ids[i]))
        except ValueError as error:
            raise ValueError(f"{coco.path}, annotation {number}: {error}") from error
        x, y, w, h = items.boxes[i].tolist()
        box = np.array([x, y, x + w, y + h], np.float32)
        values = {key: int(items.fields[key][i]) for key in _ANNOTATION_FIELDS}
        fields = {key: value for key, value in values.items() if value != -1}
        garments[int(items.image[i])].append(Annotated(str(number), Garment(kind, box), fields))
    return garments
