from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from match_rcnn.lite.config import get_cfg
from match_rcnn.lite.data import detection_utils as utils
from match_rcnn.lite.data import transforms as T
from match_rcnn.lite.structures import BitMasks, BoxMode, PolygonMasks

HEIGHT, WIDTH = 40, 60


def annotation(**changes: Any) -> dict[str, Any]:
    return {
        "bbox": [10.0, 5.0, 20.0, 30.0],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": 3,
        "segmentation": [[10.0, 5.0, 30.0, 5.0, 30.0, 35.0]],
        "keypoints": [10.5, 5.5, 2, 30.5, 5.5, 1, 0.5, 0.5, 0],
        **changes,
    }


class TestImages:
    @pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "1", "LA"])
    def test_every_mode_becomes_three_channels(self, mode: str) -> None:
        white = Image.new("RGB", (6, 4), (255, 255, 255)).convert(mode)
        pixels = utils.convert_PIL_to_numpy(white, "BGR")
        np.testing.assert_array_equal(pixels, np.full((4, 6, 3), 255, dtype=np.uint8))

    def test_formats(self) -> None:
        rgb = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
        image = Image.fromarray(rgb)
        np.testing.assert_array_equal(utils.convert_PIL_to_numpy(image, None), rgb)
        np.testing.assert_array_equal(utils.convert_PIL_to_numpy(image, "BGR"), rgb[..., ::-1])
        luma = np.asarray(image.convert("L"))[..., None]
        np.testing.assert_array_equal(utils.convert_PIL_to_numpy(image, "L"), luma)

    def test_missing_size_is_filled_in(self) -> None:
        dataset_dict = {"height": 4}
        utils.check_image_size(dataset_dict, np.zeros((4, 6, 3)))
        assert dataset_dict == {"width": 6, "height": 4}

    def test_another_size_names_the_file(self) -> None:
        stated = {"width": 4, "height": 6, "file_name": "a/b.jpg"}
        message = r"a/b\.jpg: the annotation's height is 6, the image's 4"
        with pytest.raises(utils.SizeMismatchError, match=message):
            utils.check_image_size(stated, np.zeros((4, 6, 3)))


class TestTransformInstanceAnnotations:
    def test_flip(self) -> None:
        transforms = T.TransformList([T.HFlipTransform(WIDTH)])
        result = utils.transform_instance_annotations(
            annotation(), transforms, (HEIGHT, WIDTH), keypoint_hflip_indices=[1, 0, 2]
        )
        np.testing.assert_allclose(result["bbox"], [30, 5, 50, 35])
        assert result["bbox_mode"] == BoxMode.XYXY_ABS
        np.testing.assert_allclose(result["segmentation"][0], [50, 5, 30, 5, 30, 35])
        expected = [[29.5, 5.5, 1], [49.5, 5.5, 2], [0, 0, 0]]  # left and right change places
        np.testing.assert_allclose(result["keypoints"], expected)

    def test_resize(self) -> None:
        resize = T.ResizeTransform(HEIGHT, WIDTH, 20, 120)
        result = utils.transform_instance_annotations(annotation(), [resize], (20, 120))
        np.testing.assert_allclose(result["bbox"], [20, 2.5, 60, 17.5])
        np.testing.assert_allclose(result["segmentation"][0], [20, 2.5, 60, 2.5, 60, 17.5])
        expected = [[21, 2.75, 2], [61, 2.75, 1], [0, 0, 0]]
        np.testing.assert_allclose(result["keypoints"], expected)

    def test_in_place(self) -> None:
        given_one = annotation()
        done = utils.transform_instance_annotations(given_one, T.NoOpTransform(), (40, 60))
        assert done is given_one

    def test_source_arrays_are_left_alone(self) -> None:
        polygon = np.array([10.0, 5.0, 30.0, 5.0, 30.0, 35.0])
        points = np.array([[10.5, 5.5, 2.0]])
        before = polygon.copy(), points.copy()
        utils.transform_instance_annotations(
            annotation(segmentation=[polygon], keypoints=points),
            T.ResizeTransform(HEIGHT, WIDTH, 20, 120),
            (20, 120),
        )
        np.testing.assert_array_equal(polygon, before[0])
        np.testing.assert_array_equal(points, before[1])

    def test_box_is_clipped(self) -> None:
        box = {"bbox": [-10.0, -5.0, 80.0, 35.0], "bbox_mode": BoxMode.XYXY_ABS}
        result = utils.transform_instance_annotations(box, T.NoOpTransform(), (HEIGHT, WIDTH))
        np.testing.assert_allclose(result["bbox"], [0, 0, 60, 35])

    def test_rle(self) -> None:
        mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
        mask[5:35, 10:30] = 1
        rle = mask_util.encode(np.asfortranarray(mask))
        transforms = T.TransformList([T.HFlipTransform(WIDTH)])
        result = utils.transform_instance_annotations(
            annotation(segmentation=rle, keypoints=[]),
            transforms,
            (HEIGHT, WIDTH),
            keypoint_hflip_indices=[],
        )
        np.testing.assert_array_equal(result["segmentation"], mask[:, ::-1])

    def test_unknown_segmentation(self) -> None:
        with pytest.raises(ValueError, match="or COCO's RLE as a dict, got str"):
            utils.transform_instance_annotations(
                annotation(segmentation="mask"), T.NoOpTransform(), (HEIGHT, WIDTH)
            )


class TestTransformKeypoints:
    def test_outside_becomes_unlabelled(self) -> None:
        edge = [[0, 0, 2], [60, 40, 1], [60.1, 3, 2], [3, -0.1, 2], [5, 5, 0]]
        points = utils.transform_keypoint_annotations(edge, T.NoOpTransform(), (HEIGHT, WIDTH))
        expected = [[0, 0, 2], [60, 40, 1], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
        np.testing.assert_array_equal(points, expected)
        assert points.dtype == np.float64

    def test_two_flips_exchange_nothing(self) -> None:
        flip = T.HFlipTransform(WIDTH)
        points = [[1.5, 2.5, 2], [7.5, 8.5, 1]]
        same = utils.transform_keypoint_annotations(points, [flip, flip], (HEIGHT, WIDTH))
        np.testing.assert_allclose(same, points)

    def test_vertical_flip_exchanges_nothing(self) -> None:
        points = [[1.5, 2.5, 2], [7.5, 8.5, 1]]
        flipped = utils.transform_keypoint_annotations(
            points, [T.VFlipTransform(HEIGHT)], (HEIGHT, WIDTH), [1, 0]
        )
        np.testing.assert_allclose(flipped, [[1.5, 37.5, 2], [7.5, 31.5, 1]])

    @given(st.data())
    def test_flip_moves_each_point_to_its_partner(self, data: st.DataObject) -> None:
        count = data.draw(st.integers(1, 10))
        # Partners in pairs from the front; what is left over is its own partner.
        pairs = data.draw(st.integers(0, count // 2))
        partner = [i ^ 1 if i < 2 * pairs else i for i in range(count)]
        x = data.draw(st.lists(st.floats(0, WIDTH), min_size=count, max_size=count))
        points = [[x[i], i + 0.5, 2] for i in range(count)]
        flipped = utils.transform_keypoint_annotations(
            points, [T.HFlipTransform(WIDTH)], (HEIGHT, WIDTH), partner
        )
        for i in range(count):
            np.testing.assert_allclose(flipped[partner[i]], [WIDTH - x[i], i + 0.5, 2])

    def test_flip_without_fitting_indices(self) -> None:
        flip = [T.HFlipTransform(WIDTH)]
        with pytest.raises(ValueError, match=r"1 keypoints are mirrored.* of 0 which"):
            utils.transform_keypoint_annotations([1, 1, 2], flip, (HEIGHT, WIDTH))
        with pytest.raises(ValueError, match=r"1 keypoints are mirrored.* of 2 which"):
            utils.transform_keypoint_annotations([1, 1, 2], flip, (HEIGHT, WIDTH), [1, 0])

    def test_none(self) -> None:
        points = utils.transform_keypoint_annotations([], T.NoOpTransform(), (HEIGHT, WIDTH))
        assert points.shape == (0, 3)


class TestAnnotationsToInstances:
    def test_polygons(self) -> None:
        instances = utils.annotations_to_instances(
            [annotation(keypoints=np.zeros((3, 3))) for _ in range(2)], (HEIGHT, WIDTH)
        )
        assert instances.image_size == (HEIGHT, WIDTH)
        expected = torch.tensor([[10.0, 5, 30, 35]]).repeat(2, 1)
        torch.testing.assert_close(instances.gt_boxes.tensor, expected)
        assert instances.gt_boxes.tensor.dtype == torch.float32
        assert instances.gt_classes.tolist() == [3, 3]
        assert instances.gt_classes.dtype == torch.int64
        assert isinstance(instances.gt_masks, PolygonMasks)
        assert instances.gt_keypoints.tensor.shape == (2, 3, 3)

    def test_bitmasks_of_everything(self) -> None:
        mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
        mask[5:35, 10:30] = 1
        rectangle = [[10.0, 5.0, 30.0, 5.0, 30.0, 35.0, 10.0, 35.0]]
        rle = mask_util.encode(np.asfortranarray(mask))
        annotations = [annotation(segmentation=s) for s in (rectangle, rle, mask)]
        for anno in annotations:
            del anno["keypoints"]
        instances = utils.annotations_to_instances(annotations, (HEIGHT, WIDTH), "bitmask")
        assert isinstance(instances.gt_masks, BitMasks)
        for bitmap in instances.gt_masks.tensor:
            np.testing.assert_array_equal(bitmap.numpy(), mask.astype(bool))
        assert not instances.has("gt_keypoints")

    @pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
    def test_no_annotation(self, mask_format: str) -> None:
        instances = utils.annotations_to_instances([], (HEIGHT, WIDTH), mask_format)
        assert len(instances) == 0
        assert instances.gt_boxes.tensor.shape == (0, 4)
        assert sorted(instances.get_fields()) == ["gt_boxes", "gt_classes"]

    def test_unlike_numbers_of_keypoints(self) -> None:
        annotations = [annotation(), annotation(keypoints=[1.5, 1.5, 2])]
        with pytest.raises(ValueError, match=r"\[1, 3\] keypoints.*pad"):
            utils.annotations_to_instances(annotations, (HEIGHT, WIDTH))

    def test_wrong_masks(self) -> None:
        rle = {"size": [1, 1], "counts": b"1"}
        for segmentation, mask_format, message in (
            (rle, "polygon", "MASK_FORMAT is 'polygon', .* type dict"),
            (np.zeros((2, 3, 4)), "bitmask", r"size \(40, 60\), got \(2, 3, 4\)"),
            ("mask", "bitmask", "got str"),
            ([[0, 0, 1, 0, 1, 1]], "outline", "'polygon' or 'bitmask'"),
        ):
            with pytest.raises(ValueError, match=message):
                utils.annotations_to_instances(
                    [annotation(segmentation=segmentation)], (HEIGHT, WIDTH), mask_format
                )


class TestBuildAugmentation:
    @pytest.mark.parametrize(
        ("flip", "expected"),
        [
            ("none", []),
            ("horizontal", [(True, False)]),
            ("vertical", [(False, True)]),
        ],
    )
    def test_training(self, flip: str, expected: list[tuple[bool, bool]]) -> None:
        cfg = get_cfg()
        cfg.INPUT.MIN_SIZE_TRAIN = (30, 50)
        cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING = "range"
        cfg.INPUT.MAX_SIZE_TRAIN = 99
        cfg.INPUT.RANDOM_FLIP = flip
        resize, *flips = utils.build_augmentation(cfg, True)
        assert str(resize) == "ResizeShortestEdge(short_edge_length=(30, 50), max_size=99)"
        assert [(f.horizontal, f.vertical) for f in flips] == expected

    def test_inference(self) -> None:
        cfg = get_cfg()
        cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 40, 77
        (resize,) = utils.build_augmentation(cfg, False)
        assert resize.get_transform(np.zeros((50, 100, 3))).new_h == 39  # 77 / 100 * 50 = 38.5
