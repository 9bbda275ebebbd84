"""Annotations in COCO form: what the official converter writes, and the keys that it drops.

Shapes used below: ``n`` landmarks of a category, ``L = 294`` landmarks of all.

Dense is the official form: 3L keypoint numbers an item, zero outside the category's slice.
Compact holds the category's 3n only, and the file says ``"info": {"landmarks": "compact"}``.

Added to the official keys: ``source`` and ``pair_id`` of each image; ``source``, ``item`` (its key
in the annotation file), ``category_name``, ``scale``, ``occlusion``, ``zoom_in`` and ``viewpoint``
of each annotation (null where the file lacks them).
"""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import orjson

from match_rcnn.data.sources.deepfashion2 import ImageAnnotation, Item
from match_rcnn.data.taxonomy import CATEGORIES, NUM_LANDMARKS, Category

COMPACT_INFO = {"landmarks": "compact"}


def category_records(compact: bool = False) -> list[dict[str, Any]]:
    """The ``categories`` of a file. Landmarks are named by their number in the 294, from 1."""
    return [
        {
            "id": category.id,
            "name": category.coco_name,
            "supercategory": "clothes",
            "keypoints": [str(i + 1) for i in range(NUM_LANDMARKS)][
                category.slice if compact else slice(None)
            ],
            "skeleton": [],
        }
        for category in CATEGORIES
    ]


def image_record(
    image_id: int, file_name: str, width: int, height: int, annotation: ImageAnnotation
) -> dict[str, Any]:
    """An entry of ``images``."""
    return {
        "coco_url": "",
        "date_captured": "",
        "file_name": file_name,
        "flickr_url": "",
        "id": image_id,
        "license": 0,
        "width": width,
        "height": height,
        "source": annotation.source,
        "pair_id": annotation.pair_id,
    }


def annotation_record(image_id: int, annotation: ImageAnnotation, item: Item) -> dict[str, Any]:
    """An entry of ``annotations`` but for its ``id``, with the category's 3n keypoint numbers.

    ``area`` is w * h of the box, not the polygons': OKS stands on it.
    """
    w, h = item.bbox[2:]
    return {
        "area": w * h,
        "bbox": item.bbox,
        "category_id": item.category.id,
        "pair_id": annotation.pair_id,
        "image_id": image_id,
        "iscrowd": 0,
        "style": item.style,
        "num_keypoints": item.num_labelled,
        "keypoints": item.landmarks,
        "segmentation": item.segmentation,
        "source": annotation.source,
        "item": item.key,
        "category_name": item.category.name,
        "scale": item.scale,
        "occlusion": item.occlusion,
        "zoom_in": item.zoom_in,
        "viewpoint": item.viewpoint,
    }


def encode_annotation(record: dict[str, Any], category: Category, compact: bool) -> bytes:
    """``record`` as JSON without the opening brace, so that an ``id`` can be put before it."""
    if not compact:
        before, after = _ZEROS[category.id - 1]
        own = orjson.dumps(record["keypoints"])[1:-1]
        record["keypoints"] = orjson.Fragment(before + own + after)
    return orjson.dumps(record)[1:]


_ZEROS = [
    (
        b"[" + b"0,0,0," * category.slice.start,
        b",0,0,0" * (NUM_LANDMARKS - category.slice.stop) + b"]",
    )
    for category in CATEGORIES
]


class CocoWriter:
    """Streams images and annotations into one COCO file, in constant memory.

    The two are separate arrays of the file; the annotations (the bulk) go straight to it, the
    images through an unnamed temporary file. Use as a context manager; the file is complete when
    the block has ended without an error.
    """

    def __init__(self, file: BinaryIO, compact: bool, folder: str | Path | None = None) -> None:
        """
        Args:
            file: what to write to.
            compact: whether keypoints are compact.
            folder: where the temporary file lies; it needs room for the images' part.
        """
        self.num_images = 0
        self.num_annotations = 0
        self._file = file
        self._images = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed in __exit__)
        head = {
            "info": COMPACT_INFO if compact else {},
            "licenses": [],
            "categories": category_records(compact),
        }
        file.write(orjson.dumps(head)[:-1] + b',\n"annotations":[\n')

    def __enter__(self) -> "CocoWriter":
        return self

    def write(self, images: Sequence[bytes], annotations: Sequence[bytes]) -> None:
        """Append encoded images, and annotations from :func:`encode_annotation`, which get the
        next ids."""
        first = self.num_annotations + 1
        self.num_annotations += len(annotations)
        with_ids = (b'{"id":%d,%b' % pair for pair in enumerate(annotations, first))
        _append(self._file, list(with_ids), first == 1)
        _append(self._images, images, self.num_images == 0)
        self.num_images += len(images)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._images:
            if kind is None:
                self._file.write(b'\n],\n"images":[\n')
                self._images.seek(0)
                shutil.copyfileobj(self._images, self._file)
                self._file.write(b"\n]}\n")


def _append(file: BinaryIO, records: Sequence[bytes], is_first: bool) -> None:
    if records:
        file.write((b"" if is_first else b",\n") + b",\n".join(records))
