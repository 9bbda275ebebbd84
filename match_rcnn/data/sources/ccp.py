"""Clothing Co-Parsing in DeepFashion2's categories: pixel maps of street photos to COCO instances.

The data set (Yang, Luo and Lin, CVPR 2014; ``bearpaw/clothing-co-parsing`` on GitHub) has 1,004
photos with a map of 59 labels: clothes, other things worn, hair and skin. What a map calls a
"dress" or a "shirt" may be one of several categories of DeepFashion2, so ``ccp_labels.json``,
beside this file, says it photo by photo: a category's id, ``unknown`` (the category cannot be seen:
an ignore region) or ``none`` (no garment of DeepFashion2). It was read once by eye and not audited.
Photos that it does not list are left out.

``ccp_split.json`` holds the photos that are kept for validation, and the pairs of photos that show
one scene or one outfit, which are always on one side.

Shapes: a photo and its map are ``(H, W)``.
"""

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycocotools.mask as mask_util
from tqdm import tqdm

from match_rcnn.data.coco import category_records
from match_rcnn.data.image_size import UnreadableImageError, read_image_size
from match_rcnn.data.problems import (
    IMAGE_LEFT_OUT,
    ITEM_LEFT_OUT,
    AnnotationError,
    Problem,
    ProblemReport,
    Reason,
)
from match_rcnn.data.sources import DataSet, check_keys, data_source
from match_rcnn.data.sources.coco import CocoSource
from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.utils.arrays import Array, FloatArray, Image
from match_rcnn.utils.files import read_json, write_json

LABELS = Path(__file__).with_name("ccp_labels.json")
SPLIT = Path(__file__).with_name("ccp_split.json")
SPLITS = ("train", "validation", "all")

UNKNOWN, NONE = "unknown", "none"
#: Parts of a label smaller than this share of its largest one are slips of the map.
_SPECK = 0.01
#: Holes smaller than this share of the part are filled.
_HOLE = 0.005
#: Contours are taken from the map at twice its size, so that they run along the pixels' edges, and
#: simplified by this much of a pixel of the photo.
_SCALE, _TOLERANCE = 2, 0.5


@dataclass
class CcpReport(ProblemReport):
    """What a conversion found.

    Attributes:
        ignored: how many ignore regions were written.
        categories: how many items of each category, by name.
    """

    ignored: int = 0
    categories: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        report = super().to_json()
        report["counts"]["ignore_regions"] = self.ignored
        report["counts"]["items_by_category"] = self.categories
        return report

    def summary(self) -> str:
        lines = [f"  {name}: {count}" for name, count in self.categories.items()]
        return "\n".join(
            [*super().summary().splitlines(), f"  ignore regions: {self.ignored}", *lines]
        )


@data_source("ccp")
def ccp_data_set(name: str, entry: Mapping[str, Any], folder: Path) -> DataSet:
    """``root`` names a clone of the repository, ``annotations`` the converted file."""
    check_keys(entry, {"root", "annotations"}, {"root", "annotations"})
    file, root = folder / entry["annotations"], folder / entry["root"]
    source = CocoSource(name, file, root / "photos", DEEPFASHION2, DEEPFASHION2, labels=("masks",))
    return source.data_set()


def photos_of(split: str, labels: str | Path = LABELS) -> dict[str, dict[str, int | str]]:
    """The labels of a split's photos, by name, in order.

    Raises:
        ValueError: an unknown split, or a labels file of another form.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}; got {split!r}")
    photos = _read_labels(Path(labels))
    kept_back = set(read_json(SPLIT)["validation"])
    wanted = {"train": photos.keys() - kept_back, "validation": kept_back & photos.keys()}
    return {name: photos[name] for name in sorted(wanted.get(split, photos.keys()))}


def _read_labels(file: Path) -> dict[str, dict[str, int | str]]:
    photos = read_json(file)
    photos = photos.get("photos") if isinstance(photos, dict) else None
    if not isinstance(photos, dict):
        raise ValueError(f'expected {{"photos": {{name: {{label: category}}}}}} in {file}')
    known = {UNKNOWN, NONE, *(c.id for c in DEEPFASHION2.categories)}
    for name, labels in photos.items():
        for label, meaning in labels.items():
            if meaning not in known:
                raise ValueError(
                    f"expected a category from 1 to {DEEPFASHION2.num_categories}, {UNKNOWN!r} or "
                    f"{NONE!r} for {label!r} of photo {name} in {file}, got {meaning!r}"
                )
    return photos


def convert_ccp(
    root: str | Path,
    output: str | Path,
    *,
    labels: str | Path = LABELS,
    split: str = "all",
    progress: bool = False,
) -> CcpReport:
    """Convert the labelled photos of a clone into the COCO file ``output``.

    Images are named as in ``ROOT/photos``; their ids are their numbers. An item is all that a
    photo's map gives one label, with the box around it; it has polygons and no landmarks. An ignore
    region (``iscrowd`` 1, RLE) stands once for each category, since it might be any. The file is
    written whole or not at all; what was left out is listed in ``output`` + ``.problems.json``.

    Args:
        root: a clone of the repository, with ``photos/``, ``annotations/pixel-level/`` and
            ``label_list.mat``.
        labels: what each photo's labels mean.
        split: ``train``, ``validation`` or ``all``.
        progress: show a bar on the standard error stream.

    Raises:
        FileNotFoundError: the clone or one of its parts is not there.
        ImportError: scipy, which reads the maps, is not installed.
        ValueError: the labels, the split or ``label_list.mat`` cannot be used.
    """
    root = Path(root)
    photos = photos_of(split, labels)
    numbers = _label_numbers(root)
    report = CcpReport(categories={c.name: 0 for c in DEEPFASHION2.categories})
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for name, meanings in tqdm(photos.items(), unit="photo", desc=split, disable=not progress):
        try:
            image, pixels = _read_photo(root, name)
        except AnnotationError as error:
            problem = Problem(
                f"photos/{name}.jpg", None, error.reason, error.detail, IMAGE_LEFT_OUT
            )
            report.add([problem])
            continue
        images.append(image)
        for label, meaning in meanings.items():
            mask = _mask(pixels, numbers, label, name, report)
            if mask is not None and meaning != NONE:
                annotations += _annotations(mask, meaning, image["id"], label, report)
    for number, annotation in enumerate(annotations, 1):
        annotation["id"] = number
    report.images = len(images)
    info = {"description": f"Clothing Co-Parsing, {split}", "landmarks": "compact"}
    written = {"info": info, "licenses": [], "categories": category_records(compact=True)}
    write_json(output, {**written, "images": images, "annotations": annotations}, indent=False)
    write_json(f"{output}.problems.json", report.to_json())
    return report


def _load_matrix(file: Path, key: str) -> Any:
    """The variable ``key`` of a MATLAB file."""
    try:
        scipy_io = importlib.import_module("scipy.io")
    except ImportError as error:
        raise ImportError(
            "Clothing Co-Parsing's maps are MATLAB files, which scipy reads; install it: "
            "pip install 'match_rcnn[ccp]'"
        ) from error
    try:
        return scipy_io.loadmat(str(file))[key]
    except (
        scipy_io.matlab.MatReadError,
        ValueError,
        LookupError,
        TypeError,
        NotImplementedError,
    ) as error:
        raise ValueError(f"{file} is no MATLAB file with a variable {key!r}: {error}") from error


def _label_numbers(root: Path) -> dict[str, int]:
    """The value of each label in the maps."""
    file = root / "label_list.mat"
    for part in (root / "photos", root / "annotations" / "pixel-level", file):
        if not part.exists():
            raise FileNotFoundError(
                f"{part} is not there; --root must name a clone of bearpaw/clothing-co-parsing"
            )
    names = _load_matrix(file, "label_list").ravel()
    return {str(name.item() if name.size == 1 else name[0]): i for i, name in enumerate(names)}


def _read_photo(root: Path, name: str) -> tuple[dict[str, Any], Image]:
    """A photo's record and its map. AnnotationError where they cannot be used."""
    photo = root / "photos" / f"{name}.jpg"
    file = root / "annotations" / "pixel-level" / f"{name}.mat"
    try:
        width, height = read_image_size(photo)
    except FileNotFoundError:
        detail = "expected a photo for the labels, got none"
        raise AnnotationError(Reason.IMAGE_MISSING, detail) from None
    except (UnreadableImageError, OSError) as error:
        raise AnnotationError(Reason.IMAGE_UNREADABLE, str(error)) from error
    if not file.is_file():
        detail = "expected a map beside the photo, got none"
        raise AnnotationError(Reason.ANNOTATION_MISSING, detail)
    try:
        pixels = _load_matrix(file, "groundtruth")
    except (ValueError, OSError) as error:
        raise AnnotationError(Reason.ANNOTATION_UNREADABLE, str(error)) from error
    if pixels.shape != (height, width):
        detail = f"expected a map of {height} x {width} as the photo, got {pixels.shape}"
        raise AnnotationError(Reason.WRONG_TYPE, detail)
    record = {"id": int(name), "file_name": photo.name, "width": width, "height": height}
    return record, pixels


def _mask(
    pixels: Image, numbers: dict[str, int], label: str, name: str, report: CcpReport
) -> Image | None:
    """(H, W) the label's pixels without specks, or None, and then it is reported."""
    if label not in numbers:
        detail = "expected a label of label_list.mat"
    else:
        mask = _without_specks((pixels == numbers[label]).astype(np.uint8))
        if mask.any():
            return mask
        detail = "expected pixels of this label in the map, got none"
    problem = Problem(f"photos/{name}.jpg", label, Reason.CATEGORY, detail, ITEM_LEFT_OUT)
    report.add([problem])
    return None


def _without_specks(mask: Image) -> Image:
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count <= 2:
        return mask
    areas = stats[:, cv2.CC_STAT_AREA]
    kept = areas >= _SPECK * areas[1:].max()
    kept[0] = False
    return kept[parts].astype(np.uint8)


def _annotations(
    mask: Image, meaning: int | str, image_id: int, label: str, report: CcpReport
) -> Iterator[dict[str, Any]]:
    """The entries of an item, or of an ignore region; ``area`` is the box's, as DeepFashion2's."""
    x, y, w, h = (int(value) for value in cv2.boundingRect(mask))
    common = {"image_id": image_id, "bbox": [x, y, w, h], "area": w * h, "item": label}
    if meaning != UNKNOWN:
        report.items += 1
        report.categories[DEEPFASHION2.category(int(meaning)).name] += 1
        yield {**common, "category_id": meaning, "iscrowd": 0, "segmentation": outlines(mask)}
        return
    report.ignored += 1
    rle = mask_util.encode(np.asfortranarray(mask))
    segmentation = {"size": rle["size"], "counts": rle["counts"].decode()}
    for category in DEEPFASHION2.categories:
        yield {**common, "category_id": category.id, "iscrowd": 1, "segmentation": segmentation}


def outlines(mask: Image) -> list[list[float]]:
    """Polygons [x, y, x, y, ...] of a mask (H, W), one for each of its parts, in pixels of the
    photo. A hole is reached by a cut from the outline, there and back, so that filling the polygon
    leaves it out."""
    big = cv2.resize(mask, None, fx=_SCALE, fy=_SCALE, interpolation=cv2.INTER_NEAREST)
    contours, tree = cv2.findContours(big, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    polygons = []
    for i, contour in enumerate(contours):
        if tree[0, i, 3] >= 0:  # a hole; it belongs to its part
            continue
        outline = _simplify(contour)
        for hole in _children(tree[0], i):
            if cv2.contourArea(contours[hole]) >= _HOLE * cv2.contourArea(contour):
                outline = _cut(outline, _simplify(contours[hole]))
        polygons.append(((outline + 0.5) / _SCALE).round(2).ravel().tolist())
    return polygons


def _children(tree: Array, part: int) -> Iterator[int]:
    child = int(tree[part, 2])
    while child >= 0:
        yield child
        child = int(tree[child, 0])


def _simplify(contour: Array) -> FloatArray:
    simple = cv2.approxPolyDP(contour, _TOLERANCE * _SCALE, True)
    # A strip of one pixel would become a line.
    return (simple if len(simple) >= 3 else contour)[:, 0].astype(np.float64)


def _cut(outline: FloatArray, hole: FloatArray) -> FloatArray:
    """``outline`` with a way to the nearest point of ``hole``, round it, and back."""
    distances = ((outline[:, None] - hole[None]) ** 2).sum(-1)
    i, j = np.unravel_index(distances.argmin(), distances.shape)
    around = np.concatenate([hole[j:], hole[: j + 1]])
    return np.concatenate([outline[: i + 1], around, outline[i:]])
