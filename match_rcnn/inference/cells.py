"""Pieces of a picture of queries and results: a garment cut out of its photo, framed, with a
caption."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from match_rcnn.utils.arrays import Image

CELL_HEIGHT, CELL_WIDTH, _CAPTION = 200, 160, 36
BACKGROUND, _TEXT = 255, (40, 40, 40)


def cut_box(image: Image, box: Sequence[float] | npt.NDArray[np.floating]) -> Image:
    """The part of an image in a box x1, y1, x2, y2; all of it where the box lies outside."""
    height, width = image.shape[:2]
    x1, y1 = max(0, int(box[0])), max(0, int(box[1]))
    x2, y2 = min(width, int(np.ceil(box[2]))), min(height, int(np.ceil(box[3])))
    return image[y1:y2, x1:x2] if x2 > x1 and y2 > y1 else image


def labelled_cell(
    image: Image | None,
    caption: Sequence[str],
    color: tuple[float, ...] | None = None,
    line_width: int = 2,
) -> Image:
    """(CELL_HEIGHT, CELL_WIDTH, 3): the image as large as it fits, the caption below.

    Args:
        image: (H, W, 3) in BGR; None leaves the cell empty.
        caption: up to two lines.
        color: of a frame, RGB in [0, 1].
    """
    cell = np.full((CELL_HEIGHT, CELL_WIDTH, 3), BACKGROUND, np.uint8)
    room = CELL_HEIGHT - _CAPTION - 8, CELL_WIDTH - 8
    if image is not None:
        scale = min(room[0] / image.shape[0], room[1] / image.shape[1])
        size = max(1, int(image.shape[1] * scale)), max(1, int(image.shape[0] * scale))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        small = cv2.resize(image, size, interpolation=method)
        top, left = 4 + (room[0] - size[1]) // 2, 4 + (room[1] - size[0]) // 2
        cell[top : top + size[1], left : left + size[0]] = small
    if color is not None:
        bgr = tuple(round(255 * v) for v in reversed(color))
        cv2.rectangle(cell, (1, 1), (CELL_WIDTH - 2, CELL_HEIGHT - _CAPTION - 2), bgr, line_width)
    for line, text in enumerate(caption):
        place = (6, CELL_HEIGHT - _CAPTION + 13 + 16 * line)
        cv2.putText(cell, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, _TEXT, 1, cv2.LINE_AA)
    return cell
