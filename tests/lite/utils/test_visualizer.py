from types import SimpleNamespace

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch

from match_rcnn.lite.structures import BitMasks, Boxes, BoxMode, Instances, Keypoints, PolygonMasks
from match_rcnn.lite.utils.visualizer import ColorMode, GenericMask, VisImage, Visualizer

GREY = 120
METADATA = SimpleNamespace(
    thing_classes=["top", "skirt"],
    thing_colors=[(255, 0, 0), (0, 0, 255)],
    keypoint_names=["a", "b", "c"],
    keypoint_connection_rules=[("a", "b", (0, 255, 0)), ("b", "unknown", (0, 0, 255))],
)


def image() -> np.ndarray:
    return np.full((60, 80, 3), GREY, dtype=np.uint8)


def changed(output: VisImage) -> np.ndarray:
    """(60, 80) where something was drawn."""
    return (output.get_image() != GREY).any(axis=2)


def predictions() -> Instances:
    masks = torch.zeros(2, 60, 80, dtype=torch.bool)
    masks[0, 10:40, 10:40] = True
    masks[1, 30:55, 50:75] = True
    keypoints = torch.tensor([[[15.0, 15, 0.9], [35, 15, 0.9], [35, 35, 0.01]]]).repeat(2, 1, 1)
    return Instances(
        (60, 80),
        pred_boxes=Boxes([[10, 10, 40, 40], [50, 30, 75, 55]]),
        scores=torch.tensor([0.98, 0.51]),
        pred_classes=torch.tensor([0, 1]),
        pred_masks=masks,
        pred_keypoints=keypoints,
    )


class TestGenericMask:
    def test_from_bitmap(self):
        bitmap = np.zeros((20, 30), dtype=bool)
        bitmap[5:10, 10:20] = True
        mask = GenericMask(bitmap, 20, 30)
        assert mask.area() == 50
        assert mask.bbox().tolist() == [10, 5, 20, 10]
        assert not mask.has_holes
        (polygon,) = mask.polygons
        corners = polygon.reshape(-1, 2)
        assert corners.min(axis=0).tolist() == [10.5, 5.5]
        assert corners.max(axis=0).tolist() == [19.5, 9.5]

    def test_holes(self):
        bitmap = np.ones((20, 30), dtype=np.uint8)
        bitmap[5:10, 10:20] = 0
        assert GenericMask(bitmap, 20, 30).has_holes
        two_parts = np.ones((20, 30), dtype=np.uint8)
        two_parts[:, 10:20] = 0
        mask = GenericMask(two_parts, 20, 30)
        assert not mask.has_holes
        assert len(mask.polygons) == 2

    def test_from_polygons(self):
        mask = GenericMask([[10.0, 5, 20, 5, 20, 10, 10, 10]], 20, 30)
        assert mask.bbox().tolist() == [10, 5, 20, 10]
        assert mask.area() == 50
        assert mask.mask.shape == (20, 30)
        assert not mask.has_holes

    @pytest.mark.parametrize("compressed", [True, False])
    def test_from_run_lengths(self, compressed):
        bitmap = np.zeros((20, 30), dtype=np.uint8)
        bitmap[5:10, 10:20] = 1
        code = mask_util.encode(np.asfortranarray(bitmap))
        if not compressed:
            flat = bitmap.flatten(order="F")
            ends = np.flatnonzero(np.diff(flat)) + 1
            counts = np.diff([0, *ends, flat.size]).tolist()
            code = {"size": [20, 30], "counts": counts}
        assert (GenericMask(code, 20, 30).mask == bitmap).all()

    def test_empty(self):
        for given in ([], np.zeros((20, 30))):
            mask = GenericMask(given, 20, 30)
            assert mask.area() == 0
            assert mask.bbox().tolist() == [0, 0, 0, 0]
            assert mask.polygons == []

    def test_of_another_size(self):
        with pytest.raises(ValueError, match=r"20 x 30, got \(5, 5\)"):
            GenericMask(np.zeros((5, 5)), 20, 30)


class TestPredictions:
    def test_everything(self):
        output = Visualizer(image(), METADATA).draw_instance_predictions(predictions())
        drawn = changed(output)
        assert drawn[12:38, 12:38].all()  # masks
        assert drawn[32:53, 52:73].all()
        assert not drawn[:20, 55:].any()
        assert not drawn[45:55, :5].any()

    @pytest.mark.parametrize(
        "fields",
        [
            ["pred_boxes"],
            ["pred_masks"],
            ["pred_keypoints"],
            ["scores", "pred_boxes"],
            ["pred_classes", "pred_masks"],
        ],
    )
    def test_some_of_it(self, fields):
        found = predictions()
        part = Instances((60, 80), **{name: found.get(name) for name in fields})
        assert changed(Visualizer(image()).draw_instance_predictions(part)).any()

    def test_none(self):
        visualizer = Visualizer(image(), METADATA)
        assert not changed(visualizer.draw_instance_predictions(predictions()[:0])).any()
        assert not changed(visualizer.draw_instance_predictions(Instances((60, 80)))).any()

    def test_colors_by_category(self):
        visualizer = Visualizer(image(), METADATA, instance_mode=ColorMode.SEGMENTATION)
        found = predictions()
        found.remove("pred_keypoints")
        picture = visualizer.draw_instance_predictions(found, jittering=False).get_image()
        red, blue = picture[36, 25].astype(int), picture[50, 62].astype(int)
        assert red[0] > 200
        assert red[2] < 80
        assert blue[2] > 200
        assert blue[0] < 80

    def test_grey_outside_of_the_masks(self):
        colorful = image()
        colorful[:, :, 0] = 250
        visualizer = Visualizer(colorful, instance_mode=ColorMode.IMAGE_BW)
        picture = visualizer.draw_instance_predictions(predictions()).get_image()
        outside = picture[57:, :40].astype(int)
        assert (outside.max(axis=2) == outside.min(axis=2)).all()

    def test_scale(self):
        visualizer = Visualizer(image(), METADATA, scale=2.0)
        picture = visualizer.draw_instance_predictions(predictions()).get_image()
        assert picture.shape == (120, 160, 3)
        assert (picture[30:76, 24:76] != GREY).any(axis=2).all()

    def test_keypoints_below_the_threshold_are_not_drawn(self):
        found = predictions()[:1]
        part = Instances((60, 80), pred_keypoints=found.pred_keypoints)
        drawn = changed(Visualizer(image(), METADATA).draw_instance_predictions(part))
        assert drawn[15, 15]
        assert drawn[15, 25]  # the line between a and b
        assert not drawn[30:40, 30:40].any()


class TestDatasetDict:
    def annotation(self, **extra):
        return {
            "bbox": [10, 10, 30, 30],
            "bbox_mode": BoxMode.XYWH_ABS,
            "category_id": 1,
            "segmentation": [[10.0, 10, 40, 10, 40, 40, 10, 40]],
            **extra,
        }

    def test_instances(self):
        dic = {"annotations": [self.annotation(), self.annotation(bbox=[50, 30, 20, 20])]}
        drawn = changed(Visualizer(image(), METADATA).draw_dataset_dict(dic))
        assert drawn[12:38, 12:38].all()
        assert drawn[45, 69:71].any()  # the second box's right side
        assert not drawn[:20, 55:].any()

    def test_keypoints_of_different_numbers(self):
        dic = {
            "annotations": [
                self.annotation(keypoints=np.array([[60.5, 20.5, 2]])),
                self.annotation(keypoints=[70.5, 50.5, 2, 5.5, 55.5, 1, 77.5, 5.5, 0]),
            ]
        }
        drawn = changed(Visualizer(image(), METADATA).draw_dataset_dict(dic))
        assert drawn[20, 60]
        assert drawn[50, 70]
        assert drawn[55, 5]
        assert not drawn[5, 77]  # not labelled

    def test_an_annotation_that_lacks_something(self):
        bare = self.annotation()
        del bare["segmentation"]
        dic = {"annotations": [bare, self.annotation(iscrowd=1, keypoints=[60.5, 20.5, 2])]}
        assert changed(Visualizer(image()).draw_dataset_dict(dic))[20, 60]

    @pytest.mark.parametrize("dic", [{}, {"annotations": []}])
    def test_nothing(self, dic):
        assert not changed(Visualizer(image()).draw_dataset_dict(dic)).any()


class TestLabels:
    def test_text(self):
        visualizer = Visualizer(image(), METADATA)
        assert visualizer._labels([0, 1], [0.981, 0.5]) == ["top 98%", "skirt 50%"]
        assert visualizer._labels([0, 1], None, [0, 1]) == ["top", "skirt|crowd"]
        assert visualizer._labels(None, [0.5]) == ["50%"]
        assert visualizer._labels(None, None) is None
        assert Visualizer(image())._labels([7], None) == ["7"]


class TestOverlay:
    bitmap = np.zeros((60, 80), dtype=bool)
    bitmap[20:40, 20:40] = True
    polygon = np.array([20.0, 20, 40, 20, 40, 40, 20, 40])

    @pytest.mark.parametrize(
        "masks",
        [
            bitmap[None],
            torch.from_numpy(bitmap)[None],
            BitMasks(torch.from_numpy(bitmap)[None]),
            PolygonMasks([[polygon]]),
            [[polygon]],
            [[polygon.tolist()]],
            [mask_util.encode(np.asfortranarray(bitmap.astype(np.uint8)))],
            [GenericMask(bitmap, 60, 80)],
        ],
    )
    def test_masks_of_every_kind(self, masks):
        drawn = changed(Visualizer(image()).overlay_instances(masks=masks))
        assert drawn[21:39, 21:39].all()
        assert not drawn[:17].any()
        assert not drawn[44:].any()

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("boxes", Boxes([[20, 20, 40, 40]])),
            ("boxes", [[20.0, 20, 40, 40]]),
            ("keypoints", Keypoints([[[20, 20, 1]]])),
            ("keypoints", np.array([[[20, 20, 1]]])),
        ],
    )
    def test_other_kinds(self, name, value):
        drawn = changed(Visualizer(image()).overlay_instances(**{name: value}))
        assert drawn[20, 20]
        assert not drawn[30, 30]

    def test_small_ones_lie_above(self):
        boxes = [[25.0, 25, 39, 39], [10, 10, 60, 50]]
        masks = np.zeros((2, 60, 80))
        masks[0, 25:39, 25:39] = 1
        masks[1, 10:50, 10:60] = 1
        picture = Visualizer(image()).overlay_instances(
            boxes=boxes, masks=masks, assigned_colors=["r", "b"], alpha=1.0
        )
        assert picture.get_image()[32, 32].tolist() == [255, 0, 0]

    def test_a_hole_stays_open(self):
        mask = self.bitmap.copy()
        mask[28:32, 28:32] = False
        drawn = changed(Visualizer(image()).overlay_instances(masks=mask[None]))
        assert (drawn == mask).all()

    def test_labels_need_a_place(self):
        visualizer = Visualizer(image())
        assert changed(visualizer.overlay_instances(labels=["a"], boxes=[[20, 20, 40, 40]])).any()
        assert not changed(Visualizer(image()).overlay_instances(labels=["a"])).any()

    def test_lengths_must_agree(self):
        with pytest.raises(ValueError, match=r"\[1, 2\]"):
            Visualizer(image()).overlay_instances(labels=["a", "b"], boxes=[[0, 0, 1, 1]])

    def test_nothing(self):
        assert not changed(Visualizer(image()).overlay_instances()).any()
        assert not changed(Visualizer(image()).overlay_instances(boxes=np.zeros((0, 4)))).any()


class TestPrimitives:
    def test_each_draws_and_gives_the_output(self):
        for name, arguments in {
            "draw_text": ("hello", (40, 10)),
            "draw_box": ((20, 20, 40, 40),),
            "draw_circle": ((30, 30), "r"),
            "draw_line": ([10, 50], [10, 50], "b"),
            "draw_polygon": ([(10, 10), (50, 10), (30, 40)], "c"),
            "draw_binary_mask": (TestOverlay.bitmap,),
            "draw_soft_mask": (TestOverlay.bitmap * 0.5,),
        }.items():
            visualizer = Visualizer(image())
            assert getattr(visualizer, name)(*arguments) is visualizer.get_output()
            assert changed(visualizer.get_output()).any(), name

    def test_small_parts_of_a_mask_are_left_out(self):
        mask = TestOverlay.bitmap.copy()
        mask[50:53, 70:73] = True  # 9 pixels
        assert not changed(Visualizer(image()).draw_binary_mask(mask))[50:53, 70:73].any()
        drawn = changed(Visualizer(image()).draw_binary_mask(mask, area_threshold=9))
        assert drawn[50:53, 70:73].all()
        assert not changed(Visualizer(image()).draw_binary_mask(mask, area_threshold=1e4)).any()

    def test_text_in_a_mask(self):
        plain = Visualizer(image()).draw_binary_mask(TestOverlay.bitmap, "w")
        written = Visualizer(image()).draw_binary_mask(TestOverlay.bitmap, "w", text="x")
        differs = (plain.get_image() != written.get_image()).any(axis=2)
        row, column = np.argwhere(differs).mean(axis=0)
        assert 25 < row < 45
        assert column == pytest.approx(29.5, abs=2)
        Visualizer(image()).draw_soft_mask(np.zeros((60, 80)), text="nowhere")

    @pytest.mark.parametrize(
        ("factor", "expected"), [(0, (0.5, 0.25, 0.25)), (-1, (0, 0, 0)), (1, (0.83, 0.67, 0.67))]
    )
    def test_brightness(self, factor, expected):
        # Lightness 0.375 becomes 0, 0.375, 0.75 at saturation 1/3.
        color = Visualizer(image())._change_color_brightness((0.5, 0.25, 0.25), factor)
        assert color == pytest.approx(expected, abs=0.01)
        with pytest.raises(ValueError, match="got 2"):
            Visualizer(image())._change_color_brightness("r", 2)

    def test_jitter_stays_a_color(self):
        for _ in range(20):
            color = Visualizer(image())._jitter((0.9, 0.1, 0.5))
            assert all(0 <= v <= 1 for v in color)
