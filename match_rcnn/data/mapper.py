"""From a dataset dict to a model's input.

Shapes used below: ``N`` items of an image, ``n`` landmarks of an item's category, ``K`` landmark
rows of an item (DeepFashion2: 39 compact, the category's ``n``, then zeros; 294 dense, the
category's slice among zeros), ``A`` attributes.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from match_rcnn.d2 import (
    Boxes,
    CfgNode,
    Instances,
    Keypoints,
    PolygonMasks,
    T,
    configurable,
    detection_utils,
)
from match_rcnn.data.augmentations import build_augmentations, fit_box, outlines_are_cut
from match_rcnn.data.given_boxes import GIVEN_BOX, taxonomy_to_learn
from match_rcnn.data.ignore_regions import ItemsBesideRegions
from match_rcnn.data.image_sources import NO_SOURCE, SOURCE_CODES
from match_rcnn.data.images import DECODERS, UnreadableImageError, read_image
from match_rcnn.data.taxonomy import DEEPFASHION2, Category, Taxonomy
from match_rcnn.utils.arrays import Array, Float32Array

LANDMARK_LAYOUTS = ("compact", "dense")
#: ``gt_pair_ids`` of an image whose product is unknown.
NO_PAIR = -1
#: ``gt_attributes`` of an item that is not labelled with the attribute.
NO_ATTRIBUTE = -1


class GarmentMapper:
    """Read the image, augment it with its annotations, and make tensors of both.

    Takes the dataset dicts of :mod:`match_rcnn.data.datasets`, which it leaves as they are. All
    chance comes from numpy's global generator, by way of the host's augmentations. A dataset dict
    with an integer ``"seed"`` is mapped the same wherever and whenever that happens; the
    generators' states are put back afterwards.

    Args:
        is_train: whether annotations are wanted; without, they are dropped.
        augmentations: the host's augmentations or transforms, in order.
        image_format: such as ``"BGR"``.
        taxonomy: of the items.
        use_masks, use_landmarks: whether ``gt_masks`` and ``gt_keypoints`` are wanted.
        use_attributes: whether ``gt_attributes`` is wanted of the taxonomy's attributes.
        attributes: annotation keys, whole numbers, that ``gt_attributes`` shall hold instead.
        mask_format: ``"polygon"`` or ``"bitmask"``.
        landmark_layout: ``"compact"``, or ``"dense"`` for the host's stock keypoint head.
        decoder: of :data:`match_rcnn.data.images.DECODERS`.
        fit_boxes: whether boxes are drawn in to what the augmentations leave of the masks.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        augmentations: Sequence[Any],
        image_format: str,
        taxonomy: Taxonomy = DEEPFASHION2,
        use_masks: bool = True,
        use_landmarks: bool = True,
        use_attributes: bool = False,
        attributes: Sequence[str] = (),
        mask_format: str = "polygon",
        landmark_layout: str = "compact",
        decoder: str = DECODERS[0],
        fit_boxes: bool = False,
    ) -> None:
        if landmark_layout not in LANDMARK_LAYOUTS:
            known = " or ".join(map(repr, LANDMARK_LAYOUTS))
            raise ValueError(f"landmark_layout must be {known}, got {landmark_layout!r}")
        self.is_train = is_train
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.taxonomy = taxonomy
        self.use_masks = use_masks
        self.use_landmarks = use_landmarks
        self.use_attributes = use_attributes
        self.attributes = tuple(attributes)
        if use_attributes and attributes:
            raise ValueError(
                f"INPUT.ATTRIBUTES {list(attributes)} and MODEL.ATTRIBUTE_ON both want to be "
                "gt_attributes; leave one of them out"
            )
        self.mask_format = mask_format
        self.landmark_layout = landmark_layout
        self.decoder = decoder
        self.fit_boxes = fit_boxes

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        if is_train and cfg.INPUT.CROP.ENABLED:
            raise ValueError(
                "INPUT.CROP.ENABLED: a crop in the config is not supported, because it does not "
                f"cut polygons; give {cls.__name__} the augmentations yourself"
            )
        return {
            "is_train": is_train,
            "augmentations": build_augmentations(cfg, is_train),
            "image_format": cfg.INPUT.FORMAT,
            "taxonomy": taxonomy_to_learn(cfg.DATASETS.TRAIN),
            "use_masks": cfg.MODEL.MASK_ON,
            "use_landmarks": cfg.MODEL.KEYPOINT_ON,
            "use_attributes": cfg.MODEL.ATTRIBUTE_ON,
            "attributes": cfg.INPUT.ATTRIBUTES,
            "mask_format": cfg.INPUT.MASK_FORMAT,
            "landmark_layout": cfg.INPUT.LANDMARK_LAYOUT,
            "decoder": cfg.INPUT.DECODER,
            "fit_boxes": is_train and outlines_are_cut(cfg),
        }

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Map one image.

        Returns:
            the dataset dict (``source`` and ``pair_id`` among it) with ``image``, a (3, H, W)
            uint8 tensor, and in training ``instances`` in the place of ``annotations``:

            - gt_boxes, gt_classes, gt_masks, gt_keypoints (N, K, 3);
            - for the match network gt_pair_ids, gt_sources, gt_styles and gt_has_partner (N,);
            - gt_attributes (N, A) where attributes are wanted: int8, 1 has it, -1 has it not, 0
              unknown; or of annotation keys their values, :data:`NO_ATTRIBUTE` if missing;
            - gt_has_mask, gt_has_landmarks (N,) bool, each only where an item of the image lacks
              the label: without the field all have it. Such an item has an empty mask, or
              landmarks of visibility 0.

            Where the image has regions of which nothing is known (``iscrowd``), it is
            :class:`match_rcnn.data.ignore_regions.ItemsBesideRegions`.
            An image of given boxes alone (:mod:`match_rcnn.data.given_boxes`) has gt_boxes and
            gt_attributes only. ``height`` and ``width`` stay those of the file.

        Raises:
            ValueError: the image cannot be read, or is not of the stated size.
        """
        sample = dict(dataset_dict)
        annotations = sample.pop("annotations", None)
        with seeded(sample.pop("seed", None)):
            image = read_image(
                sample["file_name"], self.image_format, upright=False, decoder=self.decoder
            )
            detection_utils.check_image_size(sample, image)
            augmented = T.AugInput(image)
            transforms = self._augment(augmented, sample["file_name"])
        image = np.ascontiguousarray(augmented.image.transpose(2, 0, 1))
        sample["image"] = torch.from_numpy(image)
        size = (image.shape[1], image.shape[2])
        if self.is_train and sample.pop(GIVEN_BOX, False):
            sample["instances"] = self._given_boxes(annotations or [], transforms, size)
        elif self.is_train and annotations is not None:
            items = [a for a in annotations if not a.get("iscrowd", 0)]
            ignored = [a for a in annotations if a.get("iscrowd", 0)]
            instances = self._instances(items, transforms, size, sample)
            if ignored:
                regions = _regions(ignored, transforms, size)
                instances = ItemsBesideRegions(size, regions, **instances.get_fields())
            sample["instances"] = instances
        return sample

    def _augment(self, augmented: T.AugInput, file_name: str) -> T.TransformList:
        height, width = augmented.image.shape[:2]
        try:
            transforms: T.TransformList = self.augmentations(augmented)
        except ValueError as error:  # such as a side of 0 pixels after resizing
            raise UnreadableImageError(
                f"{file_name} has {width} x {height} pixels, which cannot be augmented: {error}; "
                "crop it or leave it out"
            ) from error
        return transforms

    def _instances(
        self,
        annotations: list[dict[str, Any]],
        transforms: Any,
        image_size: tuple[int, int],
        sample: dict[str, Any],
    ) -> Instances:
        moved = [self._transform(a, transforms, image_size) for a in annotations]
        instances = detection_utils.annotations_to_instances(moved, image_size, self.mask_format)
        if not moved:  # the host leaves fields out that other images of a batch have
            self._add_empty_fields(instances)
        self._add_match_fields(instances, annotations, sample)
        if self.use_attributes and any("attributes" in a for a in annotations):
            instances.gt_attributes = self._attributes(annotations)
        if self.attributes:
            rows = [[_attribute(a.get(name)) for name in self.attributes] for a in annotations]
            instances.gt_attributes = torch.tensor(rows, dtype=torch.int64).reshape(
                len(annotations), len(self.attributes)
            )
        return self._without_empty(instances, annotations)

    def _attributes(self, annotations: list[dict[str, Any]]) -> torch.Tensor:
        """(N, A) int8; all unknown of an item that says nothing of them."""
        unknown = np.zeros(len(self.taxonomy.attributes), np.int8)
        rows = [np.asarray(a.get("attributes", unknown), np.int8) for a in annotations]
        return torch.from_numpy(np.stack(rows) if rows else unknown[None][:0])

    def _given_boxes(
        self, annotations: list[dict[str, Any]], transforms: Any, image_size: tuple[int, int]
    ) -> Instances:
        boxes = [_moved_box(a, transforms, image_size) for a in annotations]
        instances = Instances(image_size)
        instances.gt_boxes = Boxes(torch.tensor(np.array(boxes), dtype=torch.float32).view(-1, 4))
        instances.gt_attributes = self._attributes(annotations)
        return instances[instances.gt_boxes.nonempty(threshold=1e-5)]

    def _without_empty(self, instances: Instances, annotations: list[dict[str, Any]]) -> Instances:
        """Without items of which the augmentations left nothing, and with a mark on missing labels.

        A box that overlaps nothing would turn every anchor into a match.
        """
        has_mask = torch.tensor([_has_mask(a) for a in annotations], dtype=torch.bool)
        has_landmarks = torch.tensor([_has_landmarks(a) for a in annotations], dtype=torch.bool)
        keep = instances.gt_boxes.nonempty(threshold=1e-5)
        if self.use_masks and len(annotations):
            keep &= instances.gt_masks.nonempty() | ~has_mask
            if not has_mask.all():
                instances.gt_has_mask = has_mask
        if self.use_landmarks and not has_landmarks.all():
            instances.gt_has_landmarks = has_landmarks
        return instances[keep]

    @staticmethod
    def _add_match_fields(
        instances: Instances, annotations: list[dict[str, Any]], sample: dict[str, Any]
    ) -> None:
        """What the match network pairs items by; the image's fields once an item."""
        count = len(annotations)
        pair_id = sample.get("pair_id")
        source = SOURCE_CODES.get(str(sample.get("source")), NO_SOURCE)
        instances.gt_pair_ids = torch.full((count,), NO_PAIR if pair_id is None else int(pair_id))
        instances.gt_sources = torch.full((count,), source)
        instances.gt_styles = torch.tensor(
            [a.get("style") or 0 for a in annotations], dtype=torch.int64
        )
        instances.gt_has_partner = torch.tensor(
            [bool(a.get("has_partner", False)) for a in annotations], dtype=torch.bool
        )

    def _transform(
        self, annotation: dict[str, Any], transforms: Any, image_size: tuple[int, int]
    ) -> dict[str, Any]:
        category = self.taxonomy.categories[annotation["category_id"]]
        moved = _movable_box(annotation)
        if (self.use_masks or self.fit_boxes) and _has_mask(annotation):
            moved["segmentation"] = _copy_segmentation(annotation["segmentation"])
        if self.use_landmarks and _has_landmarks(annotation):
            moved["keypoints"] = annotation["keypoints"]
        detection_utils.transform_instance_annotations(
            moved, transforms, image_size, keypoint_hflip_indices=category.flip_permutation
        )
        if self.fit_boxes:
            fit_box(moved, image_size)
        outline = moved.pop("segmentation", None)
        if self.use_masks:
            moved["segmentation"] = self._no_mask(image_size) if outline is None else outline
        if self.use_landmarks:
            moved["keypoints"] = self._lay_out(moved.get("keypoints"), category)
        return moved

    def _no_mask(self, image_size: tuple[int, int]) -> Any:
        return [] if self.mask_format == "polygon" else np.zeros(image_size, dtype=np.uint8)

    def _lay_out(self, landmarks: Array | None, category: Category) -> Float32Array:
        """(n, 3) -> (K, 3)."""
        is_dense = self.landmark_layout == "dense"
        laid_out = np.zeros((self._num_rows, 3), dtype=np.float32)
        if landmarks is not None:
            rows = category.slice if is_dense else slice(category.num_landmarks)
            laid_out[rows] = landmarks
        return laid_out

    @property
    def _num_rows(self) -> int:
        is_dense = self.landmark_layout == "dense"
        return self.taxonomy.num_landmarks if is_dense else self.taxonomy.max_landmarks

    def _add_empty_fields(self, instances: Instances) -> None:
        if self.use_masks and self.mask_format == "polygon":
            instances.gt_masks = PolygonMasks([])
        if self.use_landmarks:
            instances.gt_keypoints = Keypoints(torch.zeros(0, self._num_rows, 3))


def _has_mask(annotation: dict[str, Any]) -> bool:
    segmentation = annotation.get("segmentation")
    return segmentation is not None and len(segmentation) > 0


def _has_landmarks(annotation: dict[str, Any]) -> bool:
    keypoints = annotation.get("keypoints")
    return keypoints is not None and len(keypoints) > 0


def _attribute(value: Any) -> int:
    return NO_ATTRIBUTE if value is None else int(value)


def _movable_box(annotation: dict[str, Any]) -> dict[str, Any]:
    """What transforms may change in place. Floats, because the host moves a box of integers by
    whole pixels."""
    kept = ("bbox_mode", "category_id")
    moved: dict[str, Any] = {key: annotation[key] for key in kept if key in annotation}
    return {**moved, "bbox": [float(value) for value in annotation["bbox"]]}


def _moved_box(annotation: dict[str, Any], transforms: Any, image_size: tuple[int, int]) -> Any:
    """An annotation's box under transforms."""
    moved = _movable_box(annotation)
    return detection_utils.transform_instance_annotations(moved, transforms, image_size)["bbox"]


def _regions(
    annotations: list[dict[str, Any]], transforms: Any, image_size: tuple[int, int]
) -> Boxes:
    """The boxes of ignore regions under transforms, each once (files repeat a region for every
    category that it might be)."""
    distinct = {tuple(a["bbox"]): a for a in annotations}.values()
    moved = [_moved_box(a, transforms, image_size) for a in distinct]
    boxes = Boxes(torch.tensor(np.array(moved), dtype=torch.float32))
    return boxes[boxes.nonempty(threshold=1e-5)]


def _copy_segmentation(segmentation: Any) -> Any:
    """A copy that transforms may change in place; RLE goes as it is."""
    if isinstance(segmentation, list):
        return [np.array(polygon, dtype=np.float64) for polygon in segmentation]
    return segmentation


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Numpy's and Python's global generators start at ``seed`` within, and are as before after.

    None leaves them alone.
    """
    if seed is None:
        yield
        return
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)
