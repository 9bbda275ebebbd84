import copy
from typing import Any

import numpy as np
import pytest
import torch

from match_rcnn.lite.config import get_cfg
from match_rcnn.lite.data import DatasetMapper, MetadataCatalog
from match_rcnn.lite.data import transforms as T
from match_rcnn.lite.structures import BoxMode

HEIGHT, WIDTH = 20, 30


@pytest.fixture
def dataset_dict(gradient: tuple[str, np.ndarray]) -> dict[str, Any]:
    item = {
        "bbox": [3.0, 4.0, 12.0, 10.0],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": 1,
        "segmentation": [[3.0, 4.0, 15.0, 4.0, 15.0, 14.0]],
        "keypoints": [3.5, 4.5, 2, 14.5, 4.5, 1],
    }
    crowd = {**item, "iscrowd": 1}
    without_area = {**item, "bbox": [3.0, 4.0, 0.0, 10.0], "iscrowd": 0}
    return {
        "file_name": gradient[0],
        "height": HEIGHT,
        "width": WIDTH,
        "image_id": 7,
        "source": "user",
        "annotations": [copy.deepcopy(a) for a in (item, crowd, without_area)],
    }


def flip_and_double(**options: Any) -> DatasetMapper:
    return DatasetMapper(
        options.pop("is_train", True),
        augmentations=[T.HFlipTransform(WIDTH), T.Resize((2 * HEIGHT, 2 * WIDTH), 0)],
        image_format="BGR",
        **options,
    )


class TestTraining:
    def test_image_and_instances(
        self, dataset_dict: dict[str, Any], gradient: tuple[str, np.ndarray]
    ) -> None:
        before = copy.deepcopy(dataset_dict)
        mapper = flip_and_double(
            use_instance_mask=True, use_keypoint=True, keypoint_hflip_indices=[1, 0]
        )
        result = mapper(dataset_dict)
        assert dataset_dict == before
        bgr = gradient[1][:, ::-1, ::-1].repeat(2, axis=0).repeat(2, axis=1)
        assert result["image"].dtype == torch.uint8
        np.testing.assert_array_equal(result["image"].numpy(), bgr.transpose(2, 0, 1))
        # The file's size and everything else come along.
        assert (result["height"], result["width"]) == (HEIGHT, WIDTH)
        assert result["source"] == "user"
        assert "annotations" not in result
        # The crowd and the box without area are gone.
        instances = result["instances"]
        assert instances.image_size == (2 * HEIGHT, 2 * WIDTH)
        torch.testing.assert_close(
            instances.gt_boxes.tensor, torch.tensor([[30.0, 8.0, 54.0, 28.0]])
        )
        assert instances.gt_classes.tolist() == [1]
        np.testing.assert_allclose(instances.gt_masks.polygons[0][0], [54, 8, 30, 8, 30, 28])
        torch.testing.assert_close(
            instances.gt_keypoints.tensor, torch.tensor([[[31.0, 9, 1], [53, 9, 2]]])
        )

    def test_streams_that_are_off(self, dataset_dict: dict[str, Any]) -> None:
        instances = flip_and_double()(dataset_dict)["instances"]
        assert sorted(instances.get_fields()) == ["gt_boxes", "gt_classes"]

    def test_boxes_of_cut_masks(self, dataset_dict: dict[str, Any]) -> None:
        # The triangle's box is all there is of it above row 9: columns 3 to 15, rows 4 to 9.
        dataset_dict["annotations"][0]["segmentation"] = [[3.0, 4.0, 15.0, 4.0, 15.0, 9.0]]
        mapper = DatasetMapper(
            True,
            augmentations=[],
            image_format="RGB",
            use_instance_mask=True,
            recompute_boxes=True,
        )
        boxes = mapper(dataset_dict)["instances"].gt_boxes.tensor
        torch.testing.assert_close(boxes[0], torch.tensor([3.0, 4.0, 15.0, 9.0]))

    def test_no_annotation_left(self, dataset_dict: dict[str, Any]) -> None:
        dataset_dict["annotations"] = dataset_dict["annotations"][1:2]  # the crowd
        mapper = flip_and_double(use_instance_mask=True, recompute_boxes=True)
        assert len(mapper(dataset_dict)["instances"]) == 0

    def test_wrong_size_names_the_file(self, dataset_dict: dict[str, Any]) -> None:
        dataset_dict["height"] = 99
        with pytest.raises(ValueError, match=r"gradient\.png"):
            flip_and_double()(dataset_dict)

    def test_semantic_segmentation(
        self, dataset_dict: dict[str, Any], gradient: tuple[str, np.ndarray]
    ) -> None:
        result = flip_and_double()({**dataset_dict, "sem_seg_file_name": gradient[0]})
        assert result["sem_seg"].shape == (2 * HEIGHT, 2 * WIDTH)
        assert result["sem_seg"].dtype == torch.int64
        assert "sem_seg_file_name" not in result

    def test_proposals(self, dataset_dict: dict[str, Any]) -> None:
        dataset_dict["proposal_boxes"] = np.array([[0.0, 0, 10, 10], [5, 5, 9, 9]])
        dataset_dict["proposal_objectness_logits"] = np.array([2.0, 1.0])
        dataset_dict["proposal_bbox_mode"] = BoxMode.XYXY_ABS
        proposals = flip_and_double(precomputed_proposal_topk=1)(dataset_dict)["proposals"]
        torch.testing.assert_close(
            proposals.proposal_boxes.tensor, torch.tensor([[40.0, 0, 60, 20]])
        )


def test_inference_drops_annotations(dataset_dict: dict[str, Any]) -> None:
    result = flip_and_double(is_train=False)(dataset_dict)
    assert sorted(result) == ["file_name", "height", "image", "image_id", "source", "width"]


def test_grey_image_is_a_tensor_of_its_own(dataset_dict: dict[str, Any]) -> None:
    mapper = DatasetMapper(False, augmentations=[], image_format="L")
    image = mapper(dataset_dict)["image"]
    assert image.shape == (1, HEIGHT, WIDTH)
    image.zero_()  # PIL's memory is read-only; this must be a copy


@pytest.mark.usefixtures("catalogs")
class TestFromConfig:
    def test_everything_on(self, dataset_dict: dict[str, Any]) -> None:
        MetadataCatalog.get("shirts").set(
            keypoint_names=["left", "right"], keypoint_flip_map=[("left", "right")]
        )
        cfg = get_cfg()
        cfg.DATASETS.TRAIN = ("shirts",)
        cfg.MODEL.MASK_ON = cfg.MODEL.KEYPOINT_ON = cfg.INPUT.CROP.ENABLED = True
        cfg.INPUT.MASK_FORMAT = "bitmask"
        mapper = DatasetMapper(cfg, True)
        kinds = [type(augmentation) for augmentation in mapper.augmentations.augs]
        assert kinds == [T.RandomCrop, T.ResizeShortestEdge, T.RandomFlip]
        assert mapper.keypoint_hflip_indices == [1, 0]
        assert mapper.use_instance_mask
        assert mapper.use_keypoint
        assert mapper.recompute_boxes
        assert mapper.instance_mask_format == "bitmask"
        assert mapper.image_format == "BGR"
        assert mapper.proposal_topk is None

    def test_inference(self, dataset_dict: dict[str, Any]) -> None:
        cfg = get_cfg()
        cfg.INPUT.MIN_SIZE_TEST = 40
        cfg.INPUT.CROP.ENABLED = True  # for training only
        mapper = DatasetMapper(cfg, is_train=False)
        assert mapper(dataset_dict)["image"].shape == (3, 40, 60)

    def test_overrides(self) -> None:
        mapper = DatasetMapper(get_cfg(), is_train=True, augmentations=[], image_format="RGB")
        assert mapper.augmentations.augs == []
        assert mapper.image_format == "RGB"

    def test_boxes_of_masks_need_masks(self) -> None:
        with pytest.raises(AssertionError, match="where masks are kept"):
            DatasetMapper(True, augmentations=[], image_format="BGR", recompute_boxes=True)
