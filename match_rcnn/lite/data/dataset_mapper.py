"""The default way from a dataset dict to a model's input.

Shapes: (C, H, W) the augmented image.
"""

import copy
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from match_rcnn.lite.config import CfgNode, configurable

from . import detection_utils as utils
from . import transforms as T

__all__ = ["DatasetMapper"]


class DatasetMapper:
    """Read the image, augment it together with its annotations, make tensors of both.

    Args:
        is_train: whether annotations are wanted; without, they are dropped.
        augmentations: Augmentations or transforms, in order.
        image_format: see :mod:`image_io`.
        use_instance_mask: keep masks, where there are any.
        use_keypoint: keep keypoints, where there are any.
        instance_mask_format: "polygon" or "bitmask".
        keypoint_hflip_indices: see :func:`detection_utils.create_keypoint_hflip_indices`.
        precomputed_proposal_topk: take so many proposals from "proposal_boxes".
        recompute_boxes: make the boxes anew from the transformed masks. A crop cuts a mask to
            a smaller box than it cuts its box.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        augmentations: Sequence[T.Augmentation | T.Transform],
        image_format: str,
        use_instance_mask: bool = False,
        use_keypoint: bool = False,
        instance_mask_format: str = "polygon",
        keypoint_hflip_indices: NDArray[Any] | Sequence[int] | None = None,
        precomputed_proposal_topk: int | None = None,
        recompute_boxes: bool = False,
    ) -> None:
        if recompute_boxes:
            assert use_instance_mask, "boxes can only be made anew where masks are kept"
        self.is_train = is_train
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.use_instance_mask = use_instance_mask
        self.instance_mask_format = instance_mask_format
        self.use_keypoint = use_keypoint
        self.keypoint_hflip_indices = keypoint_hflip_indices
        self.proposal_topk = precomputed_proposal_topk
        self.recompute_boxes = recompute_boxes
        mode = "training" if is_train else "inference"
        logging.getLogger(__name__).info("augmentations in %s: %s", mode, self.augmentations)

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        augmentations = utils.build_augmentation(cfg, is_train)
        crop = cfg.INPUT.CROP.ENABLED and is_train
        if crop:
            augmentations.insert(0, T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE))
        arguments = {
            "is_train": is_train,
            "augmentations": augmentations,
            "image_format": cfg.INPUT.FORMAT,
            "use_instance_mask": cfg.MODEL.MASK_ON,
            "instance_mask_format": cfg.INPUT.MASK_FORMAT,
            "use_keypoint": cfg.MODEL.KEYPOINT_ON,
            "recompute_boxes": cfg.MODEL.MASK_ON and crop,
        }
        if cfg.MODEL.KEYPOINT_ON:
            arguments["keypoint_hflip_indices"] = utils.create_keypoint_hflip_indices(
                cfg.DATASETS.TRAIN
            )
        if cfg.MODEL.LOAD_PROPOSALS:
            part = "TRAIN" if is_train else "TEST"
            topk = cfg.DATASETS[f"PRECOMPUTED_PROPOSAL_TOPK_{part}"]
            arguments["precomputed_proposal_topk"] = topk
        return arguments

    def _transform_annotations(
        self, dataset_dict: dict[str, Any], transforms: T.TransformList, image_shape: Any
    ) -> None:
        """Put "instances" in the place of "annotations"; crowds are left out."""
        annotations = []
        for annotation in dataset_dict.pop("annotations"):
            if annotation.get("iscrowd", 0) != 0:
                continue
            if not self.use_instance_mask:
                annotation.pop("segmentation", None)
            if not self.use_keypoint:
                annotation.pop("keypoints", None)
            utils.transform_instance_annotations(
                annotation,
                transforms,
                image_shape,
                keypoint_hflip_indices=self.keypoint_hflip_indices,
            )
            annotations.append(annotation)
        instances = utils.annotations_to_instances(
            annotations, image_shape, mask_format=self.instance_mask_format
        )
        if self.recompute_boxes and instances.has("gt_masks"):
            instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
        dataset_dict["instances"] = utils.filter_empty_instances(instances)

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """One image's dataset dict -> the same with "image" and, in training, "instances".

        Returns:
            a new dict: "image" is (C, H, W) in the image's dtype; "instances", "sem_seg" (H, W)
            int64 and "proposals" where the data has them; "height" and "width" stay those of
            the file.
        """
        dataset_dict = copy.deepcopy(dataset_dict)
        image = utils.read_image(dataset_dict["file_name"], format=self.image_format)
        utils.check_image_size(dataset_dict, image)
        sem_seg = None
        if "sem_seg_file_name" in dataset_dict:
            sem_seg = utils.read_image(dataset_dict.pop("sem_seg_file_name"), "L").squeeze(2)
        aug_input = T.AugInput(image, sem_seg=sem_seg)
        transforms = self.augmentations(aug_input)
        image, sem_seg = aug_input.image, aug_input.sem_seg
        image_shape = (image.shape[0], image.shape[1])
        # A tensor, because tensors pass between processes through shared memory.
        dataset_dict["image"] = torch.from_numpy(np.array(image.transpose(2, 0, 1), order="C"))
        if sem_seg is not None:
            dataset_dict["sem_seg"] = torch.from_numpy(sem_seg.astype(np.int64))
        if self.proposal_topk is not None:
            utils.transform_proposals(
                dataset_dict, image_shape, transforms, proposal_topk=self.proposal_topk
            )
        if not self.is_train:
            dataset_dict.pop("annotations", None)
        elif "annotations" in dataset_dict:
            self._transform_annotations(dataset_dict, transforms, image_shape)
        return dataset_dict
