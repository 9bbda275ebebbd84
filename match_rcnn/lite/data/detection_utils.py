"""From images and annotations to what a model takes.

Shapes: H, W the image after the transforms (``image_size`` is always (height, width)); N
instances of an image; K keypoints of an instance. Coordinates are pixels, (0, 0) the upper left
corner of the upper left pixel.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import torch
from numpy.typing import NDArray
from PIL import Image

from ..config import CfgNode
from ..structures import (
    BitMasks,
    Boxes,
    BoxMode,
    Instances,
    Keypoints,
    PolygonMasks,
    polygons_to_bitmask,
)
from . import transforms as T

__all__ = [
    "SizeMismatchError",
    "annotations_to_instances",
    "build_augmentation",
    "check_image_size",
    "convert_PIL_to_numpy",
    "transform_instance_annotations",
    "transform_keypoint_annotations",
]

Annotation = dict[str, Any]
ImageSize = tuple[int, int]


# --- images ---------------------------------------------------------------------------------


class SizeMismatchError(ValueError):
    """An image is not of the size that its annotation states."""


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


def convert_PIL_to_numpy(image: Image.Image, format: str | None) -> NDArray[Any]:
    """A PIL image as an (H, W, C) array.

    Args:
        format: "BGR", one of PIL's mode names ("RGB", "L", ...), or None for the image's own.
    """
    if format is None:
        return np.asarray(image)
    if format == "BGR":
        # Exchanging PIL's planes is several times faster than working on a reversed view later.
        red, green, blue = image.convert("RGB").split()
        return np.asarray(Image.merge("RGB", (blue, green, red)))
    pixels = np.asarray(image.convert(format))
    return pixels[:, :, None] if format == "L" else pixels


# --- annotations under transforms -----------------------------------------------------------


def transform_instance_annotations(
    annotation: Annotation,
    transforms: Any,
    image_size: ImageSize,
    *,
    keypoint_hflip_indices: Sequence[int] | NDArray[Any] | None = None,
) -> Annotation:
    """Transform box, segmentation and keypoints of one instance, in place; returns it.

    Args:
        annotation: with "bbox" and "bbox_mode"; optionally "segmentation" (polygons or RLE) and
            "keypoints". Polygons of integers stay integers and are cut off; give floats.
        transforms: a TransformList, a list of transforms or a single one.
        image_size: of the image after the transforms; the box is clipped to it.
        keypoint_hflip_indices: see :func:`transform_keypoint_annotations`.

    Raises:
        ValueError: a segmentation that is neither; keypoints that cannot be flipped.
    """
    transforms = _as_transform_list(transforms)
    corners = transforms.apply_box(_box_xyxy(annotation)[None])[0]
    height, width = image_size
    limits = np.array([width, height, width, height])
    annotation |= {"bbox": corners.clip(0, limits), "bbox_mode": BoxMode.XYXY_ABS}
    if "segmentation" in annotation:
        moved = _transform_segmentation(annotation["segmentation"], transforms, image_size)
        annotation["segmentation"] = moved
    if "keypoints" in annotation:
        annotation["keypoints"] = transform_keypoint_annotations(
            annotation["keypoints"], transforms, image_size, keypoint_hflip_indices
        )
    return annotation


def _as_transform_list(transforms: Any) -> T.TransformList:
    if isinstance(transforms, T.TransformList):
        return transforms
    return T.TransformList(
        list(transforms) if isinstance(transforms, list | tuple) else [transforms]
    )


def _box_xyxy(annotation: Annotation) -> NDArray[Any]:
    box = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
    return np.asarray(box)


def _transform_segmentation(
    segmentation: Any, transforms: T.TransformList, image_size: ImageSize
) -> Any:
    """Polygons -> list of flat arrays; RLE -> (H, W) mask."""
    if isinstance(segmentation, list):
        outlines = transforms.apply_polygons([np.array(p).reshape(-1, 2) for p in segmentation])
        return [outline.ravel() for outline in outlines]
    if isinstance(segmentation, dict):
        mask = transforms.apply_segmentation(mask_util.decode(segmentation))
        assert mask.shape[:2] == tuple(image_size), (mask.shape, image_size)
        return mask
    raise ValueError(
        f"a segmentation must be a list of polygons x0 y0 x1 y1 ... or COCO's RLE as a dict, got "
        f"{type(segmentation).__name__}"
    )


def transform_keypoint_annotations(
    keypoints: Any,
    transforms: Any,
    image_size: ImageSize,
    keypoint_hflip_indices: Sequence[int] | NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Transform the keypoints of one instance.

    Args:
        keypoints: K triples (x, y, visibility), flat or (K, 3).
        transforms: as in :func:`transform_instance_annotations`. With an odd number of horizontal
            flips among them, keypoints change places as well.
        image_size: (height, width); points beyond it become unlabelled (its edges count as
            inside).
        keypoint_hflip_indices: for each keypoint, which one takes its place under a flip.

    Returns:
        (K, 3) float64; an unlabelled point is 0, 0, 0.

    Raises:
        ValueError: a flip without indices, or with indices for another number of keypoints.
    """
    transforms = _as_transform_list(transforms)
    points: NDArray[Any] = np.array(keypoints, dtype=np.float64).reshape(-1, 3)
    points[:, :2] = xy = transforms.apply_coords(points[:, :2].copy())
    inside = ((xy >= 0) & (xy <= image_size[::-1])).all(axis=1)
    points[~inside | (points[:, 2] == 0)] = 0
    if sum(isinstance(t, T.HFlipTransform) for t in transforms.transforms) % 2 == 0:
        return points
    partners = () if keypoint_hflip_indices is None else keypoint_hflip_indices
    if len(partners) != len(points):
        raise ValueError(
            f"{len(points)} keypoints are mirrored, but it is known of {len(partners)} which one "
            "takes whose place: give their indices, or turn INPUT.RANDOM_FLIP off"
        )
    return points[np.asarray(partners, dtype=np.int64)]


# --- annotations to Instances ---------------------------------------------------------------


def annotations_to_instances(
    annos: Sequence[Annotation], image_size: ImageSize, mask_format: str = "polygon"
) -> Instances:
    """The Instances that a model trains on, from transformed annotations of one image.

    Args:
        annos: N annotations; the first one tells whether there are masks and keypoints.
        image_size: (height, width).
        mask_format: "polygon" (gt_masks is PolygonMasks) or "bitmask" (BitMasks; polygons are
            drawn).

    Returns:
        gt_boxes, gt_classes and, where annotated, gt_masks and gt_keypoints (N, K, 3). Without
        any annotation only the first two, empty.

    Raises:
        ValueError: masks that do not fit the format, instances with unlike numbers of keypoints.
    """
    target = Instances(image_size)
    target.gt_boxes = Boxes(np.array([_box_xyxy(a) for a in annos]).reshape(-1, 4))
    target.gt_classes = torch.tensor([int(a["category_id"]) for a in annos], dtype=torch.int64)
    first = annos[0] if len(annos) else {}
    if "segmentation" in first:
        target.gt_masks = _masks([a["segmentation"] for a in annos], image_size, mask_format)
    if "keypoints" in first:
        target.gt_keypoints = _keypoints([a.get("keypoints", ()) for a in annos])
    return target


def _keypoints(keypoints: list[Any]) -> Keypoints:
    points = [np.asarray(one, dtype=np.float64).reshape(-1, 3) for one in keypoints]
    counts = sorted({len(one) for one in points})
    if len(counts) > 1:
        raise ValueError(
            f"the instances of an image have {counts} keypoints; a tensor needs one number: pad "
            "them with unlabelled ones (0, 0, 0)"
        )
    return Keypoints(np.stack(points))


def _masks(
    segmentations: list[Any], image_size: ImageSize, mask_format: str
) -> PolygonMasks | BitMasks:
    if mask_format == "bitmask":
        return BitMasks(np.stack([_bitmap(s, image_size) for s in segmentations]))
    if mask_format != "polygon":
        raise ValueError(f"mask_format must be 'polygon' or 'bitmask', got {mask_format!r}")
    others = {type(s).__name__ for s in segmentations if not isinstance(s, list)}
    if others:
        raise ValueError(
            f"INPUT.MASK_FORMAT is 'polygon', but a segmentation is of type {others.pop()}; "
            "'bitmask' takes it"
        )
    return PolygonMasks(segmentations)


def _bitmap(segmentation: Any, image_size: ImageSize) -> NDArray[np.bool_]:
    """Polygons, RLE or a mask as an (H, W) mask."""
    if isinstance(segmentation, list):
        return polygons_to_bitmask(segmentation, *image_size)
    if isinstance(segmentation, dict):
        segmentation = mask_util.decode(segmentation)
    if getattr(segmentation, "shape", None) != tuple(image_size):
        found = getattr(segmentation, "shape", type(segmentation).__name__)
        raise ValueError(
            "a bitmask is made of a list of polygons, of COCO's RLE as a dict or of an array of "
            f"the image's size {tuple(image_size)}, got {found}"
        )
    return np.asarray(segmentation, dtype=np.bool_)


# --- from the config ------------------------------------------------------------------------


def build_augmentation(cfg: CfgNode, is_train: bool) -> list[T.Augmentation]:
    """The config's resizing and, for training, its flipping."""
    given = cfg.INPUT
    if not is_train:
        return [T.ResizeShortestEdge(given.MIN_SIZE_TEST, given.MAX_SIZE_TEST, "choice")]
    sampling = given.MIN_SIZE_TRAIN_SAMPLING
    resize = T.ResizeShortestEdge(given.MIN_SIZE_TRAIN, given.MAX_SIZE_TRAIN, sampling)
    if given.RANDOM_FLIP == "none":
        return [resize]
    directions = {way: way == given.RANDOM_FLIP for way in ("horizontal", "vertical")}
    return [resize, T.RandomFlip(**directions)]
