"""DeepFashion's (2016) benchmarks: their lists joined image by image.

Shapes: ``N`` images of a benchmark, all splits together, in the order of the partition; ``A``
attributes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from match_rcnn.data.problems import (
    IMAGE_LEFT_OUT,
    MissingDataError,
    Problem,
    ProblemReport,
    Reason,
)
from match_rcnn.data.sources.deepfashion import (
    ATTRIBUTE_TYPES,
    NO_SLOT,
    SLOTS,
    SLOTS_OF_TYPE,
    VISIBLE,
    Names,
    Strings,
    find_file,
    find_rows,
    read_attributes,
    read_boxes,
    read_categories,
    read_landmarks,
    read_names,
    read_names_of,
    read_pairs,
    read_partition,
    read_rows,
)
from match_rcnn.utils.arrays import BoolArray, FloatArray, IntArray
from match_rcnn.utils.files import read_json

#: By benchmark, the splits of its partition.
PARTITIONS = {
    "category": ("train", "val", "test"),
    "fine": ("train", "val", "test"),
    "inshop": ("train", "query", "gallery"),
    "consumer2shop": ("train", "val", "test"),
    "landmark": ("train", "val", "test"),
}
#: The folder of a benchmark; the fine labels lie beside the coarse ones.
FOLDERS = {name: "category" if name == "fine" else name for name in PARTITIONS}
CLOTHES_TYPES = ("upper-body", "lower-body", "full-body")
FINE_TYPES = ("pattern", "sleeve", "length", "neckline", "fabric", "fit")


@dataclass
class Benchmark:
    """Labels of all images of a benchmark.

    Attributes:
        images: (N,) names as in the lists.
        split: (N,) of :data:`PARTITIONS`.
        boxes: (N, 4) x0, y0, x1, y1; NaN where the list has no row.
        category: (N,) index into ``classes``, -1 where unknown.
        classes, clothes_types: the categories' names and types (1 upper, 2 lower, 3 full body).
        items: (N,) or None where the benchmark has none.
        domains: (N,) ``"consumer"`` or ``"shop"``, or None where there are none.
        attributes: (N, A) 1, -1 and 0 (unknown), or None.
        attribute_names: of A.
        landmarks: (N, 8, 3) x, y, visibility, or None.
        description: (N,) index into ``descriptions``, -1 where there is none; None: no list.
        report: what was found.
        sizes: (N, 2) width and height.
    """

    images: Strings
    split: Strings
    boxes: FloatArray
    category: IntArray
    classes: list[str]
    clothes_types: list[int]
    items: Strings | None = None
    domains: Strings | None = None
    attributes: npt.NDArray[np.int8] | None = None
    attribute_names: Names | None = None
    attribute_type_names: tuple[str, ...] = ()
    landmarks: FloatArray | None = None
    description: IntArray | None = None
    descriptions: list[list[str]] = field(default_factory=list)
    report: ProblemReport = field(default_factory=ProblemReport)
    sizes: IntArray = field(default_factory=lambda: np.zeros((0, 2), dtype=np.int64))

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: BoolArray) -> "Benchmark":
        """The images of a mask."""
        names = ["images", "split", "boxes", "category", "items", "domains", "attributes"]
        names += ["landmarks", "description", "sizes"]
        values = {name: getattr(self, name) for name in names}
        return replace(self, **{k: v[rows] for k, v in values.items() if v is not None})


def read_labels(root: Path, name: str) -> Benchmark:
    """A benchmark's labels, as its lists have them; without sizes.

    Args:
        name: of :data:`PARTITIONS`.

    Raises:
        FileNotFoundError, ValueError: a list is not there, or cannot be used.
    """
    data = _READERS[name](root)
    _leave_out(data, ~np.isin(data.split, PARTITIONS[name]), Reason.SPLIT, "a split of the list")
    return data


def _leave_out(data: Benchmark, wrong: BoolArray, reason: Reason, expected: str) -> None:
    for image, split in zip(data.images[wrong], data.split[wrong], strict=True):
        detail = f"expected {expected}, got {str(split)!r}" if reason is Reason.SPLIT else expected
        data.report.problems.append(Problem(str(image), None, reason, detail, IMAGE_LEFT_OUT))


def _read_category(root: Path) -> Benchmark:
    partition = read_partition(root)
    data = _with_boxes(root, partition.images, partition.split, "list_bbox.txt")
    names = read_names(root, "list_category_cloth.txt")
    _add_categories(data, names, *read_categories(root))
    attributes = read_names(root, "list_attr_cloth.txt")
    _add_attributes(data, attributes, ATTRIBUTE_TYPES, *read_attributes(root, len(attributes)))
    _add_landmarks(data, *read_landmarks(root))
    return data


def _read_fine(root: Path) -> Benchmark:
    """``Anno_fine``: files of a split without names, row by row beside its list of images."""
    folder = root / "Anno_fine"
    attributes = read_names_of(find_file(root, "list_attr_cloth.txt", "Anno_fine"))
    parts = {split: _fine_split(folder, split, len(attributes)) for split in PARTITIONS["fine"]}
    joined = [np.concatenate(columns) for columns in zip(*parts.values(), strict=True)]
    images, boxes, categories, labels, landmarks = joined
    split = np.repeat(list(parts), [len(part[0]) for part in parts.values()])
    names = read_names_of(_either(root, "list_category_cloth.txt"))
    data = Benchmark(images, split, boxes.astype(float), np.full(len(images), -1), [], [])
    _add_categories(data, names, images, categories[:, 0])
    # One attribute of a group holds, so 0 is "has it not" here.
    _add_attributes(data, attributes, FINE_TYPES, images, np.where(labels == 1, 1, -1))
    _add_landmarks(data, images, landmarks)
    return data


def _either(root: Path, name: str) -> Path:
    try:
        return find_file(root, name, "Anno_fine")
    except MissingDataError:
        return find_file(root, name)


def _fine_split(folder: Path, split: str, count: int) -> tuple[Strings, ...]:
    file = find_file(folder.parent, f"{split}.txt", folder.name)
    images = np.array([line.strip() for line in file.read_text("utf-8").splitlines()], dtype=str)
    tables = []
    for what, width in (("bbox", 4), ("cate", 1), ("attr", count), ("landmarks", 2 * len(SLOTS))):
        own = find_file(folder.parent, f"{split}_{what}.txt", folder.name)
        tables.append(_numbers(own, len(images), width, file))
    points = tables.pop().reshape(-1, len(SLOTS), 2)
    hidden = np.where((points == 0).all(2), NO_SLOT, VISIBLE)
    return images, *tables, np.dstack([points, hidden]).astype(float)


def _numbers(file: Path, rows: int, columns: int, beside: Path) -> IntArray:
    """(rows, columns) whole numbers of a file without header.

    Raises:
        ValueError: another form, or other numbers of rows or columns.
    """
    values = []
    for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
        try:
            values.append([int(value) for value in line.split()])
        except ValueError as error:
            raise ValueError(f"{error} in {file}, line {number}") from None
        if len(values[-1]) != columns:
            raise ValueError(
                f"expected {columns} numbers, got {len(values[-1])} in {file}, line {number}"
            )
    if len(values) != rows:
        raise ValueError(f"expected {rows} rows in {file}, as in {beside}; got {len(values)}")
    return np.array(values, dtype=np.int64).reshape(rows, columns)


def _read_landmark(root: Path) -> Benchmark:
    partition = read_partition(root)
    data = _with_boxes(root, partition.images, partition.split, "list_bbox.txt")
    images, landmarks = read_landmarks(root)
    names = Names(list(CLOTHES_TYPES), np.arange(1, 4), find_file(root, "list_landmarks.txt"))
    _add_categories(data, names, images, clothes_type(landmarks))
    _add_landmarks(data, images, landmarks)
    return data


def _read_inshop(root: Path) -> Benchmark:
    partition = read_partition(root, with_items=True)
    data = _with_boxes(root, partition.images, partition.split, "list_bbox_inshop.txt")
    data.items = partition.items
    _add_item_labels(root, data, "list_landmarks_inshop.txt")
    _add_descriptions(root, data, "list_description_inshop.json")
    return data


def _read_consumer2shop(root: Path) -> Benchmark:
    pairs = read_pairs(root)
    images = np.concatenate([pairs.consumer, pairs.shop])
    # In the order of the pairs, so that a split's photos come as its pairs do.
    order = np.arange(len(images)).reshape(2, -1).T.ravel()
    domains = np.repeat(["consumer", "shop"], len(pairs.items))[order]
    images, items, split = images[order], np.repeat(pairs.items, 2), np.repeat(pairs.split, 2)
    _, first = np.unique(images, return_index=True)
    own = items[first][find_rows(images[first], images)]
    first = np.sort(first)
    data = _with_boxes(root, images[first], split[first], "list_bbox_consumer2shop.txt")
    data.items, data.domains = items[first], domains[first]
    data.report.kept[Reason.SEVERAL_ITEMS] += len(np.unique(images[own != items]))
    data.report.kept[Reason.DOMAIN] += _contradicted_domains(root, data)
    _add_item_labels(root, data, "list_landmarks_consumer2shop.txt")
    _add_descriptions(root, data, "list_description_consumer2shop.json")
    return data


def _contradicted_domains(root: Path, data: Benchmark) -> int:
    """How many photos the list of boxes calls shop (1) or consumer (2) and the pairs do not."""
    rows = read_rows(find_file(root, "list_bbox_consumer2shop.txt"))
    images, numbers = rows.integers(6)
    found = find_rows(images, data.images)
    said = np.where(numbers[found, 1] == 1, "shop", "consumer")
    return int(((found >= 0) & (said != data.domains)).sum())


def _with_boxes(root: Path, images: Strings, split: Strings, name: str) -> Benchmark:
    listed, boxes = read_boxes(root, name)
    data = Benchmark(images, split, np.zeros((0, 4)), np.full(len(images), -1), [], [])
    rows = find_rows(listed, images)
    _leave_out(data, rows < 0, Reason.NO_BOX, f"expected a row in {name}, got none")
    data.boxes = boxes[rows] if len(boxes) else np.zeros((len(images), 4))
    return data


def _add_categories(data: Benchmark, names: Names, listed: Strings, labels: IntArray) -> None:
    rows = find_rows(listed, data.images)
    category = np.where(rows >= 0, labels[rows] - 1, -1)
    unlisted = (rows >= 0) & ((category < 0) | (category >= len(names)))
    data.category = np.where(unlisted, -1, category)
    data.classes, data.clothes_types = names.names, names.types.tolist()
    data.report.kept[Reason.CATEGORY_UNLISTED] += int(unlisted.sum())
    data.report.kept[Reason.LABEL_MISSING] += int((rows < 0).sum())


def _add_attributes(
    data: Benchmark,
    names: Names,
    types: Sequence[str],
    listed: Strings,
    labels: npt.NDArray[np.int8],
    keys: Strings | None = None,
) -> None:
    """
    Args:
        keys: (N,) what ``listed`` names for each image, if not the image.
    """
    rows = find_rows(listed, data.images if keys is None else keys)
    data.attributes = labels[rows].astype(np.int8)
    data.attributes[rows < 0] = 0
    unnamed = range(len(types) + 1, int(names.types.max(initial=0)) + 1)
    data.attribute_names = names
    data.attribute_type_names = (*types, *(f"type {number}" for number in unnamed))
    data.report.kept[Reason.LABEL_MISSING] += int((rows < 0).sum())


def _add_landmarks(data: Benchmark, listed: Strings, landmarks: FloatArray) -> None:
    rows = find_rows(listed, data.images)
    data.landmarks = landmarks[rows]
    data.landmarks[rows < 0] = (0, 0, NO_SLOT)
    data.report.kept[Reason.LABEL_MISSING] += int((rows < 0).sum())


def _add_item_labels(root: Path, data: Benchmark, landmarks: str) -> None:
    """Categories by the folders of the items, attributes of the items, landmarks of the images."""
    _add_landmarks(data, *read_landmarks(root, landmarks))
    assert data.landmarks is not None
    assert data.items is not None
    folders = ["/".join(name.split("/")[1:-2]) for name in data.images.tolist()]
    classes, category = np.unique(folders, return_inverse=True)
    data.classes, data.category = classes.tolist(), category.astype(np.int64)
    types = clothes_type(data.landmarks)
    data.clothes_types = [
        int(np.bincount(types[data.category == c], minlength=4)[1:].argmax()) + 1
        for c in range(len(data.classes))
    ]
    names = read_names(root, "list_attr_cloth.txt")
    items, labels = read_attributes(root, len(names), "list_attr_items.txt")
    _add_attributes(data, names, _type_names(root), items, labels, data.items)


def _add_descriptions(root: Path, data: Benchmark, name: str) -> None:
    """Where there is the list, what it says of the items; the words of several entries of one item,
    such as of its colours, are joined.

    Raises:
        ValueError: it is no list of entries with ``item`` and ``description``.
    """
    try:
        file = find_file(root, name)
    except MissingDataError:
        return
    assert data.items is not None
    texts: dict[str, list[str]] = {}
    for number, entry in enumerate(_entries(file)):
        text = entry.get("description") if isinstance(entry, dict) else None
        own = [text] if isinstance(text, str) else text
        if not isinstance(own, list) or not all(isinstance(part, str) for part in own):
            raise ValueError(
                f"{file}, entry {number}: expected 'item' and 'description', a text or a list of "
                f"texts; got {entry!r:.80}"
            )
        texts.setdefault(str(entry.get("item")), []).extend(own)
    places = {item: place for place, item in enumerate(texts)}
    data.description = np.array([places.get(item, -1) for item in data.items.tolist()])
    data.descriptions = list(texts.values())
    data.report.kept[Reason.LABEL_MISSING] += int((data.description < 0).sum())


def _entries(file: Path) -> list[Any]:
    found = read_json(file)
    if not isinstance(found, list):
        raise ValueError(f"{file}: expected a list of descriptions, got {found!r:.80}")
    return found


def _type_names(root: Path) -> list[str]:
    """The English names of ``list_attr_type.txt``, behind the Chinese ones; in-shop has none."""
    try:
        rows = read_rows(find_file(root, "list_attr_type.txt"))
    except MissingDataError:
        return []
    return [line.split(None, 1)[-1].strip() for line in rows.lines]


_READERS = {
    "category": _read_category,
    "fine": _read_fine,
    "inshop": _read_inshop,
    "consumer2shop": _read_consumer2shop,
    "landmark": _read_landmark,
}


def clothes_type(landmarks: FloatArray) -> IntArray:
    """(N,) 1 upper, 2 lower, 3 full body, 0 unknown, by the slots that landmarks (N, 8, 3) have."""
    there = landmarks[:, :, 2] != NO_SLOT
    types = np.zeros(len(landmarks), dtype=np.int64)
    for kind, slots in SLOTS_OF_TYPE.items():
        own = np.isin(np.arange(len(SLOTS)), slots)
        types[(there == own).all(1)] = kind
    return types
