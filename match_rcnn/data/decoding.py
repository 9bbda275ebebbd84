"""Image files to pixels, as they are stored.

Shapes: H x W pixels of the file; EXIF orientation is not applied, since DeepFashion2's annotations,
and the image sizes of its official converter, refer to the stored pixels.
"""

import io

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from match_rcnn.d2 import PathManager, detection_utils

#: ``INPUT.DECODER``: both give the same pixels (both use libjpeg-turbo, with its default settings);
#: ``opencv`` is faster and serves ordinary JPEG files, PIL all others. Of files that are damaged
#: inside, OpenCV takes a few that PIL refuses.
DECODERS = ("opencv", "pil")
_END_OF_IMAGE = b"\xff\xd9"
_OPENCV_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


class UnreadableImageError(ValueError):
    """The file is there, but is no image that can be decoded."""


def read_stored_image(
    file_name: str, image_format: str, decoder: str = DECODERS[0]
) -> npt.NDArray[np.uint8]:
    """Read an image as its pixels are stored, (H, W, 3).

    Args:
        image_format: such as "BGR".
        decoder: of :data:`DECODERS`.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableImageError: the image cannot be decoded.
        ValueError: an unknown decoder.
    """
    if decoder not in DECODERS:
        known = " or ".join(map(repr, DECODERS))
        raise ValueError(f"INPUT.DECODER must be {known}, got {decoder!r}")
    with PathManager.open(file_name, "rb") as file:
        data = file.read()
    try:
        image = Image.open(io.BytesIO(data))  # reads no more than the header
        if decoder == "opencv" and image_format == "BGR" and _is_ordinary(image, data):
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _OPENCV_FLAGS)
            if pixels is not None:
                return pixels  # type: ignore[return-value]
        image.load()
    except Exception as error:  # PIL's decoders raise nearly anything on damaged files
        raise UnreadableImageError(f"cannot read image {file_name}: {error}") from error
    return detection_utils.convert_PIL_to_numpy(image, image_format)


def _is_ordinary(image: Image.Image, data: bytes) -> bool:
    """Whether OpenCV would read what PIL does: not a file that was cut off, which OpenCV fills up
    in silence, nor one of four colours."""
    return image.format == "JPEG" and image.mode in ("RGB", "L") and data.endswith(_END_OF_IMAGE)
