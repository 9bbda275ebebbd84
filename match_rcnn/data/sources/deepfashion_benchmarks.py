"""DeepFashion's (2016) benchmarks: their lists joined image by image and checked.

Shapes: ``N`` images of a benchmark, all splits together, in the order of the partition; ``A``
attributes. What a list says of the low resolution's pixels is moved to the images that are wanted.

What cannot be used is left out, what is strange is kept and counted; see ``datasets/README.md``.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from match_rcnn.data.image_size import UnreadableImageError, read_image_size
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
    TRUNCATED,
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
from match_rcnn.utils.parallel import available_cores, ordered_map

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
#: Where the images may lie: the official folders, as unpacked into ``Img`` or beside it.
_IMAGE_FOLDERS = {False: ("Img/img", "img"), True: ("Img/img_highres", "img_highres")}
CLOTHES_TYPES = ("upper-body", "lower-body", "full-body")
FINE_TYPES = ("pattern", "sleeve", "length", "neckline", "fabric", "fit")
#: Folders that lists and images call by different names (consumer-to-shop, high resolution).
_OTHER_NAMES = (("CLOTHING/Summer_Suit/", "CLOTHING/Summer_Wear/"),)
_CHUNK = 512
#: Two sizes of an image are of one shape when their sides' proportions agree up to this.
_SAME_SHAPE = 0.03


@dataclass(frozen=True)
class ImageFolder:
    """Where a benchmark's images lie.

    Attributes:
        path: below the root.
        renamed: what stands in the lists, and what the folder is called.
    """

    path: str
    renamed: tuple[tuple[str, str], ...] = ()

    def file(self, image: str) -> str:
        """An image's file, below the root; lists call the folder of either resolution ``img``."""
        name = image.removeprefix("img/")
        for listed, own in self.renamed:
            name = own + name.removeprefix(listed) if name.startswith(listed) else name
        return f"{self.path}/{name}"


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
    report: ProblemReport = field(default_factory=ProblemReport)
    sizes: IntArray = field(default_factory=lambda: np.zeros((0, 2), dtype=np.int64))

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: BoolArray) -> "Benchmark":
        """The images of a mask."""
        names = ["images", "split", "boxes", "category", "items", "domains", "attributes"]
        names += ["landmarks", "sizes"]
        values = {name: getattr(self, name) for name in names}
        return replace(self, **{k: v[rows] for k, v in values.items() if v is not None})


def read_benchmark(
    root: Path, name: str, high_resolution: bool = False, progress: bool = False
) -> tuple[Benchmark, ImageFolder]:
    """A benchmark's labels, checked against its images; and where these lie.

    Args:
        name: of :data:`PARTITIONS`.
        high_resolution: take the images of ``img_highres``; boxes and landmarks, whose lists count
            the pixels of ``img``, are moved to them.
        progress: show a bar while the images' sizes are read.

    Raises:
        FileNotFoundError: a list or the folder of the images is not there, or no image of it.
        ValueError: a list cannot be used.
    """
    low, folder = find_images(root, False), find_images(root, high_resolution)
    data = _READERS[name](root)
    _leave_out(data, ~np.isin(data.split, PARTITIONS[name]), Reason.SPLIT, "a split of the list")
    sizes, problems = _read_sizes(root, folder, data.images, progress)
    if len(data) and not sizes.any():
        raise MissingDataError(
            f"none of the {len(data)} listed images is there, such as "
            f"{root / folder.file(str(data.images[0]))}; unpack the benchmark's images"
        )
    data.sizes = sizes
    if high_resolution:
        small, more = _read_sizes(root, low, data.images, progress)
        problems += [problem for problem in more if problem.file not in {p.file for p in problems}]
        problems += _enlarge(data, small)
    data.report.add(problems)
    broken = np.isin(data.images, [problem.file for problem in data.report.problems])
    data = data.take(~broken)
    data.report.kept.update(_check_boxes(data))
    data.report.kept.update(_check_landmarks(data))
    data.report.images = data.report.items = len(data)
    return data, folder


def find_images(root: Path, high_resolution: bool) -> ImageFolder:
    """Where the images lie.

    Raises:
        FileNotFoundError: nowhere.
    """
    folders = _IMAGE_FOLDERS[high_resolution]
    for folder in folders:
        if (root / folder).is_dir():
            here = root / folder
            renamed = [(a, b) for a, b in _OTHER_NAMES if not (here / a).is_dir()]
            return ImageFolder(folder, tuple(r for r in renamed if (here / r[1]).is_dir()))
    also = "" if high_resolution else "; boxes count its pixels, so img_highres does not do"
    raise MissingDataError(f"expected the images in {root / folders[0]}, got no such folder{also}")


def _leave_out(data: Benchmark, wrong: BoolArray, reason: Reason, expected: str) -> None:
    for image, split in zip(data.images[wrong], data.split[wrong], strict=True):
        detail = f"expected {expected}, got {str(split)!r}" if reason is Reason.SPLIT else expected
        data.report.problems.append(Problem(str(image), None, reason, detail, IMAGE_LEFT_OUT))


# Lists to labels ---------------------------------------------------------------------------------


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
    data.attribute_names, data.attribute_type_names = names, tuple(types)
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


# Images and what is measured in them -------------------------------------------------------------


def _read_sizes(
    root: Path, folder: ImageFolder, images: Strings, progress: bool
) -> tuple[IntArray, list[Problem]]:
    """(N, 2) width and height, zeros where an image cannot be used, and why not."""
    job = partial(_sizes_of_chunk, root, folder, images)
    chunks = -(-len(images) // _CHUNK)
    workers = max(1, min(available_cores(), chunks // 8))
    sizes = np.zeros((len(images), 2), dtype=np.int64)
    problems: list[Problem] = []
    with ordered_map(job, chunks, workers) as results:
        bar = tqdm(results, total=chunks, desc=f"sizes of {folder.path}", disable=not progress)
        for index, (own, more) in enumerate(bar):
            sizes[index * _CHUNK : index * _CHUNK + len(own)] = own
            problems += more
    return sizes, problems


def _sizes_of_chunk(
    root: Path, folder: ImageFolder, images: Strings, index: int
) -> tuple[list[tuple[int, int]], list[Problem]]:
    sizes, problems = [], []
    for image in images[index * _CHUNK : (index + 1) * _CHUNK].tolist():
        size, reason, detail = (0, 0), None, ""
        try:
            size = read_image_size(root / folder.file(image))
        except FileNotFoundError:
            reason, detail = Reason.LISTED_IMAGE_MISSING, f"expected a file in {folder.path}"
        except (UnreadableImageError, OSError) as error:
            reason, detail = Reason.IMAGE_UNREADABLE, f"{error} in {folder.path}"
        sizes.append(size)
        if reason is not None:
            problems.append(Problem(image, None, reason, detail, IMAGE_LEFT_OUT))
    return sizes, problems


def _enlarge(data: Benchmark, small: IntArray) -> list[Problem]:
    """Move boxes and landmarks from images of sizes ``small`` to those of ``data.sizes``.

    Images of one shape are scaled. A square small one beside a large one that is not is taken as
    padded around its middle, which is how in-shop's images of 256 x 256 look.
    """
    large = data.sizes.astype(float)
    known = np.asarray((small > 0).all(1) & (large > 0).all(1))
    scale = np.where(known[:, None], large / np.maximum(small, 1), 1.0)
    same = np.abs(scale[:, 0] / np.maximum(scale[:, 1], 1e-9) - 1) <= _SAME_SHAPE
    padded = known & ~same & (small[:, 0] == small[:, 1])
    scale[padded] = (large.max(1) / np.maximum(small[:, 0], 1))[padded, None]
    shift = np.where(padded[:, None], (large - large.max(1, keepdims=True)) / 2, 0.0)
    data.boxes = data.boxes * np.tile(scale, 2) + np.tile(shift, 2)
    if data.landmarks is not None:
        data.landmarks[:, :, :2] = data.landmarks[:, :, :2] * scale[:, None] + shift[:, None]
    wrong = np.flatnonzero(known & ~same & ~padded)
    return [
        Problem(
            str(data.images[i]),
            None,
            Reason.SHAPE,
            f"expected two images of one shape, got {small[i].tolist()} and "
            f"{data.sizes[i].tolist()} pixels",
            IMAGE_LEFT_OUT,
        )
        for i in wrong
    ]


def _check_boxes(data: Benchmark) -> Counter[Reason]:
    """Boxes without area, or outside the image, become the whole image."""
    width, height = data.sizes[:, :1], data.sizes[:, 1:]
    x, y = data.boxes[:, ::2], data.boxes[:, 1::2]
    usable = (x[:, 1] > x[:, 0]) & (y[:, 1] > y[:, 0])
    usable &= (x.clip(0, width)[:, 1] > x.clip(0, width)[:, 0]) & (
        y.clip(0, height)[:, 1] > y.clip(0, height)[:, 0]
    )
    data.boxes[~usable] = np.hstack([np.zeros_like(data.sizes), data.sizes])[~usable]
    partly = (data.boxes < 0).any(1) | (data.boxes > np.tile(data.sizes, 2)).any(1)
    return Counter(
        {
            Reason.BOX_REPLACED: int((~usable).sum()),
            Reason.BOX_PARTLY_OUTSIDE: int(partly.sum()),
        }
    )


def _check_landmarks(data: Benchmark) -> Counter[Reason]:
    """Landmarks that cannot be seen where they are said to be count as cut off."""
    if data.landmarks is None:
        return Counter()
    seen = data.landmarks[:, :, 2]
    strange = ~np.isin(seen, (VISIBLE, 1, TRUNCATED, NO_SLOT))
    points = data.landmarks[:, :, :2]
    outside = (points < 0).any(2) | (points > data.sizes[:, None]).any(2)
    outside &= seen == VISIBLE
    seen[strange | outside] = TRUNCATED
    types = clothes_type(data.landmarks)
    named = np.array([*data.clothes_types, 0])[data.category]
    contradicted: BoolArray = (types > 0) & (named > 0) & (types != named)
    return Counter(
        {
            Reason.LANDMARK_VISIBILITY: int(strange.sum()),
            Reason.LANDMARK_OUTSIDE: int(outside.sum()),
            Reason.CLOTHES_TYPE: int(contradicted.sum()),
        }
    )
