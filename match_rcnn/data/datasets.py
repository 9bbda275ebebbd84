"""DeepFashion2 as registered data sets of compact dataset dicts.

Shapes used below: ``n`` landmarks of an item's category, ``L = 294`` landmarks of all.

A dataset dict is the host's (``file_name``, ``image_id``, ``height``, ``width``, ``annotations``)
with ``source`` ("user", "shop" or None) and ``pair_id`` (None where the file lacks it). Each of
its ``annotations`` has

- ``id``, ``bbox`` [x, y, w, h] (floats), ``bbox_mode``, ``category_id`` 0 to 12, ``iscrowd``;
- ``segmentation``: list of float64 arrays x, y, x, y, ...;
- ``keypoints``: float32 (n, 3), x and y in the host's convention (+0.5), v 0, 1 or 2;
- ``num_keypoints``, ``style``, and ``scale``, ``occlusion``, ``zoom_in``, ``viewpoint`` (None
  where the file lacks them).
"""

import logging
import os
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from match_rcnn.d2 import BoxMode, DatasetCatalog, MetadataCatalog
from match_rcnn.data.coco import annotation_record
from match_rcnn.data.folders import list_folder
from match_rcnn.data.image_sources import read_image_sources
from match_rcnn.data.images import IMAGE_SUFFIXES, UnreadableImageError, read_image_size
from match_rcnn.data.sources.deepfashion2 import ATTRIBUTES, parse_annotation
from match_rcnn.data.taxonomy import CATEGORIES, NUM_LANDMARKS, Category, category
from match_rcnn.utils.json_stream import stream_arrays

logger = logging.getLogger(__name__)

DatasetDict = dict[str, Any]

#: Registered as ``deepfashion2_{split}``; the test split has images only.
ANNOTATED_SPLITS = ("train", "validation")
TEST_SPLIT = "test"


def register_deepfashion2(root: str | Path | None = None) -> None:
    """Register ``deepfashion2_train``, ``deepfashion2_validation`` and ``deepfashion2_test``.

    Nothing is read before a data set is asked for. Calling it again does no harm; with another
    root the names move there.

    Args:
        root: the folder that holds ``deepfashion2/``; None takes the environment variable
            ``DETECTRON2_DATASETS``, or ``datasets`` where it is not set.
    """
    base = Path(root or os.environ.get("DETECTRON2_DATASETS") or "datasets") / "deepfashion2"
    for split in ANNOTATED_SPLITS:
        json_file = base / "annotations" / f"{split}.json"
        register_deepfashion2_instances(f"deepfashion2_{split}", json_file, base / split / "image")
    name, image_root = f"deepfashion2_{TEST_SPLIT}", str(base / TEST_SPLIT / "image")
    _register(name, partial(load_images, image_root), image_root=image_root)


def register_deepfashion2_instances(
    name: str, json_file: str | Path, image_root: str | Path
) -> None:
    """Register a converted file (dense or compact) and its images as data set ``name``."""
    json_file, image_root = str(json_file), str(image_root)
    load = partial(load_deepfashion2, json_file, image_root, name)
    _register(name, load, json_file=json_file, image_root=image_root)


def _register(name: str, load: Any, **where: str) -> None:
    if name in DatasetCatalog.list():
        known = MetadataCatalog.get(name)
        if all(known.get(key) == value for key, value in where.items()):
            return
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    DatasetCatalog.register(name, load)
    names = [[f"{c.name} {i + 1}" for i in range(c.num_landmarks)] for c in CATEGORIES]
    MetadataCatalog.get(name).set(
        **where,
        evaluator_type="deepfashion2",
        thing_classes=[c.name for c in CATEGORIES],
        thing_dataset_id_to_contiguous_id={c.id: c.id - 1 for c in CATEGORIES},
        # The 294 dense channels, as the host's stock mapper and keypoint head want them.
        keypoint_names=[landmark for own in names for landmark in own],
        keypoint_flip_map=[
            (own[left], own[right])
            for c, own in zip(CATEGORIES, names, strict=True)
            for left, right in c.flip_pairs
        ],
    )


def load_images(image_root: str | Path) -> list[DatasetDict]:
    """Dataset dicts, without annotations, of all numbered images of a folder. Their ``source`` is
    what the test set's official files beside the folder say (see ``image_sources``), or None.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: one of these files cannot be used.
    """
    folder = list_folder(Path(image_root), IMAGE_SUFFIXES, str(image_root))
    sources = read_image_sources(Path(image_root).parent)
    dicts, problems = [], [str(problem) for problem in folder.problems]
    for number in folder.numbers.tolist():
        path = folder.path / folder.name(number)
        try:
            width, height = read_image_size(path)
        except (UnreadableImageError, OSError) as error:
            problems.append(f"{error} in {path}")
            continue
        image = _dataset_dict(path, number, width, height)
        dicts.append({**image, "source": sources.get(number)})
    if problems:
        logger.warning("%s: %d left out, first: %s", image_root, len(problems), problems[0])
    return dicts


def load_annotation_file(annotation_file: str | Path, image_file: str | Path) -> DatasetDict:
    """The dataset dict of one image from DeepFashion2's own annotation file.

    Items that cannot be used are left out with a warning; annotations are numbered from 1.

    Raises:
        FileNotFoundError: one of the files is not there.
        ValueError: one of the files cannot be used.
    """
    annotation_file, image_file = Path(annotation_file), Path(image_file)
    reading = image_file
    try:
        width, height = read_image_size(image_file)
        reading = annotation_file
        data = annotation_file.read_bytes()
        parsed = parse_annotation(data, str(annotation_file), width, height)
    except ValueError as error:
        raise ValueError(f"{error} in {reading}") from error
    for problem in parsed.problems:
        logger.warning("item left out: %s", problem)
    number = int(image_file.stem) if image_file.stem.isdigit() else 0
    image = _dataset_dict(image_file, number, width, height)
    image.update(source=parsed.source, pair_id=parsed.pair_id)
    image["annotations"] = [
        _instance({**annotation_record(number, parsed, item), "id": index}, item.category)
        for index, item in enumerate(parsed.items, 1)
    ]
    return image


def load_deepfashion2(
    json_file: str | Path, image_root: str | Path, dataset_name: str | None = None
) -> list[DatasetDict]:
    """Dataset dicts from a converted file, ours or the official converter's, dense or compact.

    The file is read in pieces, and only the category's landmarks of each item are kept. Items
    that no model can use (box without area or wholly outside the image, no polygon) are left
    out with a warning that counts them.

    Args:
        image_root: the folder of the images.
        dataset_name: for messages.

    Raises:
        FileNotFoundError: there is no such file; the message has the command that makes it.
        ValueError: the file holds something else; the message says what and where.
    """
    json_file, image_root = Path(json_file), Path(image_root)
    if not json_file.is_file():
        raise FileNotFoundError(_how_to_convert(json_file, image_root))
    reader = _CocoReader(json_file)
    for key, elements in stream_arrays(json_file):
        reader.take(key, elements)
    dicts = reader.dataset_dicts(image_root)
    count = sum(len(image["annotations"]) for image in dicts)
    name = dataset_name or json_file
    logger.info("%s: %d images with %d items from %s", name, len(dicts), count, json_file)
    return dicts


def _how_to_convert(json_file: Path, image_root: Path) -> str:
    split, root = image_root.parent.name or "SPLIT", image_root.parent.parent
    return (
        f"the converted annotations {json_file} are not there; make them with\n"
        f"  python tools/convert_df2.py --root {root} --split {split} --output {json_file} "
        "--compact\n"
        "(DETECTRON2_DATASETS names the folder that holds deepfashion2/)"
    )


class _CocoReader:
    """Collects the arrays of a COCO file, in whatever order they come."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.images: dict[int, dict[str, Any]] = {}
        self.instances: dict[int, list[dict[str, Any]]] = defaultdict(list)
        self.pair_ids: dict[int, Any] = {}
        self.ids: set[int] = set()
        self.left_out: dict[str, list[int]] = defaultdict(list)

    def take(self, key: str | None, elements: list[Any]) -> None:
        for element in elements:
            try:
                if key == "images":
                    self.images[element["id"]] = element
                elif key == "annotations":
                    self._take_annotation(element)
                elif key == "categories":
                    _check_category(element)
            except (KeyError, TypeError, ValueError) as error:
                what = f"expected the key {error}" if isinstance(error, KeyError) else str(error)
                name = element.get("id") if isinstance(element, dict) else element
                raise ValueError(f"{what} in {self.file} ({key}, id {name})") from error

    def _take_annotation(self, record: dict[str, Any]) -> None:
        instance = _instance(record, category(record["category_id"]))
        if instance["id"] in self.ids:
            raise ValueError("an id that was there before")
        self.ids.add(instance["id"])
        self.instances[record["image_id"]].append(instance)
        self.pair_ids[record["image_id"]] = record.get("pair_id")

    def dataset_dicts(self, image_root: Path) -> list[DatasetDict]:
        """By image id, as the host's own loader orders them."""
        unknown = self.instances.keys() - self.images.keys()
        if unknown:
            raise ValueError(
                f"{self.file} has annotations of {len(unknown)} images that it does not list, "
                f"such as image_id {min(unknown)}"
            )
        dicts = [self._image(self.images[i], image_root) for i in sorted(self.images)]
        for reason, ids in self.left_out.items():
            text = "%s: %d items left out, %s, such as annotation %d"
            logger.warning(text, self.file, len(ids), reason, ids[0])
        return dicts

    def _image(self, record: dict[str, Any], image_root: Path) -> DatasetDict:
        number, width, height = record["id"], record["width"], record["height"]
        image = _dataset_dict(image_root / record["file_name"], number, width, height)
        image["source"] = record.get("source")
        image["pair_id"] = record.get("pair_id", self.pair_ids.get(number))
        image["annotations"] = []
        for instance in self.instances.pop(number, ()):
            reason = _unusable(instance, width, height)
            if reason is None:
                image["annotations"].append(instance)
            else:
                self.left_out[reason].append(instance["id"])
        return image


def _check_category(record: dict[str, Any]) -> None:
    expected = category(record["id"])
    if record["name"] not in (expected.name, expected.coco_name):
        raise ValueError(f"expected the category {expected.coco_name!r}, got {record['name']!r}")


def _dataset_dict(path: Path, number: int, width: int, height: int) -> DatasetDict:
    return {
        "file_name": str(path),
        "image_id": number,
        "height": height,
        "width": width,
        "source": None,
        "pair_id": None,
    }


def _instance(record: dict[str, Any], own: Category) -> dict[str, Any]:
    """An ``annotations`` entry from a COCO record, dense or compact."""
    keypoints = _own_landmarks(record["keypoints"], own)
    segmentation = record["segmentation"]
    if isinstance(segmentation, list):  # otherwise RLE, which the host reads as it is
        polygons = [np.array(polygon, dtype=np.float64) for polygon in segmentation]
        segmentation = [p for p in polygons if len(p) >= 6 and len(p) % 2 == 0]
    return {
        "id": record["id"],
        # Floats, because the host moves a box of integers by whole pixels.
        "bbox": [float(value) for value in record["bbox"]],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": own.id - 1,
        "segmentation": segmentation,
        "keypoints": keypoints,
        "num_keypoints": int((keypoints[:, 2] > 0).sum()),
        "iscrowd": record.get("iscrowd", 0),
        "style": record.get("style"),
        **{name: record.get(name) for name in ATTRIBUTES},
    }


def _own_landmarks(values: list[float], own: Category) -> npt.NDArray[np.float32]:
    n = own.num_landmarks
    if len(values) == 3 * NUM_LANDMARKS:
        start, stop = 3 * own.slice.start, 3 * own.slice.stop
        if any(values[:start]) or any(values[stop:]):
            raise ValueError(f"expected zeros outside the landmarks of {own.name!r}, got others")
        values = values[start:stop]
    if len(values) != 3 * n:
        raise ValueError(
            f"expected {3 * n} numbers (3 * {n} landmarks) for {own.name!r}, or "
            f"{3 * NUM_LANDMARKS} (all landmarks), got {len(values)}"
        )
    keypoints = np.array(values, dtype=np.float32).reshape(n, 3)
    keypoints[:, :2] += 0.5  # from pixel indices to coordinates, as the host's loader does
    return keypoints


def _unusable(instance: dict[str, Any], width: int, height: int) -> str | None:
    x, y, w, h = instance["bbox"]
    if not (w > 0 and h > 0):
        return "box without area"
    if not (x < width and y < height and x + w > 0 and y + h > 0):
        return "box wholly outside the image"
    if len(instance["segmentation"]) == 0:
        return "no polygon of at least 3 points"
    return None
