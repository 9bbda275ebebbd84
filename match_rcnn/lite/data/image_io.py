"""Image files to arrays, and the formats in between.

Formats: "BGR", and PIL's mode names ("RGB", "L", ...). Shapes: H, W pixels after the EXIF
orientation is applied; C channels.
"""

from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..utils.file_io import PathManager

_EXIF_ORIENTATION = 0x0112
# What brings an image with this value of the tag upright; 1 is upright already.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class SizeMismatchError(ValueError):
    """An image is not of the size that its annotation states."""


def read_image(file_name: str | PathLike[str], format: str | None = None) -> NDArray[Any]:
    """Read an image file, upright (EXIF orientation applied).

    Args:
        file_name: path, or whatever PathManager opens.
        format: see the module; None keeps the file's own mode.

    Returns:
        (H, W, C) uint8 for the usual formats; (H, W, 1) for "L".

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no image or is damaged; the message names it.
    """
    with PathManager.open(str(file_name), "rb") as file:
        try:
            decoded = Image.open(file)
            decoded.load()
        # A damaged file can end in nearly any exception of PIL's decoders.
        except Exception as error:
            raise ValueError(f"cannot read image {file_name}: {error}") from error
        return convert_PIL_to_numpy(_upright(decoded), format)


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; unreadable EXIF data counts as none."""
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # damaged EXIF must not cost a good picture; the decoders raise anything
        return image
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def convert_PIL_to_numpy(image: Image.Image, format: str | None) -> NDArray[Any]:
    """A PIL image as an (H, W, C) array in ``format``; as it is when ``format`` is None."""
    if format is None:
        return np.asarray(image)
    if format == "BGR":
        # Exchanging PIL's planes is several times faster than working on a reversed view later.
        red, green, blue = image.convert("RGB").split()
        return np.asarray(Image.merge("RGB", (blue, green, red)))
    pixels = np.asarray(image.convert(format))
    return pixels[:, :, None] if format == "L" else pixels


def check_image_size(dataset_dict: dict[str, Any], image: NDArray[Any]) -> None:
    """Compare (H, W, ...) ``image`` with "height" and "width"; fill those in where missing.

    Raises:
        SizeMismatchError: they differ.
    """
    for edge, found in zip(("height", "width"), image.shape[:2], strict=True):
        # Where it is missing, it is filled in: results are scaled back to it.
        stated = dataset_dict.setdefault(edge, found)
        if stated != found:
            name = dataset_dict.get("file_name", "of an image")
            raise SizeMismatchError(
                f"{name}: the annotation's {edge} is {stated}, the image's {found}"
            )
