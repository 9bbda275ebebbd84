"""DeepFashion (Liu et al., CVPR 2016): the list files of its four benchmarks.

A list file is text: a line with the number of rows, a line that names the columns, then the rows,
their columns divided by blanks. The exception are lists of ids (``list_item_*.txt``), without the
second line. Folders changed between releases, so files are looked for below ``Anno`` and ``Eval``
by their names. All counts and names come from the files.

Shapes: ``N`` images of a benchmark, ``A`` attributes. Landmarks are ``(N, 8, 3)``: x and y in
pixels and a visibility; slots are left and right collar, sleeve, waistline, hem. Sources of the
facts: the data set's README files, as copied in public repositories, and the readers of mmfashion
and of ``fdjingyuan/Deep-Fashion-Analysis-ECCV2018``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from match_rcnn.data.problems import MissingDataError
from match_rcnn.utils.arrays import BoolArray, FloatArray, IntArray

Strings = npt.NDArray[np.str_]

#: The types of attributes, by their number in ``list_attr_cloth.txt`` from 1.
ATTRIBUTE_TYPES = ("texture", "fabric", "shape", "part", "style")
#: The eight landmarks.
SLOTS = (
    *("left_collar", "right_collar", "left_sleeve", "right_sleeve"),
    *("left_waistline", "right_waistline", "left_hem", "right_hem"),
)
#: Chains of landmarks that say something about each other, as Wang et al. (CVPR 2018) have them:
#: along a garment, and across it.
KINEMATIC_CHAINS = (
    *(("left_collar", "left_waistline", "left_hem"), ("left_collar", "left_sleeve")),
    *(("right_collar", "right_waistline", "right_hem"), ("right_collar", "right_sleeve")),
)
SYMMETRY_CHAINS = tuple(zip(SLOTS[::2], SLOTS[1::2], strict=True))
#: Which slots a row's landmarks fill, by the type of the clothes: upper, lower and full body.
SLOTS_OF_TYPE = {1: (0, 1, 2, 3, 6, 7), 2: (4, 5, 6, 7), 3: (0, 1, 2, 3, 4, 5, 6, 7)}
#: Visibilities, and what stands for a slot that this type of clothes has not.
VISIBLE, OCCLUDED, TRUNCATED, NO_SLOT = 0, 1, 2, -1


@dataclass(frozen=True)
class Rows:
    """The rows of a list file.

    Attributes:
        file: where they come from.
        lines: each row's text; row ``i`` is line ``i + first`` of the file.
        first: the line number of the first.
        header: the names of the columns; empty where the list has no such line.
    """

    file: Path
    lines: list[str]
    first: int = 3
    header: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.lines)

    def columns(self, last: int) -> Iterator[tuple[int, list[str]]]:
        """Line number, and the columns; blanks within the first are its own.

        Args:
            last: how many columns follow the first.

        Raises:
            ValueError: a row has fewer.
        """
        for number, line in enumerate(self.lines, self.first):
            parts = line.rsplit(maxsplit=last)
            if len(parts) != last + 1:
                raise ValueError(
                    f"expected {last + 1} columns, got {len(parts)} in {self.file}, line {number}"
                )
            yield number, [parts[0].strip(), *parts[1:]]

    def integers(self, last: int) -> tuple[Strings, IntArray]:
        """The first column (N,), and ``last`` columns of integers (N, last).

        Raises:
            ValueError: another number of columns, or something else than integers.
        """
        names, values = [], []
        for number, (name, *rest) in self.columns(last):
            try:
                values.append([int(value) for value in rest])
            except ValueError as error:
                raise ValueError(f"{error} in {self.file}, line {number}") from None
            names.append(name)
        return np.array(names, dtype=str), np.array(values, dtype=np.int64).reshape(-1, last)


def find_file(root: Path, name: str, below: str = "Anno") -> Path:
    """The file of this name in ``root/below`` or in a folder in it, the nearest. Newer releases
    say ``Anno_coarse`` for ``Anno``.

    Raises:
        FileNotFoundError: there is none.
    """
    for folder in (root / below, root / f"{below}_coarse"):
        found = sorted(folder.rglob(name), key=lambda path: (len(path.parts), path))
        if found:
            return found[0]
    raise MissingDataError(
        f"no {name} below {root / below}; expected the data set's folder, with Anno/ and Eval/"
    )


def read_rows(file: Path, header: bool = True) -> Rows:
    """The rows of a list file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the first line is no number, or not the number of the rows.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no text in UTF-8: {error}") from error
    while lines and not lines[-1].strip():
        lines.pop()
    first = 2 if header else 1
    try:
        count = int(lines[0])
    except (IndexError, ValueError):
        came = repr(lines[0][:40]) if lines else "an empty file"
        raise ValueError(f"expected the number of rows in line 1 of {file}, got {came}") from None
    if len(lines) - first != count:
        raise ValueError(
            f"{file} says {count} rows and has {len(lines) - first}; it may be cut off: "
            "download it again"
        )
    return Rows(file, lines[first:], first + 1, tuple(lines[1].split()) if header else ())


@dataclass(frozen=True)
class Partition:
    """``list_eval_partition.txt`` of a benchmark whose images stand alone.

    Attributes:
        images: (N,) names.
        items: (N,) item ids, empty strings where the benchmark has none.
        split: (N,) such as ``"train"``.
    """

    images: Strings
    items: Strings
    split: Strings

    def of(self, split: str) -> BoolArray:
        """(N,) which images are of a split.

        Raises:
            ValueError: there is none of them.
        """
        chosen: BoolArray = self.split == split
        if not chosen.any():
            known = ", ".join(sorted(set(self.split.tolist())))
            raise ValueError(f"no image of the split {split!r}; the partition has {known}")
        return chosen


def read_partition(root: Path, with_items: bool = False) -> Partition:
    """Which image is of which split.

    Args:
        with_items: rows name an item between image and split (in-shop).

    Raises:
        FileNotFoundError, ValueError: see :func:`read_rows`; an image stands there twice.
    """
    file = find_file(root, "list_eval_partition.txt", "Eval")
    rows = [columns for _, columns in read_rows(file).columns(2 if with_items else 1)]
    images = np.array([row[0] for row in rows], dtype=str)
    _check_unique(images, file)
    items = [row[1] if with_items else "" for row in rows]
    return Partition(images, np.array(items), np.array([row[-1] for row in rows]))


@dataclass(frozen=True)
class Pairs:
    """``list_eval_partition.txt`` of consumer-to-shop: ``P`` pairs of photos.

    Attributes:
        consumer, shop: (P,) image names.
        items: (P,) item ids.
        split: (P,) such as ``"train"``.
    """

    consumer: Strings
    shop: Strings
    items: Strings
    split: Strings


def read_pairs(root: Path) -> Pairs:
    """The pairs of consumer-to-shop.

    Raises:
        FileNotFoundError, ValueError: see :func:`read_rows`.
    """
    file = find_file(root, "list_eval_partition.txt", "Eval")
    rows = [columns for _, columns in read_rows(file).columns(3)]
    if not rows:
        raise ValueError(f"{file} has no rows")
    return Pairs(*(np.array(column, dtype=str) for column in zip(*rows, strict=True)))


@dataclass(frozen=True)
class Names:
    """A list of names with a type each: categories, or attributes.

    Attributes:
        names: in the order of the file.
        types: (len(names),) from 1; 0 where the list has no types (in-shop).
        file: where they come from.
    """

    names: list[str]
    types: IntArray
    file: Path

    def __len__(self) -> int:
        return len(self.names)


def read_names(root: Path, name: str) -> Names:
    """``list_category_cloth.txt`` or ``list_attr_cloth.txt``; names may hold blanks.

    The second line tells the columns: a name, then a type (in-shop's attributes: none); before
    them, in consumer-to-shop, a name in Chinese, which is passed over.

    Raises:
        FileNotFoundError, ValueError: see :func:`read_rows`.
    """
    return read_names_of(find_file(root, name))


def read_names_of(file: Path) -> Names:
    """:func:`read_names` of a file."""
    rows = read_rows(file)
    if len(rows.header) == 1:
        return Names([line.strip() for line in rows.lines], np.zeros(len(rows), np.int64), file)
    names, types = rows.integers(1)
    plain = [name.split(None, len(rows.header) - 2)[-1] for name in names.tolist()]
    return Names(plain, types[:, 0], file)


def read_categories(root: Path) -> tuple[Strings, IntArray]:
    """(N,) images and their categories, from 1, of ``list_category_img.txt``.

    Raises:
        FileNotFoundError, ValueError: see :func:`read_rows`.
    """
    file = find_file(root, "list_category_img.txt")
    images, labels = read_rows(file).integers(1)
    _check_unique(images, file)
    return images, labels[:, 0]


def read_boxes(root: Path, name: str = "list_bbox.txt") -> tuple[Strings, FloatArray]:
    """(N,) images and their boxes (N, 4), x1, y1, x2, y2; columns between are passed over.

    Raises:
        FileNotFoundError, ValueError: see :func:`read_rows`.
    """
    file = find_file(root, name)
    rows = [line.split() for line in read_rows(file).lines]
    try:
        boxes = np.array([row[-4:] for row in rows], dtype=np.float64).reshape(-1, 4)
    except ValueError as error:
        raise ValueError(
            f"expected four numbers at the end of each row of {file}: {error}"
        ) from None
    images = np.array([row[0] for row in rows], dtype=str)
    _check_unique(images, file)
    return images, boxes


def read_landmarks(root: Path, name: str = "list_landmarks.txt") -> tuple[Strings, FloatArray]:
    """(N,) images and their landmarks (N, 8, 3) in the eight slots: x, y, visibility.

    A row is the image, the type of the clothes, in some releases a variation, and visibility, x, y
    of each landmark; which form it has, its length tells.

    Raises:
        FileNotFoundError, ValueError: see :func:`read_rows`; a type other than 1, 2, 3, or another
            number of landmarks than the type has.
    """
    file = find_file(root, name)
    rows = read_rows(file)
    images = []
    landmarks = np.full((len(rows), len(SLOTS), 3), (0.0, 0.0, NO_SLOT))
    for i, line in enumerate(rows.lines):
        image, *values = line.split()
        images.append(image)
        try:
            slots, own = _slots_of_row(values)
        except ValueError as error:
            raise ValueError(f"{error} in {file}, line {i + rows.first}") from None
        landmarks[i, slots] = own
    names = np.array(images, dtype=str)
    _check_unique(names, file)
    return names, landmarks


def _slots_of_row(values: Sequence[str]) -> tuple[list[int], FloatArray]:
    """The slots, and x, y, visibility for each (n, 3)."""
    kind = int(values[0]) if values else 0
    if kind not in SLOTS_OF_TYPE:
        raise ValueError(f"expected 1, 2 or 3 as the type of the clothes, got {kind}")
    slots = list(SLOTS_OF_TYPE[kind])
    spare = len(values) - 1 - 3 * len(slots)  # a variation, or none
    if spare not in (0, 1):
        raise ValueError(
            f"expected {len(slots)} landmarks for clothes of type {kind}, got {len(values) - 1} "
            "numbers behind the type"
        )
    numbers = np.array(values[1 + spare :], dtype=np.float64).reshape(-1, 3)
    return slots, numbers[:, [1, 2, 0]]


def read_attributes(
    root: Path, count: int, name: str = "list_attr_img.txt"
) -> tuple[Strings, npt.NDArray[np.int8]]:
    """(N,) images and their attributes (N, A) of ``list_attr_img.txt``: 1 has it, -1 has it not, 0
    unknown.

    Args:
        count: A.
        name: of the list; ``list_attr_items.txt`` has items in the place of images.

    Raises:
        FileNotFoundError, ValueError: see :func:`read_rows`; a row with another number of labels.
    """
    file = find_file(root, name)
    with file.open("rb") as stream:
        total = _integer_line(stream.readline(), file)
        stream.readline()
        labels = np.zeros((total, count), dtype=np.int8)
        images: list[str] = []
        while lines := stream.readlines(_BYTES_AT_A_TIME):
            lines = [line for line in lines if line.strip()]
            if len(images) + len(lines) > total:
                raise ValueError(f"{file} says {total} rows and has more")
            _parse_labels(lines, labels[len(images) :], file, len(images) + 3)
            images += [line.split(None, 1)[0].decode() for line in lines]
    if len(images) != total:
        raise ValueError(f"{file} says {total} rows and has {len(images)}; it may be cut off")
    names = np.array(images, dtype=str)
    _check_unique(names, file)
    return names, labels


_BYTES_AT_A_TIME = 1 << 24


def _integer_line(line: bytes, file: Path) -> int:
    try:
        return int(line)
    except ValueError:
        raise ValueError(
            f"expected the number of rows in line 1 of {file}, got {line[:40]!r}"
        ) from None


def _parse_labels(lines: list[bytes], labels: npt.NDArray[np.int8], file: Path, first: int) -> None:
    """Fill in the rows of ``labels`` from lines that hold, behind a name, -1, 0 and 1 alone."""
    bodies = [line.split(None, 1)[1] if len(line.split(None, 1)) > 1 else b"" for line in lines]
    text = np.frombuffer(b"".join(bodies), dtype=np.uint8)
    is_digit = (text == ord("0")) | (text == ord("1"))
    strange = ~(is_digit | (text == ord("-")) | (text <= ord(" ")))
    strange[1:] |= is_digit[1:] & is_digit[:-1]
    ends = np.cumsum([len(body) for body in bodies])
    starts = np.concatenate([[0], ends[:-1]])
    digits = np.concatenate([[0], np.cumsum(is_digit)])
    wrong = np.flatnonzero(digits[ends] - digits[starts] != labels.shape[1])
    if strange.any() or len(wrong):
        place = int(np.searchsorted(ends, strange.argmax(), "right")) if strange.any() else wrong[0]
        raise ValueError(
            f"expected {labels.shape[1]} labels of -1, 0 or 1 in {file}, line {first + int(place)}"
        )
    at = np.flatnonzero(is_digit)
    values = (text[at] - ord("0")).astype(np.int8)
    values[text[at - 1] == ord("-")] *= -1
    labels[: len(lines)] = values.reshape(len(lines), -1)


def _check_unique(images: Strings, file: Path) -> None:
    names, counts = np.unique(images, return_counts=True)
    if (counts > 1).any():
        raise ValueError(
            f"{int((counts > 1).sum())} images stand more than once in {file}, such as "
            f"{names[counts > 1][0]}"
        )


def rows_of(images: Strings, wanted: Strings, file: str) -> IntArray:
    """(len(wanted),) where each wanted name stands in ``images``.

    Raises:
        ValueError: some are not there; the message counts them and names the first.
    """
    found = find_rows(images, wanted)
    missing = found < 0
    if missing.any():
        raise ValueError(
            f"{int(missing.sum())} of {len(wanted)} images are not in {file}, such as "
            f"{wanted[missing][0]}"
        )
    return found


def find_rows(images: Strings, wanted: Strings) -> IntArray:
    """(len(wanted),) where each wanted name stands in ``images``, -1 where it does not."""
    if not len(images):
        return np.full(len(wanted), -1, dtype=np.int64)
    order = np.argsort(images, kind="stable")
    at = np.searchsorted(images, wanted, sorter=order).clip(max=len(images) - 1)
    found: IntArray = order[at]
    found[images[found] != wanted] = -1
    return found
