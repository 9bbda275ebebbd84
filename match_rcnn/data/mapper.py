"""From a dataset dict to a model's input.

Shapes used below: ``N`` items of an image, ``n`` landmarks of an item's category, ``K`` landmark
rows of an item: 39 (compact: the category's ``n``, then zeros) or 294 (dense: the category's
slice among zeros).
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from match_rcnn.d2 import (
    CfgNode,
    Instances,
    Keypoints,
    PolygonMasks,
    T,
    configurable,
    detection_utils,
)
from match_rcnn.data.decoding import DECODERS, read_stored_image
from match_rcnn.data.image_sources import NO_SOURCE, SOURCE_CODES
from match_rcnn.data.taxonomy import CATEGORIES, MAX_LANDMARKS, NUM_LANDMARKS, Category

LANDMARK_LAYOUTS = ("compact", "dense")
#: ``gt_pair_ids`` of an image whose product is unknown.
NO_PAIR = -1


class DeepFashion2Mapper:
    """Read the image, augment it with its annotations, and make tensors of both.

    Takes the dataset dicts of :mod:`match_rcnn.data.datasets`, which it leaves as they are. All
    chance comes from numpy's global generator, by way of the host's augmentations. A dataset dict
    with an integer ``"seed"`` is mapped the same wherever and whenever that happens; the
    generators' states are put back afterwards.

    Args:
        is_train: whether annotations are wanted; without, they are dropped.
        augmentations: the host's augmentations or transforms, in order.
        image_format: such as ``"BGR"``.
        use_masks, use_landmarks: whether ``gt_masks`` and ``gt_keypoints`` are wanted.
        mask_format: ``"polygon"`` or ``"bitmask"``.
        landmark_layout: ``"compact"``, or ``"dense"`` for the host's stock keypoint head.
        decoder: of :data:`match_rcnn.data.decoding.DECODERS`.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        augmentations: Sequence[Any],
        image_format: str,
        use_masks: bool = True,
        use_landmarks: bool = True,
        mask_format: str = "polygon",
        landmark_layout: str = "compact",
        decoder: str = DECODERS[0],
    ) -> None:
        if landmark_layout not in LANDMARK_LAYOUTS:
            known = " or ".join(map(repr, LANDMARK_LAYOUTS))
            raise ValueError(f"landmark_layout must be {known}, got {landmark_layout!r}")
        self.is_train = is_train
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.use_masks = use_masks
        self.use_landmarks = use_landmarks
        self.mask_format = mask_format
        self.landmark_layout = landmark_layout
        self.decoder = decoder

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        if is_train and cfg.INPUT.CROP.ENABLED:
            raise ValueError(
                "INPUT.CROP.ENABLED: a crop in the config is not supported, because it does not "
                "cut polygons; give DeepFashion2Mapper the augmentations yourself"
            )
        return {
            "is_train": is_train,
            "augmentations": detection_utils.build_augmentation(cfg, is_train),
            "image_format": cfg.INPUT.FORMAT,
            "use_masks": cfg.MODEL.MASK_ON,
            "use_landmarks": cfg.MODEL.KEYPOINT_ON,
            "mask_format": cfg.INPUT.MASK_FORMAT,
            "landmark_layout": cfg.INPUT.get("LANDMARK_LAYOUT", "compact"),
            "decoder": cfg.INPUT.get("DECODER", DECODERS[0]),
        }

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Map one image.

        Returns:
            the dataset dict (``source`` and ``pair_id`` among it) with ``image``, a (3, H, W)
            uint8 tensor, and in training ``instances`` in the place of ``annotations``: gt_boxes,
            gt_classes, gt_masks, gt_keypoints (N, K, 3), and for the match network gt_pair_ids,
            gt_sources, gt_styles and gt_has_partner (N,).
            ``height`` and ``width`` stay those of the file.

        Raises:
            ValueError: the image cannot be read, or is not of the stated size.
        """
        sample = dict(dataset_dict)
        annotations = sample.pop("annotations", None)
        with seeded(sample.pop("seed", None)):
            image = read_stored_image(sample["file_name"], self.image_format, self.decoder)
            detection_utils.check_image_size(sample, image)
            augmented = T.AugInput(image)
            transforms = self.augmentations(augmented)
        image = np.ascontiguousarray(augmented.image.transpose(2, 0, 1))
        sample["image"] = torch.from_numpy(image)
        if self.is_train and annotations is not None:
            sample["instances"] = self._instances(
                annotations, transforms, (image.shape[1], image.shape[2]), sample
            )
        return sample

    def _instances(
        self,
        annotations: list[dict[str, Any]],
        transforms: Any,
        image_size: tuple[int, int],
        sample: dict[str, Any],
    ) -> Instances:
        wanted = [a for a in annotations if not a.get("iscrowd", 0)]
        moved = [self._transform(a, transforms, image_size) for a in wanted]
        instances = detection_utils.annotations_to_instances(moved, image_size, self.mask_format)
        if not moved:  # the host leaves fields out that other images of a batch have
            self._add_empty_fields(instances)
        self._add_match_fields(instances, wanted, sample)
        # A box that overlaps nothing would turn every anchor into a match.
        return detection_utils.filter_empty_instances(instances)

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
        category = CATEGORIES[annotation["category_id"]]
        moved = {key: annotation[key] for key in ("bbox_mode", "category_id")}
        # Floats, because the host moves a box of integers by whole pixels.
        moved["bbox"] = [float(value) for value in annotation["bbox"]]
        if self.use_masks:
            moved["segmentation"] = _copy_segmentation(annotation["segmentation"])
        if self.use_landmarks:
            moved["keypoints"] = annotation["keypoints"]
        detection_utils.transform_instance_annotations(
            moved, transforms, image_size, keypoint_hflip_indices=category.flip_permutation
        )
        if self.use_landmarks:
            moved["keypoints"] = self._lay_out(moved["keypoints"], category)
        return moved

    def _lay_out(self, landmarks: npt.NDArray[Any], category: Category) -> npt.NDArray[np.float32]:
        """(n, 3) -> (K, 3)."""
        is_dense = self.landmark_layout == "dense"
        laid_out = np.zeros((self._num_rows, 3), dtype=np.float32)
        rows = category.slice if is_dense else slice(category.num_landmarks)
        laid_out[rows] = landmarks
        return laid_out

    @property
    def _num_rows(self) -> int:
        return NUM_LANDMARKS if self.landmark_layout == "dense" else MAX_LANDMARKS

    def _add_empty_fields(self, instances: Instances) -> None:
        if self.use_masks and self.mask_format == "polygon":
            instances.gt_masks = PolygonMasks([])
        if self.use_landmarks:
            instances.gt_keypoints = Keypoints(torch.zeros(0, self._num_rows, 3))


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
