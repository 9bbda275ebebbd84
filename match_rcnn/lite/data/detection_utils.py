"""From annotations to what a model takes.

Shapes: H, W the image after the transforms (``image_size`` is always (height, width)); N
instances of an image; K keypoints of an instance. Coordinates are pixels, (0, 0) the upper left
corner of the upper left pixel.
"""

# ruff: noqa: NPY002 (the global generator: detectron2 draws from it, and workers seed it)

from collections.abc import Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import torch
from numpy.typing import NDArray

from match_rcnn.lite.config import CfgNode
from match_rcnn.lite.structures import (
    BitMasks,
    Boxes,
    BoxMode,
    Instances,
    Keypoints,
    PolygonMasks,
    polygons_to_bitmask,
)

from . import transforms as T
from .catalog import MetadataCatalog
from .image_io import (
    SizeMismatchError,
    check_image_size,
    convert_image_to_rgb,
    convert_PIL_to_numpy,
    read_image,
)

__all__ = [
    "SizeMismatchError",
    "annotations_to_instances",
    "build_augmentation",
    "build_transform_gen",
    "check_image_size",
    "check_metadata_consistency",
    "convert_PIL_to_numpy",
    "convert_image_to_rgb",
    "create_keypoint_hflip_indices",
    "filter_empty_instances",
    "gen_crop_transform_with_instance",
    "read_image",
    "transform_instance_annotations",
    "transform_keypoint_annotations",
    "transform_proposals",
]

Annotation = dict[str, Any]
ImageSize = tuple[int, int]


def _as_transform_list(transforms: Any) -> T.TransformList:
    if isinstance(transforms, T.TransformList):
        return transforms
    return T.TransformList(
        list(transforms) if isinstance(transforms, list | tuple) else [transforms]
    )


def _box_xyxy(annotation: Annotation) -> Any:
    return BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)


# --- annotations under transforms -----------------------------------------------------------


def transform_proposals(
    dataset_dict: dict[str, Any],
    image_shape: ImageSize,
    transforms: T.TransformList,
    *,
    proposal_topk: int,
    min_box_size: float = 0,
) -> None:
    """Put transformed "proposals" in the place of "proposal_boxes" and its companions, if any.

    Boxes are clipped to ``image_shape``; those with an edge of at most ``min_box_size`` go; the
    first ``proposal_topk`` of the rest stay.
    """
    if "proposal_boxes" not in dataset_dict:
        return
    mode = dataset_dict.pop("proposal_bbox_mode")
    boxes = BoxMode.convert(dataset_dict.pop("proposal_boxes"), mode, BoxMode.XYXY_ABS)
    logits = np.asarray(dataset_dict.pop("proposal_objectness_logits"), dtype=np.float32)
    proposal_boxes = Boxes(torch.as_tensor(transforms.apply_box(boxes)))
    proposal_boxes.clip(image_shape)
    keep = proposal_boxes.nonempty(threshold=min_box_size)
    proposals = Instances(image_shape)
    proposals.proposal_boxes = proposal_boxes[keep][:proposal_topk]
    proposals.objectness_logits = torch.as_tensor(logits)[keep][:proposal_topk]
    dataset_dict["proposals"] = proposals


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
        image_size: (height, width) of the transformed image; the box is clipped to it.
        keypoint_hflip_indices: see :func:`create_keypoint_hflip_indices`.

    Raises:
        ValueError: a segmentation that is neither; keypoints that cannot be flipped.
    """
    transforms = _as_transform_list(transforms)
    height, width = image_size
    box = transforms.apply_box(np.array([_box_xyxy(annotation)]))[0]
    annotation["bbox"] = np.minimum(box.clip(min=0), [width, height, width, height])
    annotation["bbox_mode"] = BoxMode.XYXY_ABS
    if "segmentation" in annotation:
        annotation["segmentation"] = _transform_segmentation(
            annotation["segmentation"], transforms, image_size
        )
    if "keypoints" in annotation:
        annotation["keypoints"] = transform_keypoint_annotations(
            annotation["keypoints"], transforms, image_size, keypoint_hflip_indices
        )
    return annotation


def _transform_segmentation(
    segmentation: Any, transforms: T.TransformList, image_size: ImageSize
) -> Any:
    """Polygons -> list of flat arrays; RLE -> (H, W) mask."""
    if isinstance(segmentation, list):
        polygons = [np.array(polygon).reshape(-1, 2) for polygon in segmentation]
        return [polygon.reshape(-1) for polygon in transforms.apply_polygons(polygons)]
    if isinstance(segmentation, dict):
        mask = transforms.apply_segmentation(mask_util.decode(segmentation))
        assert tuple(mask.shape[:2]) == tuple(image_size), (mask.shape, image_size)
        return mask
    raise ValueError(
        f"Cannot transform segmentation of type {type(segmentation).__name__}: expected polygons "
        "as a list of lists [x1, y1, x2, y2, ...], or COCO's RLE as a dict."
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
    points[~inside, 2] = 0
    if sum(isinstance(t, T.HFlipTransform) for t in transforms.transforms) % 2 == 1:
        points = _exchange_sides(points, keypoint_hflip_indices)
    points[points[:, 2] == 0] = 0
    return points


def _exchange_sides(
    points: NDArray[Any], indices: Sequence[int] | NDArray[Any] | None
) -> NDArray[Any]:
    if indices is None:
        raise ValueError(
            "Cannot flip keypoints without providing flip indices! Set keypoint_names and "
            "keypoint_flip_map in the metadata, or turn INPUT.RANDOM_FLIP off."
        )
    if len(points) != len(indices):
        raise ValueError(
            f"Keypoint data has {len(points)} points, but the flip indices from the metadata are "
            f"for {len(indices)} points."
        )
    return points[np.asarray(indices, dtype=np.int64)]


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
    boxes = np.stack([_box_xyxy(anno) for anno in annos]) if len(annos) else np.zeros((0, 4))
    target = Instances(image_size)
    target.gt_boxes = Boxes(torch.as_tensor(boxes))
    classes = [int(anno["category_id"]) for anno in annos]
    target.gt_classes = torch.tensor(classes, dtype=torch.int64)
    if len(annos) and "segmentation" in annos[0]:
        segmentations = [anno["segmentation"] for anno in annos]
        target.gt_masks = _masks(segmentations, image_size, mask_format)
    if len(annos) and "keypoints" in annos[0]:
        target.gt_keypoints = _keypoints([anno.get("keypoints", ()) for anno in annos])
    return target


def _keypoints(keypoints: list[Any]) -> Keypoints:
    points = [np.asarray(one, dtype=np.float64).reshape(-1, 3) for one in keypoints]
    counts = sorted({len(one) for one in points})
    if len(counts) > 1:
        raise ValueError(
            f"The instances of an image have {counts} keypoints; a tensor needs one number. Pad "
            "them with unlabelled ones (0, 0, 0)."
        )
    return Keypoints(np.stack(points))


def _masks(
    segmentations: list[Any], image_size: ImageSize, mask_format: str
) -> PolygonMasks | BitMasks:
    if mask_format == "bitmask":
        bitmaps = [_bitmap(segmentation, image_size) for segmentation in segmentations]
        return BitMasks(torch.from_numpy(np.stack(bitmaps).astype(bool)))
    if mask_format != "polygon":
        raise ValueError(f"mask_format must be 'polygon' or 'bitmask', got {mask_format!r}")
    for segmentation in segmentations:
        if not isinstance(segmentation, list):
            raise ValueError(
                "Failed to use mask_format='polygon' from the given annotations: a segmentation "
                f"is {type(segmentation).__name__}, not a list of polygons. Set INPUT.MASK_FORMAT "
                "to 'bitmask'."
            )
    return PolygonMasks(segmentations)


def _bitmap(segmentation: Any, image_size: ImageSize) -> NDArray[Any]:
    """Polygons, RLE or a mask as an (H, W) mask."""
    if isinstance(segmentation, list):
        return polygons_to_bitmask(segmentation, *image_size)
    if isinstance(segmentation, dict):
        return mask_util.decode(segmentation)
    if isinstance(segmentation, np.ndarray):
        if segmentation.ndim != 2:
            raise ValueError(f"A mask must be (H, W), got an array of shape {segmentation.shape}.")
        return segmentation
    raise ValueError(
        f"Cannot make a bitmask of a segmentation of type {type(segmentation).__name__}: expected "
        "polygons as a list of lists, COCO's RLE as a dict, or an (H, W) array."
    )


def filter_empty_instances(
    instances: Instances,
    by_box: bool = True,
    by_mask: bool = True,
    box_threshold: float = 1e-5,
    return_mask: bool = False,
) -> Any:
    """Leave out instances whose box or mask is empty.

    Args:
        box_threshold: a box needs both edges longer than this, pixels.
        return_mask: also return the (N,) bool tensor of those kept.
    """
    assert by_box or by_mask, "nothing to filter by"
    keep = torch.ones(len(instances), dtype=torch.bool)
    if by_box:
        keep = keep & instances.gt_boxes.nonempty(threshold=box_threshold)
    if by_mask and instances.has("gt_masks"):
        keep = keep & instances.gt_masks.nonempty()
    return (instances[keep], keep) if return_mask else instances[keep]


# --- from metadata and config ---------------------------------------------------------------


def check_metadata_consistency(key: str, dataset_names: Sequence[str]) -> None:
    """See that all data sets agree on one entry of their metadata.

    Raises:
        AttributeError: one of them lacks it.
        ValueError: they differ.
    """
    if not dataset_names:
        return
    first = getattr(MetadataCatalog.get(dataset_names[0]), key)
    for name in dataset_names[1:]:
        value = getattr(MetadataCatalog.get(name), key)
        if value != first:
            raise ValueError(
                f"Datasets have different metadata '{key}'! '{dataset_names[0]}' has {first!r}, "
                f"'{name}' has {value!r}."
            )


def create_keypoint_hflip_indices(dataset_names: str | Sequence[str]) -> list[int]:
    """For each keypoint, the index of the one that takes its place in a mirrored image.

    Made of the metadata's ``keypoint_names`` and ``keypoint_flip_map`` (pairs of names), on which
    all data sets must agree.
    """
    if isinstance(dataset_names, str):
        dataset_names = [dataset_names]
    check_metadata_consistency("keypoint_names", dataset_names)
    check_metadata_consistency("keypoint_flip_map", dataset_names)
    metadata = MetadataCatalog.get(dataset_names[0])
    partner = {}
    for one, other in metadata.keypoint_flip_map:
        partner[one], partner[other] = other, one
    names = list(metadata.keypoint_names)
    return [names.index(partner.get(name, name)) for name in names]


def gen_crop_transform_with_instance(
    crop_size: ImageSize, image_size: ImageSize, instance: Annotation
) -> T.CropTransform:
    """A random crop that holds the centre of the instance's box.

    Args:
        crop_size: (height, width), at most those of the image.
        image_size: (height, width).

    Raises:
        ValueError: the crop is larger than the image, or the box's centre lies outside of it.
    """
    image = np.asarray(image_size, dtype=np.int32)
    crop = np.asarray(crop_size, dtype=np.int32)
    if (crop > image).any():
        raise ValueError(f"Crop size {crop_size} is larger than image size {image_size}!")
    x0, y0, x1, y1 = _box_xyxy(instance)
    centre = np.array([(y0 + y1) * 0.5, (x0 + x1) * 0.5])
    if (centre < 0).any() or (centre > image).any():
        raise ValueError(
            f"The box {tuple(float(v) for v in (x0, y0, x1, y1))} has its centre outside the "
            f"image of height and width {tuple(image_size)}; there is nothing to crop around."
        )
    lowest = np.maximum(np.floor(centre).astype(np.int32) - crop, 0)
    highest = np.minimum(np.ceil(centre).astype(np.int32), image - crop)
    y = np.random.randint(lowest[0], highest[0] + 1)
    x = np.random.randint(lowest[1], highest[1] + 1)
    return T.CropTransform(int(x), int(y), int(crop[1]), int(crop[0]))


def build_augmentation(cfg: CfgNode, is_train: bool) -> list[T.Augmentation]:
    """The config's resizing and, for training, its flipping."""
    if not is_train:
        return [T.ResizeShortestEdge(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST, "choice")]
    augmentations: list[T.Augmentation] = [
        T.ResizeShortestEdge(
            cfg.INPUT.MIN_SIZE_TRAIN,
            cfg.INPUT.MAX_SIZE_TRAIN,
            cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING,
        )
    ]
    if cfg.INPUT.RANDOM_FLIP != "none":
        augmentations.append(
            T.RandomFlip(
                horizontal=cfg.INPUT.RANDOM_FLIP == "horizontal",
                vertical=cfg.INPUT.RANDOM_FLIP == "vertical",
            )
        )
    return augmentations


build_transform_gen = build_augmentation  # detectron2's older name
