"""Sizes of image files, from their headers.

Apart from :mod:`match_rcnn.data.images`, which decodes: the converter's processes load neither
torch nor OpenCV.
"""

import struct
from pathlib import Path
from typing import BinaryIO

from PIL import Image as PILImage

#: The usual one first.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_HEAD = 4096
_SOI, EOI = b"\xff\xd8", b"\xff\xd9"
_PNG_END = b"IEND\xaeB`\x82"
_SEGMENT = struct.Struct(">BBHBHH")  # 0xff, marker, length, then of a frame: precision, h, w
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_FILL, _SCAN = 0xFF, 0xDA


class UnreadableImageError(ValueError):
    """The file is there, and is no image that can be read."""


class TruncatedImageError(UnreadableImageError):
    """The file begins as an image, and its pixels cannot be decoded to the end."""


def read_image_size(path: str | Path) -> tuple[int, int]:
    """(width, height) of the stored pixels, from the file's header.

    A truncated image still has its header. So the end of the file is looked at too: a JPEG that
    ends with the EOI marker, or a PNG that ends with IEND, is taken as complete (damage in its
    middle stays unseen), and only a file that ends otherwise is decoded, which tells truncation
    from harmless bytes after the end.

    Raises:
        FileNotFoundError: there is no such file.
        TruncatedImageError: the image ends early.
        UnreadableImageError: the file is no image.
    """
    with open(path, "rb", buffering=0) as file:
        head = file.read(_HEAD)
        length = file.seek(0, 2)
        file.seek(max(0, length - len(_PNG_END)))
        tail = file.read(len(_PNG_END))
        if head.startswith(_SOI) and tail.endswith(EOI):
            size = _jpeg_size(file, head)
            if size is not None:
                return size
    return _size_by_pillow(path, complete=tail.endswith((EOI, _PNG_END)))


def _jpeg_size(file: BinaryIO, head: bytes) -> tuple[int, int] | None:
    """Walk the segments to the frame header; None where the file is unusual."""
    position = len(_SOI)
    while True:
        segment = head[position : position + _SEGMENT.size]
        if len(segment) < _SEGMENT.size:
            file.seek(position)
            segment = file.read(_SEGMENT.size)
            if len(segment) < _SEGMENT.size:
                return None
        start, marker, length, _, height, width = _SEGMENT.unpack(segment)
        if start != _FILL or marker == _SCAN or length < 2:
            return None
        if marker in _FRAMES:
            return (width, height) if width and height else None
        position += 1 if marker == _FILL else 2 + length


def _size_by_pillow(path: str | Path, complete: bool) -> tuple[int, int]:
    try:
        image = PILImage.open(path)
    except Exception as error:
        raise UnreadableImageError(f"expected an image, got {_first_line(error)}") from error
    with image:
        try:
            if not complete:
                image.load()
        except Exception as error:
            raise TruncatedImageError(
                f"expected a whole image, got {_first_line(error)}"
            ) from error
        return image.size


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
