import numpy as np
import pytest
import torch

from match_rcnn.d2 import Boxes, BoxMode, Instances
from match_rcnn.data.taxonomy import DEEPFASHION2, Category, Taxonomy
from match_rcnn.structures import garments_from_dataset_dict, garments_from_instances


def test_instances_become_garments_most_confident_first():
    instances = Instances((20, 30))
    instances.pred_boxes = Boxes(torch.tensor([[0.0, 0, 5, 5], [1.0, 2, 11, 12]]))
    instances.scores = torch.tensor([0.2, 0.9])
    instances.pred_classes = torch.tensor([0, 8])  # short sleeve top, skirt
    instances.pred_keypoints = torch.arange(2.0 * DEEPFASHION2.max_landmarks * 3).reshape(
        2, DEEPFASHION2.max_landmarks, 3
    )
    instances.pred_masks = torch.zeros(2, 20, 30, dtype=torch.bool)
    instances.pred_masks[1, 3:5, 4:8] = True

    skirt, top = garments_from_instances(instances)

    assert (skirt.category.name, top.category.name) == ("skirt", "short sleeve top")
    assert (skirt.landmarks.shape, top.landmarks.shape) == ((8, 3), (25, 3))
    assert skirt.landmarks[0].tolist() == [117.0, 118.0, 119.0]
    assert skirt.box.tolist() == [1, 2, 11, 12]
    assert skirt.to_dict()["mask_pixels"] == 8
    assert np.isclose(skirt.score, 0.9)
    assert top.embedding is None


def test_of_dense_landmarks_a_garment_gets_its_categorys():
    """As the host's stock keypoint head gives them: every category's channels in a row."""
    instances = Instances((20, 30))
    instances.pred_boxes = Boxes(torch.zeros(2, 4))
    instances.scores = torch.tensor([0.9, 0.2])
    instances.pred_classes = torch.tensor([8, 0])  # skirt, short sleeve top
    channels = torch.arange(float(DEEPFASHION2.num_landmarks))
    instances.pred_keypoints = channels[None, :, None].expand(2, -1, 3)
    skirt, top = garments_from_instances(instances)
    # 25 + 33 + 31 + 39 + 15 + 15 + 10 + 14 come before the skirt's 8
    assert skirt.landmarks[:, 0].tolist() == list(range(182, 190))
    assert top.landmarks[:, 0].tolist() == list(range(25))


def test_landmarks_of_neither_layout_are_refused():
    instances = Instances((20, 30), pred_boxes=Boxes(torch.zeros(1, 4)), scores=torch.ones(1))
    instances.pred_classes = torch.zeros(1, dtype=torch.int64)
    instances.pred_keypoints = torch.zeros(1, 17, 3)
    with pytest.raises(ValueError, match=r"expected 39 \(compact\) or 294 \(dense\) .*, got 17"):
        garments_from_instances(instances)


def test_categories_are_the_taxonomys():
    instances = Instances((20, 30), pred_boxes=Boxes(torch.zeros(1, 4)), scores=torch.ones(1))
    instances.pred_classes = torch.tensor([0])
    hats = Taxonomy("hats", (Category(7, "hat"), Category(9, "cap")))
    assert garments_from_instances(instances, hats)[0].category.name == "hat"
    item = {"bbox": [0, 0, 1, 1], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 1}
    found = garments_from_dataset_dict({"height": 9, "width": 9, "annotations": [item]}, hats)
    assert found[0].category.id == 9


def test_a_model_with_boxes_only_gives_garments_without_the_rest():
    instances = Instances((20, 30))
    instances.pred_boxes = Boxes(torch.zeros(0, 4))
    instances.scores = torch.zeros(0)
    instances.pred_classes = torch.zeros(0, dtype=torch.int64)
    assert garments_from_instances(instances) == []


def test_annotations_become_garments():
    square = [2.0, 2.0, 6.0, 2.0, 6.0, 6.0, 2.0, 6.0]
    item = {
        "height": 10,
        "width": 12,
        "annotations": [
            {
                "bbox": [2, 2, 4, 5],
                "bbox_mode": BoxMode.XYWH_ABS,
                "category_id": 8,
                "segmentation": [square, [x + 2 for x in square]],
                "keypoints": np.arange(24, dtype=np.float32).reshape(8, 3),
            }
        ],
    }
    (skirt,) = garments_from_dataset_dict(item)
    assert skirt.box.tolist() == [2, 2, 6, 7]
    assert skirt.score is None
    assert skirt.landmarks.shape == (8, 3)
    # two 4 x 4 squares that share 2 x 2 pixels
    assert skirt.mask.shape == (10, 12)
    assert skirt.mask.sum() == 16 + 16 - 4
