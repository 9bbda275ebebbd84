"""Any COCO file as dataset dicts (their keys: :mod:`match_rcnn.data.datasets`).

Masks, landmarks, attributes and pairs are optional item by item. Ignore regions (``iscrowd``) come
along as boxes. Items that no model can use are left out with a warning that counts them.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_util

from match_rcnn.d2 import BoxMode
from match_rcnn.data.coco import CocoFile, read_coco
from match_rcnn.data.image_sources import SOURCES
from match_rcnn.data.sources import DataSet, check_keys, data_source
from match_rcnn.data.sources.deepfashion2 import ATTRIBUTES
from match_rcnn.data.taxonomy import DEEPFASHION2, Category, Taxonomy
from match_rcnn.utils.arrays import Array, Float32Array
from match_rcnn.utils.json_stream import stream_arrays

logger = logging.getLogger(__name__)

DatasetDict = dict[str, Any]

LABELS = ("masks", "landmarks")
#: In a category map, in the place of a category: its items are ignore regions, or left out.
IGNORE, NONE = "ignore", "none"

_KEYS = {"annotations", "images", "labels", "taxonomy", "categories", "pairs", "photos"}


@dataclass(frozen=True)
class CocoSource:
    """A COCO file and what of it is wanted; called, it gives the dataset dicts.

    Attributes:
        name: of the data set, for messages.
        file, image_root: of the annotations, and of the images that they name.
        file_taxonomy: the file's categories.
        taxonomy: those of the dataset dicts.
        category_map: by a category's name in the file, the name in ``taxonomy``,
            :data:`IGNORE` or :data:`NONE`; empty: the two taxonomies are the same.
        labels: of :data:`LABELS`, which are used.
        pairs: whether items of one ``pair_id``, in photos of users and of shops, show one product;
            None: where their ``style`` is equal and above 0 too, as in DeepFashion2.
        photos: ``"user"`` or ``"shop"`` where all are; None: the file says it.
        needs_masks: leave items without a mask out.
    """

    name: str
    file: Path
    image_root: Path
    file_taxonomy: Taxonomy
    taxonomy: Taxonomy
    category_map: Mapping[str, str] = field(default_factory=dict, hash=False)
    labels: Sequence[str] = LABELS
    pairs: bool | None = None
    photos: str | None = None
    needs_masks: bool = False

    def __post_init__(self) -> None:
        if self.photos is not None and self.photos not in SOURCES:
            raise ValueError(f"photos: expected {' or '.join(SOURCES)}, got {self.photos!r}")
        if self.pairs is not None and not isinstance(self.pairs, bool):
            raise ValueError(f"pairs: expected true or false, got {self.pairs!r}")
        for category in self.file_taxonomy.categories:
            self.target(category)
        for name in self.category_map:
            self.file_taxonomy.named(name)

    def target(self, category: Category) -> Category | str:
        """What items of one of the file's categories become.

        Raises:
            ValueError: the map does not say it, or names no category of ``taxonomy``.
        """
        if not self.category_map:
            return category
        said = [self.category_map[name] for name in category.names if name in self.category_map]
        if not said:
            raise ValueError(
                f"categories: expected what {category.name!r} of {self.file} becomes: a category "
                f"of {self.taxonomy.name}, {IGNORE!r} or {NONE!r}"
            )
        return said[0] if said[0] in (IGNORE, NONE) else self.taxonomy.named(str(said[0]))

    def data_set(self) -> DataSet:
        """What is registered of it."""
        where = {"image_root": str(self.image_root)}
        if not self.category_map:  # else the file's categories are not those of the model
            where["json_file"] = str(self.file)
        return DataSet(self, self.taxonomy, where)

    def __call__(self) -> list[DatasetDict]:
        """The dataset dicts, by image id, as the host's own loader orders them.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file holds something else; the message says what and where.
        """
        wanted = {"masks": "segmentations", "landmarks": "landmarks"}
        found = read_coco(self.file, [wanted[label] for label in self.labels], self.file_taxonomy)
        check_categories(found, self.file_taxonomy)
        dicts = _Reader(self, found).dataset_dicts()
        count = sum(len(image["annotations"]) for image in dicts)
        logger.info("%s: %d images with %d items from %s", self.name, len(dicts), count, self.file)
        return dicts


def check_categories(found: CocoFile, taxonomy: Taxonomy) -> None:
    """
    Raises:
        ValueError: the file gives an id another name than the taxonomy.
    """
    for record in found.categories:
        try:
            expected = taxonomy.category(record["id"])
        except ValueError as error:
            raise ValueError(f"{error} in {found.path} (categories)") from error
        if record["name"] not in expected.names:
            raise ValueError(
                f"expected the category {expected.coco_name!r}, got {record['name']!r} in "
                f"{found.path} (categories, id {record['id']})"
            )


class _Reader:
    """From columns to dataset dicts."""

    def __init__(self, source: CocoSource, file: CocoFile) -> None:
        if file.items is None:
            raise ValueError(f"{file.path}: expected a list 'annotations', got none")
        self.source, self.file, self.items = source, file, file.items
        self.left_out: dict[str, list[int]] = defaultdict(list)
        self.targets = {c.id: source.target(c) for c in source.file_taxonomy.categories}

    def dataset_dicts(self) -> list[DatasetDict]:
        dicts = [self._image(index) for index in range(len(self.file.images.ids))]
        for item, image in enumerate(self.items.image.tolist()):
            annotation = self._annotation(item, dicts[image])
            if annotation is not None:
                dicts[image]["annotations"].append(annotation)
        for reason, ids in self.left_out.items():
            text = "%s: %d items left out, %s, such as annotation %d"
            logger.warning(text, self.file.path, len(ids), reason, ids[0])
        return dicts

    def _image(self, index: int) -> DatasetDict:
        images = self.file.images
        number, name = int(images.ids[index]), images.file_names[index]
        height, width = images.sizes[index].tolist()
        if not name or height < 1 or width < 1:
            raise ValueError(
                f"{self.file.path}, image id {number}: expected file_name, width and height, got "
                f"{name!r}, {width} and {height}"
            )
        pair_id = int(images.pair_ids[index])
        is_paired = pair_id >= 0 and self.source.pairs is not False
        return {
            "file_name": str(self.source.image_root / name),
            "image_id": number,
            "height": height,
            "width": width,
            "source": self.source.photos or images.sources[index] or None,
            "pair_id": pair_id if is_paired else None,
            "annotations": [],
        }

    def _annotation(self, item: int, image: DatasetDict) -> dict[str, Any] | None:
        """None where the item is not wanted, or (then it is counted) no model can use it."""
        items, number = self.items, int(self.items.ids[item])
        own = self._category(item, number)
        target = self.targets[own.id]
        if target == NONE:
            return None
        annotation: dict[str, Any] = {
            "id": number,
            # Floats, because the host moves a box of integers by whole pixels.
            "bbox": items.boxes[item].tolist(),
            "bbox_mode": BoxMode.XYWH_ABS,
            "iscrowd": int(items.crowd[item]),
        }
        if isinstance(target, Category):
            annotation["category_id"] = self.source.taxonomy.index(target.id)
        else:
            annotation |= {"category_id": 0, "iscrowd": 1}
        reason = _bad_box(annotation["bbox"], image)
        if reason is None and not annotation["iscrowd"]:
            reason = self._add_labels(annotation, item, own, image)
        if reason is not None:
            self.left_out[reason].append(number)
        return annotation if reason is None else None

    def _category(self, item: int, number: int) -> Category:
        try:
            return self.source.file_taxonomy.category(int(self.items.category_ids[item]))
        except ValueError as error:
            raise ValueError(f"{error} in {self.file.path} (annotations, id {number})") from error

    def _add_labels(
        self, annotation: dict[str, Any], item: int, own: Category, image: DatasetDict
    ) -> str | None:
        """Those that the item has; or why it cannot be used."""
        items = self.items
        segmentation = items.segmentations[item] if items.segmentations is not None else None
        if segmentation or self.source.needs_masks:
            segmentation = _mask(segmentation, image)
            if not segmentation:
                return "no polygon of at least 3 points"
            annotation["segmentation"] = segmentation
        if items.landmarks is not None and self._is_same(own, annotation["category_id"]):
            if item in items.landmarks.foreign:
                raise ValueError(
                    f"expected zeros outside the landmarks of {own.name!r}, got others in "
                    f"{self.file.path} (annotations, id {annotation['id']})"
                )
            landmarks = items.landmarks.of(item, own.id)
            if landmarks is not None and len(landmarks):
                annotation["keypoints"] = _host_landmarks(landmarks)
                annotation["num_keypoints"] = int((landmarks[:, 2] > 0).sum())
        style = int(items.fields["style"][item])
        if self.source.pairs and image["pair_id"] is not None:
            style = max(style, 1)
        annotation["style"] = style if style >= 0 else None
        for name in ATTRIBUTES:
            annotation[name] = int(items.fields[name][item]) or None
        return None

    def _is_same(self, own: Category, index: int) -> bool:
        return own.landmark_names == self.source.taxonomy.categories[index].landmark_names


def _bad_box(box: Sequence[float], image: DatasetDict) -> str | None:
    x, y, w, h = box
    if not (w > 0 and h > 0):
        return "box without area"
    if not (x < image["width"] and y < image["height"] and x + w > 0 and y + h > 0):
        return "box wholly outside the image"
    return None


def _mask(segmentation: Any, image: DatasetDict) -> Any:
    """Polygons of at least 3 points, or COCO's compressed run lengths, which the host reads as
    they are; None where there is neither."""
    if isinstance(segmentation, list):
        return [p for p in segmentation if len(p) >= 6 and len(p) % 2 == 0]
    if isinstance(segmentation, dict) and isinstance(segmentation.get("counts"), list):
        return mask_util.frPyObjects(segmentation, image["height"], image["width"])
    return segmentation if isinstance(segmentation, dict) else None


def _host_landmarks(landmarks: Array) -> Float32Array:
    """(n, 3) from pixel indices to coordinates, as the host's loader does."""
    points = landmarks.astype(np.float32)
    points[:, :2] += 0.5
    return points


@data_source("coco")
def coco_data_set(name: str, entry: Mapping[str, Any], folder: Path) -> DataSet:
    """``annotations`` and ``images`` name a COCO file and the folder of its images; the other keys
    are those of :class:`CocoSource`."""
    check_keys(entry, _KEYS, {"annotations", "images"})
    file, image_root = folder / entry["annotations"], folder / entry["images"]
    taxonomy = _stated_taxonomy(entry.get("taxonomy"), folder)
    category_map = entry.get("categories") or {}
    file_taxonomy = taxonomy or read_taxonomy(file)
    if category_map:
        file_taxonomy, taxonomy = read_taxonomy(file), taxonomy or DEEPFASHION2
    source = CocoSource(
        name,
        file,
        image_root,
        file_taxonomy,
        taxonomy or file_taxonomy,
        category_map,
        _stated_labels(entry.get("labels", list(LABELS))),
        entry.get("pairs"),
        entry.get("photos"),
    )
    return source.data_set()


def _stated_taxonomy(value: Any, folder: Path) -> Taxonomy | None:
    """``deepfashion2``, or a yaml file with categories."""
    if value is None:
        return None
    return DEEPFASHION2 if value == "deepfashion2" else Taxonomy.from_yaml(folder / str(value))


def _stated_labels(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not set(values) <= set(LABELS):
        raise ValueError(f"labels: expected a list of {', '.join(LABELS)}; got {values!r}")
    return tuple(values)


def read_taxonomy(file: Path) -> Taxonomy:
    """What a COCO file's ``categories`` say. Those of DeepFashion2's converters, which list all 294
    landmarks in each category, are DeepFashion2's.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file has no usable categories.
    """
    records = [r for key, some in stream_arrays(file) if key == "categories" for r in some]
    names = {r.get("id"): r.get("name") for r in records if isinstance(r, dict)}
    if (
        names
        and all(names.get(c.id) in c.names for c in DEEPFASHION2.categories)
        and len(names) == DEEPFASHION2.num_categories
    ):
        return DEEPFASHION2
    return Taxonomy.from_coco(records, file)
