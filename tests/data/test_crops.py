"""Regions of photos as a model's input, and what becomes of their labels."""

import cv2
import numpy as np
import pytest
import torch

from match_rcnn.d2 import BoxMode
from match_rcnn.data.crops import UNKNOWN, CropMapper, item_number
from match_rcnn.data.image_size import UnreadableImageError

WIDTH, HEIGHT = 60, 80
VISIBILITY = np.array([0, 1, 2, 3, 0, 0, 0, 0], np.int8)
POINTS = np.array([(12, 14), (30, 14), (0, 0), (0, 0), (10, 70), (50, 10), (9, 40), (30, 41)])


@pytest.fixture
def record(tmp_path):
    """A photo whose columns tell their number."""
    image = np.repeat(np.arange(WIDTH, dtype=np.uint8)[None, :, None], HEIGHT, 0).repeat(3, 2)
    cv2.imwrite(str(tmp_path / "photo.png"), image)
    return {
        "file_name": str(tmp_path / "photo.png"),
        "image_id": 7,
        "item": "id_00000003",
        "domain": "consumer",
        "annotations": [
            {
                "bbox": [10.0, 10.0, 50.0, 70.0],
                "bbox_mode": BoxMode.XYXY_ABS,
                "category_id": 2,
                "attributes": np.array([1, -1, 0], np.int8),
                "landmarks": POINTS.astype(np.float32),
                "visibility": VISIBILITY,
            }
        ],
    }


def test_a_region_is_resized_and_everything_with_it(record):
    found = CropMapper(True, num_attributes=3, size=80)(record)
    assert found["image"].shape == (3, 80, 80)
    assert found["image"].dtype == torch.uint8
    # 40 columns from 10 on became 80
    assert abs(int(found["image"][0, 5, 41]) - 30) <= 1
    assert (found["height"], found["width"]) == (HEIGHT, WIDTH)
    assert found["region"].tolist() == [10, 10, 50, 70]
    assert found["box"].tolist() == [0, 0, 80, 80]
    truth = found["instances"]
    assert truth.gt_classes.tolist() == [2]
    assert truth.gt_attributes.tolist() == [[1, -1, 0]]
    assert truth.gt_domains.tolist() == [1]
    assert truth.gt_items.tolist() == [item_number("id_00000003")]
    slots = truth.gt_slots[0]
    torch.testing.assert_close(slots[0], torch.tensor([4.0, 4 * 80 / 60, 0]))
    # The seventh lies left of the region: for this crop it is outside.
    assert slots[:, 2].tolist() == [0, 1, 2, 3, 0, 0, 2, 0]


def test_a_mirror_image_changes_sides(record):
    plain = CropMapper(True, num_attributes=3, size=80)(record)
    mirrored = CropMapper(True, num_attributes=3, size=80, flip=1.0)(record)
    assert torch.equal(mirrored["image"], plain["image"].flip(2))
    one, other = (x["instances"].gt_slots[0] for x in (plain, mirrored))
    for left, right in ((0, 1), (2, 3), (4, 5), (6, 7)):
        assert other[left, 2] == one[right, 2]
        torch.testing.assert_close(other[left, 0], 80 - one[right, 0])
        assert other[left, 1] == one[right, 1]


def test_a_margin_stays_in_the_photo(record):
    found = CropMapper(True, num_attributes=3, margin=0.3)(record)
    assert found["region"].tolist() == [0, 0, 60, 80]


def test_jitter_is_the_seed_s_and_training_s_alone(record):
    mapper = CropMapper(True, num_attributes=3, jitter=0.2)
    regions = [mapper({**record, "seed": s})["region"].tolist() for s in (1, 1, 2)]
    assert regions[0] == regions[1] != regions[2]
    low, high = np.array([10 - 8, 10 - 12, 50 - 9, 70 - 13]), np.array([19, 23, 59, 83])
    assert (np.array(regions) >= low).all()
    assert (np.array(regions) <= high).all()
    calm = CropMapper(False, num_attributes=3, jitter=0.2, flip=1.0)({**record, "seed": 1})
    assert calm["region"].tolist() == [10, 10, 50, 70]


def test_a_whole_photo_says_where_the_region_lies(record):
    found = CropMapper(True, num_attributes=3, size=None, photo_size=(120, 200), flip=1.0)(record)
    assert found["image"].shape == (3, 160, 120)
    assert found["box"].tolist() == [120 - 100, 20, 120 - 20, 140]
    torch.testing.assert_close(
        found["instances"].gt_slots[0, 1], torch.tensor([120 - 24.0, 28.0, 0])
    )


def test_missing_labels_are_unknown(record):
    record["annotations"] = [{k: record["annotations"][0][k] for k in ("bbox", "bbox_mode")}]
    del record["item"], record["domain"]
    truth = CropMapper(True, num_attributes=3)(record)["instances"]
    assert truth.gt_attributes.tolist() == [[0, 0, 0]]
    unknown = (truth.gt_classes, truth.gt_items, truth.gt_domains, truth.gt_slots[..., 2])
    assert all((values == UNKNOWN).all() for values in unknown)


def test_inference_keeps_landmarks_at_most(record):
    """A data set may count other categories and attributes than the model."""
    truth = CropMapper(False, num_attributes=9)(record)["instances"]
    assert truth.gt_classes.tolist() == [UNKNOWN]
    assert truth.gt_attributes.tolist() == [[0] * 9]
    assert truth.gt_slots[0, 0, 2] == 0
    assert "instances" not in CropMapper(False, keep_truth=False)(record)


def test_bad_records(record):
    with pytest.raises(ValueError, match=r"photo\.png has 3 attributes, the model knows 4"):
        CropMapper(True, num_attributes=4)(record)
    other = {**record, "annotations": [{**record["annotations"][0], "bbox": [60.0, 5, 70, 30]}]}
    with pytest.raises(UnreadableImageError, match=r"60 x 80 pixels, of which .* covers none"):
        CropMapper(True, num_attributes=3)(other)
    with pytest.raises(ValueError, match="expected one garment in the image, got 0"):
        CropMapper(True, num_attributes=3)({**record, "annotations": []})


@pytest.mark.parametrize("key", ["margin", "jitter", "flip"])
def test_bad_settings(key):
    with pytest.raises(ValueError, match=rf"RECOGNITION\.{key.upper()} must be from 0 to"):
        CropMapper(True, **{key: -0.1})


@pytest.mark.parametrize("order", ["BGR", "RGB"])
def test_a_photo_that_is_there_gives_what_its_file_gives(record, order):
    mapper = CropMapper(False, keep_truth=False, size=32, margin=0.1, image_format=order)
    photo = cv2.imread(str(record["file_name"]))
    given = mapper.given(photo, record["annotations"][0]["bbox"])
    read = mapper(record)
    for key in ("image", "region", "box"):
        assert torch.equal(given[key], read[key]), key
    assert (given["height"], given["width"]) == (read["height"], read["width"])
    with pytest.raises(ValueError, match=r"the photo has .* covers none"):
        mapper.given(photo, [500, 500, 600, 600])
