"""Photos in a report: drawn, cut and shrunk, as JPEG inside the page."""

import base64
import logging
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from match_rcnn.data.images import IMAGE_SUFFIXES, read_image
from match_rcnn.evaluation.coco.arrays import Detections, GroundTruth, Landmarks
from match_rcnn.inference.drawing import draw_garments
from match_rcnn.reporting.numbers.runs import Run
from match_rcnn.structures import Garment
from match_rcnn.utils.arrays import FloatArray, Image

logger = logging.getLogger(__name__)

_SIDE = 320  # of a photo in the page, pixels
_THUMB = 120
_QUALITY = 82


def data_uri(image: Image) -> str:
    """(H, W, 3) BGR as a JPEG in an address."""
    parameters = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    encoded = cv2.imencode(".jpg", image, parameters)[1].tobytes()
    return "data:image/jpeg;base64," + base64.b64encode(encoded).decode("ascii")


def photo(run: Run, image_id: int) -> Image | None:
    """The photo of an image id, by the name that the annotations give it or by its number
    (``000001.jpg``); ``None`` if it is not there or not readable."""
    if run.image_root is None:
        return None
    names = [f"{image_id:06d}{suffix}" for suffix in IMAGE_SUFFIXES]
    if run.truth is not None:
        places = run.truth.image_index(np.array([image_id]))
        names[:0] = [run.truth.file_names[i] for i in places.tolist() if i >= 0]
    files = (run.image_root / name for name in names if name)
    return next((_read(file) for file in files if file.is_file()), None)


@lru_cache(maxsize=64)
def _read(file: Path) -> Image | None:
    try:
        return read_image(file, upright=False)
    except ValueError as error:
        logger.warning("%s", error)
        return None


def shrink(image: Image, side: int) -> Image:
    """At most ``side`` pixels wide and high."""
    scale = side / max(image.shape[:2])
    if scale >= 1:
        return image
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def cut(image: Image, box: FloatArray) -> str:
    """The part in a box x1, y1, x2, y2, with a tenth around it, as an address."""
    margin = 0.1 * (box[2:] - box[:2])
    low = np.clip(np.floor(box[:2] - margin).astype(int), 0, None)
    high = np.ceil(box[2:] + margin).astype(int)
    part = image[low[1] : high[1], low[0] : high[0]]
    return data_uri(shrink(part if part.size else image, _THUMB))


def drawn_truth(truth: GroundTruth, index: int, image: Image) -> str:
    """An image with its annotations drawn in, as an address."""
    garments = [
        Garment(
            truth.taxonomy.category(truth.category_ids[truth.category[i]]),
            _corners(truth.boxes[i]),
            landmarks=_points(truth.landmarks, truth.category_ids[truth.category[i]], i, True),
        )
        for i in np.flatnonzero(truth.image == index)
    ]
    return data_uri(_draw(image, garments))


def drawn_found(run: Run, index: int, image: Image, threshold: float) -> str:
    """An image with the run's detections from ``threshold`` on drawn in, as an address. A box has
    the landmarks of the landmark detection with its score and category."""
    assert run.truth is not None
    found, points = run.found["bbox"], run.found.get("keypoints")
    own = np.flatnonzero((found.image == index) & (found.scores >= threshold))
    garments = []
    for i in own:
        category_id = int(run.truth.category_ids[found.category[i]])
        assert found.boxes is not None
        garments.append(
            Garment(
                run.truth.taxonomy.category(category_id),
                _corners(found.boxes[i]),
                float(found.scores[i]),
                _twin(points, category_id, found, int(i)),
            )
        )
    return data_uri(_draw(image, garments))


def _twin(
    points: Detections | None, category_id: int, found: Detections, index: int
) -> npt.NDArray[np.float32] | None:
    if points is None:
        return None
    same = (points.image == found.image[index]) & (points.category == found.category[index])
    same &= points.scores == found.scores[index]
    twins = np.flatnonzero(same)
    return _points(points.landmarks, category_id, int(twins[0]), False) if len(twins) else None


def _points(
    landmarks: Landmarks | None, category_id: int, index: int, annotated: bool
) -> npt.NDArray[np.float32] | None:
    """(n, 3) in the host's convention; detections have 1 as every landmark's score."""
    if landmarks is None or landmarks.rows[index] < 0:
        return None
    own = landmarks.tables[int(category_id)][landmarks.rows[index]].astype(np.float32)
    last = own[:, 2:] if annotated else np.ones((len(own), 1), dtype=np.float32)
    return np.hstack([own[:, :2] + 0.5, last])


def _corners(box: FloatArray) -> npt.NDArray[np.float32]:
    return np.concatenate([box[:2], box[:2] + box[2:]]).astype(np.float32)


def _draw(image: Image, garments: list[Garment]) -> Image:
    """Drawn at the size of the page, so that lines and letters are readable."""
    return draw_garments(image, garments, scale=_SIDE / max(image.shape[:2]))
