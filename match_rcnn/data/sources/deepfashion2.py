"""DeepFashion2 annotation files: reading and checking.

Shapes used below: ``n`` landmarks of the item's category (8 to 39). Coordinates are pixels of the
stored image (no EXIF rotation, no half-pixel shift).

The format, its keys and their meaning are those of the official repository's README. Checked is
everything that would break training or evaluation later; what is merely unusual is kept and
counted (a box partly outside the image, an attribute out of its range).
"""

import json
from dataclasses import dataclass, field
from typing import Any

import orjson

from match_rcnn.data.image_sources import SOURCES
from match_rcnn.data.problems import ITEM_LEFT_OUT, AnnotationError, Problem, Reason
from match_rcnn.data.taxonomy import DEEPFASHION2, Category

#: Item keys that describe how hard an item is; each takes the values 1, 2 and 3.
ATTRIBUTES = ("scale", "occlusion", "zoom_in", "viewpoint")

_IMAGE_KEYS = frozenset({"source", "pair_id"})
_NUMBER_TYPES = {int, float}
_VISIBILITIES = {0, 1, 2}
_LEVELS = {None, 1, 2, 3}
# Beyond it neighbouring floats are more than a pixel apart; NaN and infinity fail it too.
_LIMIT = 2.0**53


@dataclass(slots=True)
class Item:
    """One clothing item.

    Attributes:
        key: in the file, such as ``"item2"``.
        category: one of the 13.
        bbox: [x, y, w, h], w and h above 0.
        landmarks: 3n numbers x, y, v.
        num_labelled: how many landmarks have v > 0.
        segmentation: polygons [x1, y1, ...] of at least 3 points.
        style: 0 takes part in no pair.
        scale, occlusion, zoom_in, viewpoint: 1 to 3, or None where the file lacks them.
    """

    key: str
    category: Category
    bbox: list[float]
    landmarks: list[float]
    num_labelled: int
    segmentation: list[list[float]]
    style: int
    scale: int | None
    occlusion: int | None
    zoom_in: int | None
    viewpoint: int | None


@dataclass(slots=True)
class ImageAnnotation:
    """A whole annotation file.

    Attributes:
        source: ``"user"`` or ``"shop"``; None where the file says neither.
        pair_id: images of one product share it.
        items: the usable ones, in the file's order.
        problems: the items left out, in the file's order.
        kept: what is unusual and was kept, an entry each time.
    """

    source: str | None
    pair_id: int
    items: list[Item] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    kept: list[Reason] = field(default_factory=list)


def parse_annotation(data: bytes, file: str, width: int, height: int) -> ImageAnnotation:
    """Parse and check the content of an annotation file.

    Args:
        data: what the file holds.
        file: its name for messages.
        width, height: of the image, pixels.

    Raises:
        AnnotationError: nothing of the file can be used. An item that cannot be used is listed
            in ``problems`` instead.
    """
    raw = _load(data)
    annotation = ImageAnnotation(raw.get("source"), _integer(raw, "pair_id"))
    if annotation.source not in SOURCES:
        annotation.source = None
        annotation.kept.append(Reason.SOURCE_UNKNOWN)
    for key, value in raw.items():
        if key in _IMAGE_KEYS:
            continue
        try:
            item = parse_item(key, value)
            _check_box(item.bbox, width, height, annotation.kept)
        except AnnotationError as error:
            annotation.problems.append(
                Problem(file, key, error.reason, error.detail, ITEM_LEFT_OUT)
            )
            continue
        annotation.items.append(item)
        if not {item.scale, item.occlusion, item.zoom_in, item.viewpoint} <= _LEVELS:
            annotation.kept.append(Reason.ATTRIBUTE_RANGE)
    return annotation


def parse_item(key: str, raw: Any) -> Item:
    """Parse and check one item; its box is not held against the image here.

    Raises:
        AnnotationError: the item cannot be used.
    """
    if not isinstance(raw, dict):
        raise AnnotationError(Reason.WRONG_TYPE, f"expected an item, got {_short(raw)}")
    category = _category(raw)
    landmarks, num_labelled = _landmarks(raw, category)
    x1, y1, x2, y2 = _corners(raw)
    return Item(
        key,
        category,
        [x1, y1, x2 - x1, y2 - y1],
        landmarks,
        num_labelled,
        _segmentation(raw),
        _integer(raw, "style"),
        _attribute(raw, "scale"),
        _attribute(raw, "occlusion"),
        _attribute(raw, "zoom_in"),
        _attribute(raw, "viewpoint"),
    )


def _load(data: bytes) -> dict[str, Any]:
    try:
        raw = orjson.loads(data)
    except orjson.JSONDecodeError as strict:
        try:  # a NaN is no JSON, but Python writes it: find the item that holds it
            raw = json.loads(data)
        except (ValueError, RecursionError):
            detail = f"expected JSON, got {_got(data, strict)}"
            raise AnnotationError(Reason.ANNOTATION_UNREADABLE, detail) from strict
    if not isinstance(raw, dict):
        detail = f"expected a JSON object, got {_short(raw)}"
        raise AnnotationError(Reason.ANNOTATION_UNREADABLE, detail)
    return raw


def _got(data: bytes, error: Exception) -> str:
    return f"{len(data)} bytes with: {error}" if data.strip() else "an empty file"


def _category(raw: dict[str, Any]) -> Category:
    category_id = _required(raw, "category_id")
    if type(category_id) is not int or not 1 <= category_id <= DEEPFASHION2.num_categories:
        known = f"from 1 to {DEEPFASHION2.num_categories}"
        detail = f"expected a category_id {known}, got {_short(category_id)}"
        raise AnnotationError(Reason.CATEGORY, detail)
    category = DEEPFASHION2.categories[category_id - 1]
    name = raw.get("category_name", category.name)
    if name not in (category.name, category.coco_name):
        detail = (
            f"expected the category_name {category.name!r} with category_id {category_id}, "
            f"got {_short(name)}"
        )
        raise AnnotationError(Reason.CATEGORY, detail)
    return category


def _landmarks(raw: dict[str, Any], category: Category) -> tuple[list[float], int]:
    values = _list(_required(raw, "landmarks"), "landmarks")
    n = category.num_landmarks
    if len(values) != 3 * n:
        detail = f"expected {3 * n} numbers (3 * {n} landmarks) for {category.name!r}, got "
        raise AnnotationError(Reason.LANDMARK_COUNT, detail + str(len(values)))
    _check_numbers(values, "landmarks")
    visibility = values[2::3]
    if not _VISIBILITIES.issuperset(visibility):
        wrong = next(v for v in visibility if v not in _VISIBILITIES)
        detail = f"expected landmark visibilities 0, 1 or 2, got {_short(wrong)}"
        raise AnnotationError(Reason.VISIBILITY, detail)
    return values, n - visibility.count(0)


def _corners(raw: dict[str, Any]) -> list[float]:
    values = _list(_required(raw, "bounding_box"), "bounding_box")
    if len(values) != 4:
        detail = f"expected a bounding_box [x1, y1, x2, y2], got {len(values)} numbers"
        raise AnnotationError(Reason.WRONG_TYPE, detail)
    _check_numbers(values, "bounding_box")
    x1, y1, x2, y2 = values
    if x2 <= x1 or y2 <= y1:
        detail = f"expected a bounding_box with x1 < x2 and y1 < y2, got {values}"
        raise AnnotationError(Reason.BOX_EMPTY, detail)
    return values


def _check_box(bbox: list[float], width: int, height: int, kept: list[Reason]) -> None:
    x, y, w, h = bbox
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        detail = (
            f"expected a bounding_box inside the image of {width} x {height} pixels, "
            f"got {[x, y, x + w, y + h]}"
        )
        raise AnnotationError(Reason.BOX_OUTSIDE, detail)
    if x < 0 or y < 0 or x + w > width or y + h > height:
        kept.append(Reason.BOX_PARTLY_OUTSIDE)


def _segmentation(raw: dict[str, Any]) -> list[list[float]]:
    polygons = _list(_required(raw, "segmentation"), "segmentation")
    if not polygons:
        raise AnnotationError(Reason.POLYGON, "expected at least one polygon, got none")
    for polygon in polygons:
        count = len(_list(polygon, "a polygon of the segmentation"))
        if count < 6 or count % 2:
            detail = f"expected polygons of at least 3 points x, y, got one of {count} numbers"
            raise AnnotationError(Reason.POLYGON, detail)
        _check_numbers(polygon, "segmentation")
    return polygons


def _attribute(raw: dict[str, Any], key: str) -> int | None:
    return None if raw.get(key) is None else _integer(raw, key)


def _integer(raw: dict[str, Any], key: str) -> int:
    value = _required(raw, key)
    if type(value) is not int:
        _check_numbers([value], key)
        raise AnnotationError(
            Reason.WRONG_TYPE, f"expected an integer as {key}, got {_short(value)}"
        )
    if not -_LIMIT < value < _LIMIT:
        raise AnnotationError(Reason.NOT_FINITE, f"expected a small {key}, got {_short(value)}")
    return value


def _required(raw: dict[str, Any], key: str) -> Any:
    try:
        return raw[key]
    except KeyError:
        detail = f"expected the key {key!r}, got {', '.join(map(repr, raw)) or 'none'}"
        raise AnnotationError(Reason.KEY_MISSING, detail) from None


def _list(value: Any, what: str) -> list[Any]:
    if type(value) is not list:
        raise AnnotationError(Reason.WRONG_TYPE, f"expected a list as {what}, got {_short(value)}")
    return value


def _check_numbers(values: list[Any], what: str) -> None:
    """Raise unless all are finite numbers; built so that lists of ints cost next to nothing."""
    types = set(map(type, values))
    if types == {int}:
        if max(values) < _LIMIT and min(values) > -_LIMIT:
            return
    elif types <= _NUMBER_TYPES and all(-_LIMIT < value < _LIMIT for value in values):
        return
    for value in values:
        if type(value) not in _NUMBER_TYPES or not -_LIMIT < value < _LIMIT:
            detail = f"expected finite numbers as {what}, got {_short(value)}"
            raise AnnotationError(Reason.NOT_FINITE, detail)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
