"""The photos and video frames behind a command's paths, each under a name of its own."""

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from match_rcnn.data.images import IMAGE_SUFFIXES, read_image, read_image_size
from match_rcnn.inference.bulk import BROKEN, Shot
from match_rcnn.utils.arrays import Image

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")
LIST_SUFFIX = ".txt"


class Frame(NamedTuple):
    """Of a video. Attributes: last: no other is taken after it; rate: of those taken, a second."""

    number: int
    seconds: float
    last: bool
    rate: float


def find_files(paths: Sequence[Path], without: Path | None = None) -> list[Path]:
    """Photos and videos, each once: of folders all below, of a text file those that it lists.

    Args:
        paths: files, folders, and lists (.txt, a path a line, relative to the list's folder).
        without: a folder whose files do not count, as the command itself writes there.

    Raises:
        FileNotFoundError: a path that was given is not there, or nothing was found.
        ValueError: a file that was given is neither photo nor video.
    """
    found: dict[Path, None] = {}
    for path in paths:
        for file in _expanded(path):
            whole = Path(os.path.abspath(file))
            if without is None or not whole.is_relative_to(without.absolute()):
                found[whole] = None
    if not found:
        raise FileNotFoundError(f"no photos or videos in {', '.join(map(str, paths))}")
    return list(found)


def _expanded(path: Path) -> Iterable[Path]:
    known = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
    if path.is_dir():
        return sorted(p for p in path.rglob("*") if p.suffix.lower() in known and p.is_file())
    if path.suffix.lower() == LIST_SUFFIX and path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines()
        return [path.parent / line.strip() for line in lines if line.strip()]
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}")
    if path.suffix.lower() not in known:
        raise ValueError(
            f"{path} is no photo ({', '.join(IMAGE_SUFFIXES)}), video "
            f"({', '.join(VIDEO_SUFFIXES)}), folder or list ({LIST_SUFFIX})"
        )
    return [path]


def common_folder(files: Sequence[Path]) -> Path:
    """The deepest folder that holds them all."""
    return Path(os.path.commonpath([file.parent for file in files]))


def name_of(file: Path, root: Path) -> str:
    """A file's name in results: its path from ``root``, with slashes."""
    try:
        return Path(os.path.relpath(file, root)).as_posix()
    except ValueError:  # another drive
        return file.as_posix()


def is_video(name: str | Path) -> bool:
    return Path(name).suffix.lower() in VIDEO_SUFFIXES


def shots(files: Iterable[Path], root: Path, every: int = 1) -> Iterator[Shot]:
    """Photos upright; of videos every n-th frame, with a :class:`Frame`."""
    for file in files:
        name = name_of(file, root)
        if is_video(file):
            yield from _frames(file, name, every)
            continue
        try:
            width, height = read_image_size(file)
        except BROKEN:  # reading it says why
            width = height = 0
        yield Shot(name, partial(read_image, file, upright=True), width * height)


def _frames(file: Path, name: str, every: int) -> Iterator[Shot]:
    video = cv2.VideoCapture(str(file))
    rate = video.get(cv2.CAP_PROP_FPS) or 25.0
    before: tuple[int, Image] | None = None
    number = 0
    try:
        while video.grab():
            if number % every == 0:
                whole, image = video.retrieve()
                if not whole:
                    break
                if before is not None:
                    yield _frame(name, *before, rate, every, last=False)
                before = number, np.asarray(image, np.uint8)
            number += 1
    finally:
        video.release()
    if before is None:
        yield Shot(name, partial(_unreadable, file))
        return
    yield _frame(name, *before, rate, every, last=True)


def _frame(name: str, number: int, image: Image, rate: float, every: int, last: bool) -> Shot:
    height, width = image.shape[:2]
    frame = Frame(number, number / rate, last, rate / every)
    return Shot(name, lambda: image, height * width, frame)


def _unreadable(file: Path) -> Image:
    raise ValueError(f"{file} is no video that can be read")
