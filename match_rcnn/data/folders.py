"""The files of a split, held in a few bytes each.

``ROOT/SPLIT/image`` holds ``000001.jpg`` and so on, ``ROOT/SPLIT/annos`` ``000001.json``; the
number is the image's id.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from match_rcnn.data.problems import FILE_LEFT_OUT, MissingDataError, Problem, Reason
from match_rcnn.utils.arrays import IntArray


@dataclass(frozen=True)
class NumberedFolder:
    """The files of one folder whose name is a number.

    Attributes:
        path: of the folder.
        suffix: the usual one.
        numbers: sorted, without doubles.
        names: the files that are not called ``{number:06d}{suffix}``.
        problems: the files that could not be taken.
    """

    path: Path
    suffix: str
    numbers: IntArray
    names: dict[int, str]
    problems: list[Problem]

    def name(self, number: int) -> str:
        """The file's name; for a number that is not there, the name that it should have."""
        return self.names.get(number) or f"{number:06d}{self.suffix}"


def list_folder(path: Path, suffixes: tuple[str, ...], label: str) -> NumberedFolder:
    """List a folder. Files with other suffixes, and hidden ones, are passed over.

    Args:
        suffixes: the accepted ones, in small letters, the usual one first.
        label: the folder's name in messages.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if not path.is_dir():
        raise MissingDataError(
            f"expected the folder {path}; DeepFashion2 lies as ROOT/SPLIT/image/000001.jpg and "
            "ROOT/SPLIT/annos/000001.json (see datasets/README.md)"
        )
    names: dict[int, str] = {}
    odd: list[str] = []
    listed = np.fromiter(_usual_numbers(path, suffixes, odd), dtype=np.int64)
    numbers = np.unique(listed)
    problems = []
    for name in sorted(odd):
        stem = os.path.splitext(name)[0]
        if not (stem.isascii() and stem.isdigit() and len(stem) <= 18):
            detail = f"expected a number as name, got {name!r}"
            problems.append(_left_out(label, name, Reason.FILE_NAME, detail))
        elif int(stem) in names or _holds(numbers, int(stem)):
            detail = f"expected one file of the number {int(stem)}, got another"
            problems.append(_left_out(label, name, Reason.DUPLICATE, detail))
        else:
            names[int(stem)] = name
    numbers = np.union1d(numbers, np.fromiter(names, dtype=np.int64))
    return NumberedFolder(path, suffixes[0], numbers, names, problems)


def _usual_numbers(path: Path, suffixes: tuple[str, ...], odd: list[str]) -> Iterator[int]:
    """The numbers of the files with the usual kind of name; the other names go to ``odd``."""
    with os.scandir(path) as entries:
        for entry in entries:
            stem, suffix = os.path.splitext(entry.name)
            if stem.isascii() and stem.isdigit() and len(stem) <= 18:
                number = int(stem)
                if entry.name == f"{number:06d}{suffixes[0]}":
                    yield number
                    continue
            if suffix.lower() in suffixes and not stem.startswith("."):
                odd.append(entry.name)


def _holds(numbers: IntArray, number: int) -> bool:
    place = int(np.searchsorted(numbers, number))
    return place < len(numbers) and int(numbers[place]) == number


def _left_out(label: str, name: str, reason: Reason, detail: str) -> Problem:
    return Problem(f"{label}/{name}", None, reason, detail, FILE_LEFT_OUT)
