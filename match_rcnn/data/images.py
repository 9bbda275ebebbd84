"""Image files: their pixels (their sizes alone: :mod:`match_rcnn.data.image_size`).

A file has two ways up. **Stored**: its pixels as they lie in the file; DeepFashion2's annotations
refer to them, so do the sizes of its official converter, and so all annotated boxes and metrics.
**Upright**: turned as its EXIF orientation says, which is how a person sees a photo of their own.
Whoever reads an image says which one is meant.

Shapes: ``H x W`` pixels.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image as PILImage

from match_rcnn.d2 import PathManager, detection_utils
from match_rcnn.data.image_size import (
    EOI,
    IMAGE_SUFFIXES,
    TruncatedImageError,
    UnreadableImageError,
    read_image_size,
)
from match_rcnn.data.problems import MissingDataError
from match_rcnn.utils.arrays import Image
from match_rcnn.utils.files import atomic_write

__all__ = [
    "DECODERS",
    "IMAGE_SUFFIXES",
    "TruncatedImageError",
    "UnreadableImageError",
    "decode_image",
    "read_image",
    "read_image_size",
    "write_image",
]

#: ``INPUT.DECODER``: both give the same pixels (both use libjpeg-turbo, with its default settings);
#: ``opencv`` is faster and serves ordinary JPEG files, PIL all others. Of files that are damaged
#: inside, OpenCV takes a few that PIL refuses.
DECODERS = ("opencv", "pil")

_OPENCV_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
_ORIENTATION = 0x0112  # EXIF's tag
#: From stored pixels to upright ones, by EXIF orientation.
_UPRIGHT: dict[Any, Callable[[Image], Image]] = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: image.swapaxes(0, 1)[:, ::-1],
    7: lambda image: image.swapaxes(0, 1)[::-1, ::-1],
    8: lambda image: image.swapaxes(0, 1)[::-1],
}


def read_image(
    path: str | Path, format: str = "BGR", *, upright: bool, decoder: str = DECODERS[0]
) -> Image:
    """Read an image: (H, W, 3), or as many channels as ``format`` has.

    Args:
        upright: turned as its EXIF data say; False: as its pixels are stored.
        decoder: of :data:`DECODERS`.

    Raises:
        MissingDataError: there is no such file.
        UnreadableImageError: the image cannot be decoded.
        ValueError: an unknown decoder.
    """
    if decoder not in DECODERS:
        known = " or ".join(map(repr, DECODERS))
        raise ValueError(f"INPUT.DECODER must be {known}, got {decoder!r}")
    try:
        with PathManager.open(str(path), "rb") as file:
            data = file.read()
    except FileNotFoundError as error:
        raise MissingDataError(f"no image at {path}") from error
    return decode_image(data, f"image {path}", format, upright=upright, decoder=decoder)


def decode_image(
    data: bytes, name: str, format: str = "BGR", *, upright: bool, decoder: str = DECODERS[0]
) -> Image:
    """An image of a file's bytes. Args and raises: as :func:`read_image`; name: for messages."""
    try:
        image = PILImage.open(io.BytesIO(data))  # reads no more than the header
        turn = _UPRIGHT.get(_orientation(image)) if upright else None
        pixels: Any = None
        if decoder == "opencv" and format == "BGR" and _is_ordinary(image, data):
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _OPENCV_FLAGS)
        if pixels is None:
            image.load()
    except Exception as error:  # PIL's decoders raise nearly anything on damaged files
        raise UnreadableImageError(f"cannot read {name}: {error}") from error
    if pixels is None:
        pixels = detection_utils.convert_PIL_to_numpy(image, format)
    return np.ascontiguousarray(pixels if turn is None else turn(pixels))


def _orientation(image: PILImage.Image) -> Any:
    try:
        return image.getexif().get(_ORIENTATION)
    except Exception:  # damaged EXIF data say nothing
        return None


def _is_ordinary(image: PILImage.Image, data: bytes) -> bool:
    """Whether OpenCV would read what PIL does: not a file that was cut off, which OpenCV fills up
    in silence, nor one of four colours."""
    return image.format == "JPEG" and image.mode in ("RGB", "L") and data.endswith(EOI)


def write_image(path: Path, image: Image) -> None:
    """Write (H, W, 3) in BGR as the file that the path's suffix says, whole or not at all.

    Raises:
        ValueError: the suffix is none of :data:`IMAGE_SUFFIXES`.
    """
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        known = ", ".join(IMAGE_SUFFIXES)
        raise ValueError(f"expected the name of an image ({known}), got {path}")
    encoded = cv2.imencode(path.suffix, image)[1].tobytes()
    with atomic_write(path) as file:
        file.write(encoded)
