"""COCO's json format to dataset dicts and back.

Keypoints in COCO files name pixels, from 0 to W - 1; dataset dicts hold positions, in which that
pixel's centre is 0.5 further. Loading adds 0.5, converting subtracts it.
"""

import datetime
import json
import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_util

from match_rcnn.lite.structures import Boxes, BoxMode, PolygonMasks
from match_rcnn.lite.utils.file_io import PathManager

from ..catalog import DatasetCatalog, Metadata, MetadataCatalog

__all__ = [
    "convert_to_coco_dict",
    "convert_to_coco_json",
    "load_coco_json",
    "register_coco_instances",
]

logger = logging.getLogger(__name__)

_ANNOTATION_KEYS = ("iscrowd", "bbox", "keypoints", "category_id")


# --- COCO -> dataset dicts ------------------------------------------------------------------


def load_coco_json(
    json_file: str,
    image_root: str | os.PathLike[str],
    dataset_name: str | None = None,
    extra_annotation_keys: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Load instance (and keypoint) annotations in COCO's json format.

    Args:
        json_file: path of the file.
        image_root: the folder that its file names are relative to.
        dataset_name: when given, category ids are mapped to 0, 1, ... in their order, and
            "thing_classes" and "thing_dataset_id_to_contiguous_id" go to that metadata. Without,
            ids stay as they are in the file.
        extra_annotation_keys: entries of annotations to take over beside "iscrowd", "bbox",
            "keypoints", "category_id" and "segmentation".

    Returns:
        one dict an image, by ascending image id. Instances whose polygons all have fewer than
        three points are left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not json, or not of COCO's form; the message says where.
    """
    content = _read_coco(json_file)
    categories = sorted(content.get("categories", []), key=lambda category: category["id"])
    id_map = None
    if dataset_name is not None:
        id_map = {category["id"]: i for i, category in enumerate(categories)}
        _set_class_metadata(MetadataCatalog.get(dataset_name), categories, id_map)
    images = {image["id"]: image for image in content["images"]}
    annotations = _annotations_by_image(content.get("annotations", []), images, json_file)
    keys = (*_ANNOTATION_KEYS, *(extra_annotation_keys or ()))
    dataset_dicts = []
    left_out = 0
    for image_id in sorted(images):
        image = images[image_id]
        instances = [_instance(annotation, keys, id_map) for annotation in annotations[image_id]]
        left_out += sum(instance is None for instance in instances)
        dataset_dicts.append(
            {
                "file_name": os.path.join(image_root, image["file_name"]),
                "height": image["height"],
                "width": image["width"],
                "image_id": image_id,
                "annotations": [instance for instance in instances if instance is not None],
            }
        )
    logger.info("Loaded %d images in COCO format from %s", len(dataset_dicts), json_file)
    if left_out:
        logger.warning(
            "Left out %d instances of %s whose polygons are not valid (an even number of "
            "coordinates, 6 or more).",
            left_out,
            json_file,
        )
    return dataset_dicts


def _read_coco(json_file: str) -> dict[str, Any]:
    with open(PathManager.get_local_path(json_file), encoding="utf-8") as file:
        try:
            content = json.load(file)
        except ValueError as error:
            raise ValueError(f"{json_file} is not valid JSON: {error}") from error
    if not isinstance(content, dict) or "images" not in content:
        raise ValueError(f"{json_file} is not in COCO's format: it has no list of 'images'.")
    return content


def _set_class_metadata(
    metadata: Metadata, categories: Sequence[dict[str, Any]], id_map: dict[int, int]
) -> None:
    metadata.thing_classes = [category["name"] for category in categories]
    if list(id_map) != list(range(1, len(id_map) + 1)) and "coco" not in metadata.name:
        logger.warning(
            "Category ids of data set %s are not 1 to %d; they are mapped to 0 to %d in order.",
            metadata.name,
            len(id_map),
            len(id_map) - 1,
        )
    metadata.thing_dataset_id_to_contiguous_id = id_map


def _annotations_by_image(
    annotations: Sequence[dict[str, Any]], images: dict[Any, Any], json_file: str
) -> defaultdict[Any, list[dict[str, Any]]]:
    by_image: defaultdict[Any, list[dict[str, Any]]] = defaultdict(list)
    seen = set()
    for annotation in annotations:
        if annotation["image_id"] not in images:
            continue
        if annotation["id"] in seen and "minival" not in os.fspath(json_file):
            # COCO's own minival files of 2014 repeat a few ids and are in use as they are.
            raise ValueError(
                f"Annotation ids in '{json_file}' are not unique: {annotation['id']} comes twice."
            )
        seen.add(annotation["id"])
        by_image[annotation["image_id"]].append(annotation)
    found = sum(map(len, by_image.values()))
    if found < len(annotations):
        logger.warning(
            "%s contains %d annotations, but only %d of them match to images in the file.",
            json_file,
            len(annotations),
            found,
        )
    return by_image


def _instance(
    annotation: dict[str, Any], keys: Sequence[str], id_map: dict[int, int] | None
) -> dict[str, Any] | None:
    """One annotation in the form of dataset dicts; None when its polygons are not valid."""
    where = f"annotation {annotation.get('id')} of image {annotation['image_id']}"
    if annotation.get("ignore", 0) != 0:
        raise ValueError(f"{where}: COCO's 'ignore' is not supported; take it out of the file.")
    instance = {key: annotation[key] for key in keys if key in annotation}
    if "bbox" in instance and len(instance["bbox"]) != 4:
        raise ValueError(f"{where}: 'bbox' must be [x, y, w, h], got {instance['bbox']}.")
    if annotation.get("segmentation"):
        segmentation = _valid_segmentation(annotation["segmentation"])
        if not segmentation:
            return None
        instance["segmentation"] = segmentation
    if annotation.get("keypoints"):
        shift = (0.5, 0.5, 0)
        instance["keypoints"] = [v + shift[i % 3] for i, v in enumerate(annotation["keypoints"])]
    instance["bbox_mode"] = BoxMode.XYWH_ABS
    if id_map is not None:
        category = annotation["category_id"]
        if category not in id_map:
            raise ValueError(
                f"{where} has category_id={category}, which is not in 'categories' of the file."
            )
        instance["category_id"] = id_map[category]
    return instance


def _valid_segmentation(segmentation: Any) -> Any:
    """RLE, compressed where it is not; or the polygons that have at least three points."""
    if not isinstance(segmentation, dict):
        return [polygon for polygon in segmentation if len(polygon) >= 6 and not len(polygon) % 2]
    if isinstance(segmentation["counts"], list):
        return mask_util.frPyObjects(segmentation, *segmentation["size"])
    return segmentation


def register_coco_instances(
    name: str, metadata: dict[str, Any], json_file: str, image_root: str | os.PathLike[str]
) -> None:
    """Register a data set that lies in COCO's json format.

    Args:
        name: the data set's name.
        metadata: more entries for its metadata, beside "json_file", "image_root",
            "evaluator_type" and, once it is loaded, the classes.
        json_file: its annotations.
        image_root: the folder of its images.
    """
    assert isinstance(name, str), name
    DatasetCatalog.register(name, lambda: load_coco_json(json_file, image_root, name))
    MetadataCatalog.get(name).set(
        json_file=json_file, image_root=image_root, evaluator_type="coco", **metadata
    )


# --- dataset dicts -> COCO ------------------------------------------------------------------


def convert_to_coco_dict(dataset_name: str) -> dict[str, Any]:
    """A registered data set in COCO's json format.

    Annotation ids count from 1; category ids are mapped back to those of the source, where the
    metadata knows them. ``area`` is that of the mask, or of the box where there is none.

    Returns:
        "info", "licenses", "images", "categories" and "annotations"; only what json can hold.
    """
    dataset_dicts = DatasetCatalog.get(dataset_name)
    # After loading: load_coco_json sets the classes.
    metadata = MetadataCatalog.get(dataset_name)
    id_map = metadata.get("thing_dataset_id_to_contiguous_id", {})
    original_id = {contiguous: original for original, contiguous in id_map.items()}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for i, image in enumerate(dataset_dicts):
        image_id = image.get("image_id", i)
        size = {"width": int(image["width"]), "height": int(image["height"])}
        images.append({"id": image_id, **size, "file_name": str(image["file_name"])})
        for instance in image.get("annotations", []):
            annotation = _coco_annotation(instance, size)
            category = int(annotation["category_id"])
            annotation["id"] = len(annotations) + 1
            annotation["image_id"] = image_id
            annotation["category_id"] = original_id.get(category, category)
            annotations.append(annotation)
    categories = [
        {"id": original_id.get(i, i), "name": name} for i, name in enumerate(metadata.thing_classes)
    ]
    return {
        "info": {
            "date_created": str(datetime.datetime.now()),
            "description": f"Data set '{dataset_name}', converted to COCO format.",
        },
        "licenses": None,
        "images": images,
        "categories": categories,
        "annotations": annotations,
    }


def _coco_annotation(instance: dict[str, Any], size: dict[str, int]) -> dict[str, Any]:
    """One instance of a dataset dict as a COCO annotation, without ids of its own."""
    box = [float(value) for value in instance["bbox"]]
    corners = BoxMode.convert(box, instance["bbox_mode"], BoxMode.XYXY_ABS)
    box = BoxMode.convert(box, instance["bbox_mode"], BoxMode.XYWH_ABS)
    annotation: dict[str, Any] = {
        "bbox": [round(value, 3) for value in box],
        "area": Boxes([corners]).area().item(),
        "iscrowd": int(instance.get("iscrowd", 0)),
        "category_id": int(instance["category_id"]),
    }
    if "segmentation" in instance:
        segmentation, area = _coco_segmentation(instance["segmentation"], size)
        annotation.update(segmentation=segmentation, area=area)
    if "keypoints" in instance:
        points = np.array(instance["keypoints"], dtype=np.float64).reshape(-1, 3)
        points[:, :2] -= 0.5
        flat = points.reshape(-1).tolist()
        flat[2::3] = [int(visibility) for visibility in flat[2::3]]
        annotation.update(keypoints=flat, num_keypoints=int((points[:, 2] > 0).sum()))
    return annotation


def _coco_segmentation(segmentation: Any, size: dict[str, int]) -> tuple[Any, float]:
    """A segmentation that json can hold, and its area in pixels."""
    if isinstance(segmentation, list):
        polygons = [np.asarray(polygon).reshape(-1).tolist() for polygon in segmentation]
        return polygons, float(PolygonMasks([polygons]).area()[0])
    if not isinstance(segmentation, dict):
        raise TypeError(f"a segmentation is polygons or RLE, got {type(segmentation).__name__}")
    rle = dict(segmentation)
    if isinstance(rle["counts"], list):
        rle = mask_util.frPyObjects(rle, size["height"], size["width"])
    area = float(mask_util.area(rle))
    if isinstance(rle["counts"], bytes):
        rle["counts"] = rle["counts"].decode("ascii")
    return rle, area


def convert_to_coco_json(dataset_name: str, output_file: str, allow_cached: bool = True) -> None:
    """Write a registered data set to a file in COCO's json format.

    Args:
        dataset_name: a registered name.
        output_file: the file; its folder is made where missing.
        allow_cached: leave a file that is there already as it is.
    """
    PathManager.mkdirs(os.path.dirname(output_file) or ".")
    if allow_cached and PathManager.exists(output_file):
        logger.warning(
            "Using previously cached COCO format annotations at '%s'. You need to clear the "
            "cache file if your dataset has been modified.",
            output_file,
        )
        return
    logger.info("Converting data set '%s' to COCO format: %s", dataset_name, output_file)
    local_path = PathManager.get_local_path(output_file)
    # Whole or not at all, also with several processes at it.
    temporary = f"{local_path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(convert_to_coco_dict(dataset_name), file)
        os.replace(temporary, local_path)
    except BaseException:
        if os.path.exists(temporary):
            os.remove(temporary)
        raise
