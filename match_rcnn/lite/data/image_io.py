"""Image files to arrays, and the formats in between.

Formats: PIL's mode names ("RGB", "L", ...), "BGR", and "YUV-BT.601" (float, Y in 0..1).
Shapes: H, W pixels after the EXIF orientation is applied; C channels.
"""

from os import PathLike
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from match_rcnn.lite.utils.file_io import PathManager

# https://en.wikipedia.org/wiki/YUV#SDTV_with_BT.601
_YUV_FROM_RGB = np.array(
    [[0.299, 0.587, 0.114], [-0.14713, -0.28886, 0.436], [0.615, -0.51499, -0.10001]]
)
_RGB_FROM_YUV = np.array([[1.0, 0.0, 1.13983], [1.0, -0.39465, -0.58060], [1.0, 2.03211, 0.0]])

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
        (H, W, C) array, uint8 for the usual formats; (H, W, 1) for "L"; float for "YUV-BT.601".

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no image or is damaged; the message names it.
    """
    file_name = str(file_name)
    with PathManager.open(file_name, "rb") as file:
        try:
            image = Image.open(file)
            image.load()
        # A damaged file can end in nearly any exception of PIL's decoders.
        except Exception as error:
            raise ValueError(f"cannot read image {file_name}: {error}") from error
        return convert_PIL_to_numpy(_upright(image), format)


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
    if format == "YUV-BT.601":
        return np.asarray(image.convert("RGB")) / 255.0 @ _YUV_FROM_RGB.T
    array = np.asarray(image.convert(format))
    return array[:, :, None] if format == "L" else array


def convert_image_to_rgb(image: NDArray[Any] | torch.Tensor, format: str) -> NDArray[Any]:
    """An (H, W, C) image in ``format`` as (H, W, 3) RGB in 0..255.

    uint8, but for BGR, which keeps its dtype, and YUV-BT.601, which gives floats.
    """
    array = image.cpu().numpy() if isinstance(image, torch.Tensor) else image
    if format == "BGR":
        return array[:, :, ::-1].copy()
    if format == "YUV-BT.601":
        return array @ _RGB_FROM_YUV.T * 255.0
    array = (array[:, :, 0] if format == "L" else array).astype(np.uint8)
    if format in ("L", "RGB", "RGBA"):
        return np.asarray(Image.fromarray(array).convert("RGB"))
    height, width = array.shape[:2]
    return np.asarray(Image.frombytes(format, (width, height), array.tobytes()).convert("RGB"))


def check_image_size(dataset_dict: dict[str, Any], image: NDArray[Any]) -> None:
    """Compare (H, W, ...) ``image`` with "height" and "width"; fill those in where missing.

    Raises:
        SizeMismatchError: they differ.
    """
    height, width = image.shape[:2]
    stated = (dataset_dict.get("width", width), dataset_dict.get("height", height))
    if stated != (width, height):
        name = f" for image {dataset_dict['file_name']}" if "file_name" in dataset_dict else ""
        raise SizeMismatchError(
            f"Mismatched image shape{name}, got {(width, height)}, expect {stated} (width, "
            "height). Please check the width/height in your annotation; they count after the "
            "EXIF orientation is applied."
        )
    # Results are scaled back to these.
    dataset_dict.setdefault("width", width)
    dataset_dict.setdefault("height", height)
