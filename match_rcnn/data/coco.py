"""The one reader and the one writer of COCO files: what the official converter writes, and the keys
that it drops.

Shapes used below: ``I`` images, ``N`` items (``annotations``), ``n`` landmarks of a category,
``L`` landmarks of all categories (DeepFashion2: 294).

Dense is the official form: 3L keypoint numbers an item, zero outside the category's slice.
Compact holds the category's 3n only, and the file says ``"info": {"landmarks": "compact"}``.

Added to the official keys: ``source`` and ``pair_id`` of each image; ``source``, ``item`` (its key
in the annotation file), ``category_name``, ``scale``, ``occlusion``, ``zoom_in`` and ``viewpoint``
of each annotation (null where the file lacks them).

:func:`read_coco` gives columns: an array for each key over all images (by rising id) or items (in
the file's order). Labels are optional item by item. A dataset dict of item ``i`` takes
``items.boxes[i]``; ``items.landmarks.of(i, category_id)``, (n, 3) or None;
``items.segmentations[i]``, a list of float64 polygons, a run-length dict or None;
``items.fields["style"][i]``. Memory: these arrays, and one batch of 4 MiB of text with its Python
objects.
"""

import shutil
import tempfile
from array import array
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import orjson

from match_rcnn.data.coco_labels import (
    LandmarkColumns,
    Landmarks,
    SegmentationColumns,
    Segmentations,
    zeros_around,
)
from match_rcnn.data.sources.deepfashion2 import ATTRIBUTES, ImageAnnotation, Item
from match_rcnn.data.taxonomy import DEEPFASHION2, Category, Taxonomy
from match_rcnn.utils.arrays import FloatArray, IntArray
from match_rcnn.utils.columns import Entries, find
from match_rcnn.utils.json_stream import Lift, stream_arrays

COMPACT_INFO = {"landmarks": "compact"}


def category_records(
    compact: bool = False, taxonomy: Taxonomy = DEEPFASHION2
) -> list[dict[str, Any]]:
    """The ``categories`` of a file. Landmarks are named by their number in the L, from 1."""
    return [
        {
            "id": category.id,
            "name": category.coco_name,
            "supercategory": "clothes",
            "keypoints": [str(i + 1) for i in range(taxonomy.num_landmarks)][
                category.slice if compact else slice(None)
            ],
            "skeleton": [],
        }
        for category in taxonomy.categories
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


def encode_annotation(
    record: dict[str, Any], category: Category, compact: bool, taxonomy: Taxonomy = DEEPFASHION2
) -> bytes:
    """``record`` as JSON without the opening brace, so that an ``id`` can be put before it."""
    if not compact:
        before, after, _ = zeros_around(taxonomy)[category.id]
        own = orjson.dumps(record["keypoints"])[1:-1]
        record["keypoints"] = orjson.Fragment(b"[" + before + own + after + b"]")
    return orjson.dumps(record)[1:]


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


#: Integer columns of items, with what stands for a missing value.
FIELDS: Mapping[str, int] = {"style": -1, "pair_id": -1, **dict.fromkeys(ATTRIBUTES, 0)}


@dataclass(frozen=True)
class Images:
    """The ``images`` of a file, by rising id.

    Attributes:
        ids: (I,) rising.
        sizes: (I, 2) height, width; 0 where the file has none.
        file_names: (I,) ``""`` where the file has none.
        sources: (I,) ``"user"`` or ``"shop"``, of the image or else of its annotations; ``""``:
            of neither. pair_ids: (I,) likewise, -1: neither.
    """

    ids: IntArray
    sizes: IntArray
    file_names: tuple[str, ...]
    sources: tuple[str, ...]
    pair_ids: IntArray


@dataclass(frozen=True)
class Items:
    """The ``annotations`` of a file.

    Attributes:
        ids: (N,), no two alike.
        image: (N,) indices into the file's images.
        category_ids: (N,) as the file has them.
        boxes: (N, 4) x, y, width, height.
        areas: (N,); of the box where the file has none.
        crowd: (N,) ``iscrowd``.
        num_keypoints: (N,) as the file has them, or how many landmarks are labelled; -1 where
            landmarks were not asked for.
        landmarks, segmentations: None if they were not asked for.
        fields: (N,) each, by the names of ``FIELDS``.
    """

    ids: IntArray
    image: IntArray
    category_ids: IntArray
    boxes: FloatArray
    areas: FloatArray
    crowd: npt.NDArray[np.bool_]
    num_keypoints: IntArray
    landmarks: Landmarks | None
    segmentations: Segmentations | None
    fields: dict[str, IntArray]


@dataclass(frozen=True)
class CocoFile:
    """Attributes:
    items: None if the file has no list ``annotations``: a test set.
    categories: as the file has them; empty if it has none.
    """

    path: Path
    images: Images
    items: Items | None
    categories: tuple[dict[str, Any], ...]


def read_coco(
    path: str | Path,
    labels: Collection[str] = ("landmarks", "segmentations"),
    taxonomy: Taxonomy = DEEPFASHION2,
    fields: Collection[str] = tuple(FIELDS),
) -> CocoFile:
    """Read a COCO file.

    Args:
        labels: of ``landmarks``, ``segmentations``, what is asked for of the items.
        taxonomy: says the landmarks of each category; if they are not asked for, category ids
            are not looked at.
        fields: of ``FIELDS``, what is asked for of the items.

    Raises:
        FileNotFoundError, ValueError: the message names the file, the entry and what is wrong.
    """
    reader = _Reader(Path(path), labels, taxonomy, fields)
    for key, entries in stream_arrays(path, lift=reader.lift):
        if key is None:
            raise ValueError(f"{path}: expected an object with images and annotations, got a list")
        reader.add(key, entries)
    return reader.build()


class _Reader:
    def __init__(
        self, path: Path, labels: Collection[str], taxonomy: Taxonomy, fields: Collection[str]
    ) -> None:
        self.path = path
        self.fields = {name: missing for name, missing in FIELDS.items() if name in fields}
        points, outlines = "landmarks" in labels, "segmentations" in labels
        self.lift: Lift = {"annotations": {"keypoints": (1, points), "segmentation": (2, outlines)}}
        self.landmarks = LandmarkColumns(taxonomy) if "landmarks" in labels else None
        self.segmentations = SegmentationColumns() if "segmentations" in labels else None
        self.counts = {"images": -1, "annotations": -1, "categories": -1}  # -1: no such list
        self.images: list[tuple[Any, ...]] = []
        self.items: list[tuple[Any, ...]] = []
        self.categories: list[dict[str, Any]] = []
        self.sources: dict[int, str] = {}  # by image id, from annotations

    def add(self, key: str, items: list[Any]) -> None:
        if key not in self.counts:
            return
        start = max(0, self.counts[key])
        self.counts[key] = start + len(items)
        place = {"images": "image", "annotations": "annotation", "categories": "category"}[key]
        entries = Entries(items, start, f"{self.path}, {place}")
        if key == "images":
            self._add_images(entries)
        elif key == "annotations":
            self._add_items(entries)
        else:
            self._add_categories(entries)

    def _add_images(self, entries: Entries) -> None:
        ids = entries.integers("id")
        items = entries.items
        if all("height" in item and "width" in item for item in items):
            sizes = np.stack([entries.integers("height"), entries.integers("width")], axis=1)
        else:
            sizes = np.stack([_integers(items, key, 0) for key in ("height", "width")], axis=1)
            sizes[(sizes == 0).any(1)] = 0
        names = [str(item.get("file_name") or "") for item in items]
        sources = [str(item.get("source") or "") for item in items]
        self.images.append((ids, sizes, names, sources, _integers(items, "pair_id", -1)))

    def _add_categories(self, entries: Entries) -> None:
        entries.column("name")
        entries.integers("id")
        self.categories += entries.items

    def _add_items(self, entries: Entries) -> None:
        items = entries.items
        ids, image_ids = entries.integers("id"), entries.integers("image_id")
        category_ids, boxes = entries.integers("category_id"), entries.numbers("bbox", 4)
        for item, (w, h) in zip(items, boxes[:, 2:].tolist(), strict=True):
            item.setdefault("area", w * h)
        fields = [_integers(items, name, missing) for name, missing in self.fields.items()]
        counts: IntArray = np.full(len(items), -1, dtype=np.int64)
        if self.landmarks is not None:
            groups = self.landmarks.parse(entries, category_ids)
            self.landmarks.add(len(items), groups)
            counts[:] = 0
            for _, members, table in groups:
                counts[members] = (table[:, :, 2] > 0).sum(1)
            said = _integers(items, "num_keypoints", -1)
            counts = np.where(said >= 0, said, counts)
        if self.segmentations is not None:
            self.segmentations.add(entries)
        crowd = np.array([bool(item.get("iscrowd")) for item in items], dtype=bool)
        areas = entries.numbers("area")
        self.items.append((ids, image_ids, category_ids, boxes, areas, crowd, counts, *fields))
        sources = [item.get("source") for item in items]
        pairs = zip(image_ids.tolist(), sources, strict=True)
        self.sources |= {image_id: str(source) for image_id, source in pairs if source}

    def build(self) -> CocoFile:
        if self.counts["images"] < 0:
            raise ValueError(f"{self.path}: no list 'images'; is this a file in COCO form?")
        categories = tuple(self.categories)
        images = self._images()
        items = None if self.counts["annotations"] < 0 else self._items(images)
        if items is not None and "pair_id" in self.fields:
            said = items.fields["pair_id"]
            unknown = (images.pair_ids[items.image] < 0) & (said >= 0)
            images.pair_ids[items.image[unknown]] = said[unknown]
        return CocoFile(self.path, images, items, categories)

    def _images(self) -> Images:
        if not self.images:
            self._add_images(Entries([], 0, ""))
        all_ids, all_sizes, all_names, all_sources, all_pairs = zip(*self.images, strict=True)
        ids = np.concatenate(all_ids)
        self._refuse_duplicates(ids, "image id")
        names, sources = list(chain(*all_names)), list(chain(*all_sources))
        order = np.argsort(ids, kind="stable")
        places = order.tolist()
        return Images(
            ids[order],
            np.concatenate(all_sizes)[order],
            tuple(names[i] for i in places),
            tuple(self.sources.get(int(ids[i]), sources[i]) for i in places),
            np.concatenate(all_pairs)[order],
        )

    def _items(self, images: Images) -> Items:
        if not self.items:
            self._add_items(Entries([], 0, ""))
        columns = [np.concatenate(parts) for parts in zip(*self.items, strict=True)]
        ids, image_ids, category_ids, boxes, areas, crowd, counts, *fields = columns
        image = find(images.ids, image_ids)
        for index in np.flatnonzero(image < 0):
            entries = Entries([], int(index), f"{self.path}, annotation")
            raise entries.error(
                0, f"unknown image_id {image_ids[index]}: the file's own list does not have it"
            )
        self._refuse_duplicates(ids, "annotation id")
        return Items(
            ids,
            image,
            category_ids,
            boxes,
            areas,
            crowd,
            counts,
            None if self.landmarks is None else self.landmarks.build(),
            None if self.segmentations is None else self.segmentations.build(),
            dict(zip(self.fields, fields, strict=True)),
        )

    def _refuse_duplicates(self, ids: IntArray, what: str) -> None:
        values, counts = np.unique(ids, return_counts=True)
        for value in values[counts > 1]:
            raise ValueError(f"{self.path}: {what} {value} occurs more than once")


def _integers(items: Sequence[Any], key: str, missing: int) -> IntArray:
    try:  # the usual case, three times as fast
        found = array("q", map(itemgetter(key), items))
        return np.frombuffer(found, dtype=np.int64) if found else np.zeros(0, dtype=np.int64)
    except (KeyError, TypeError, OverflowError):
        values = [item.get(key) for item in items]
    return np.array([v if type(v) is int else missing for v in values], dtype=np.int64)
