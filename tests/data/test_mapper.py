import copy
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import BoxMode, MetadataCatalog, T, detection_utils
from match_rcnn.data.augmentations import FrameTransform
from match_rcnn.data.datasets import load_annotation_file
from match_rcnn.data.ignore_regions import ignore_regions_of
from match_rcnn.data.images import read_image
from match_rcnn.data.mapper import GarmentMapper, seeded
from match_rcnn.data.sources.deepfashion2 import parse_item
from match_rcnn.data.taxonomy import DEEPFASHION2, Taxonomy

CATEGORIES = DEEPFASHION2.categories

WIDTH, HEIGHT = 40, 60


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture
def image_file(tmp_path, pixels):
    path = tmp_path / "000001.png"
    Image.fromarray(pixels).save(path)
    return str(path)


def annotation(category_id=7, **values):
    """A box 10, 20 to 30, 50; all landmarks visible, on a line within it."""
    n = CATEGORIES[category_id].num_landmarks
    keypoints = np.full((n, 3), 2, dtype=np.float32)
    keypoints[:, 0] = 10.5 + np.arange(n) % 20
    keypoints[:, 1] = 20.5 + np.arange(n) % 30
    return {
        "id": 1,
        "bbox": [10, 20, 20, 30],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": category_id,
        "segmentation": [np.array([10.0, 20, 30, 20, 30, 50])],
        "keypoints": keypoints,
        "num_keypoints": n,
        "iscrowd": 0,
        "style": 3,
        **values,
    }


def sample(image_file, *annotations, **values):
    return {
        "file_name": image_file,
        "image_id": 1,
        "height": HEIGHT,
        "width": WIDTH,
        "source": "user",
        "pair_id": 12,
        "annotations": list(annotations),
        **values,
    }


def mapper(*augmentations, is_train=True, **options):
    options = {"image_format": "BGR", **options}
    return GarmentMapper(is_train, augmentations=augmentations, **options)


class TestWithoutAugmentation:
    def test_image(self, image_file, pixels):
        image = mapper()(sample(image_file, annotation()))["image"]
        assert image.dtype == torch.uint8
        assert (image.numpy() == pixels[:, :, ::-1].transpose(2, 0, 1)).all()

    def test_instances(self, image_file):
        instances = mapper()(sample(image_file, annotation(7), annotation(8, style=0)))["instances"]
        assert instances.image_size == (HEIGHT, WIDTH)
        assert instances.gt_boxes.tensor.tolist() == [[10, 20, 30, 50]] * 2
        assert instances.gt_classes.tolist() == [7, 8]
        assert instances.gt_classes.dtype == torch.int64
        assert [p.tolist() for p in instances.gt_masks.polygons[0]] == [[10, 20, 30, 20, 30, 50]]
        assert instances.gt_pair_ids.tolist() == [12, 12]
        assert instances.gt_styles.tolist() == [3, 0]
        assert instances.gt_pair_ids.dtype == instances.gt_styles.dtype == torch.int64

    def test_compact_landmarks(self, image_file):
        first, second = annotation(7), annotation(3)
        found = mapper()(sample(image_file, first, second))["instances"].gt_keypoints.tensor
        assert found.shape == (2, 39, 3)
        assert (found[0, :14].numpy() == first["keypoints"]).all()
        assert (found[0, 14:] == 0).all()
        assert (found[1].numpy() == second["keypoints"]).all()  # the category of 39

    def test_dense_landmarks(self, image_file):
        item = annotation(7)
        dense = mapper(landmark_layout="dense")
        found = dense(sample(image_file, item))["instances"].gt_keypoints.tensor
        assert found.shape == (1, 294, 3)
        assert (found[0, 168:182].numpy() == item["keypoints"]).all()
        assert (found[0, :168] == 0).all()
        assert (found[0, 182:] == 0).all()

    def test_what_rides_along(self, image_file):
        mapped = mapper()(sample(image_file, annotation()))
        assert (mapped["source"], mapped["pair_id"], mapped["image_id"]) == ("user", 12, 1)
        assert (mapped["height"], mapped["width"]) == (HEIGHT, WIDTH)
        assert "annotations" not in mapped

    def test_unknown_pair_and_style(self, image_file):
        mapped = mapper()(sample(image_file, annotation(style=None), pair_id=None))
        assert mapped["instances"].gt_pair_ids.tolist() == [-1]
        assert mapped["instances"].gt_styles.tolist() == [0]

    def test_unlabelled_landmarks_are_zero(self, image_file):
        item = annotation(7)
        item["keypoints"][3, 2] = 0
        found = mapper()(sample(image_file, item))["instances"].gt_keypoints.tensor
        assert found[0, 3].tolist() == [0, 0, 0]
        assert (found[0, :14, 2] == 2).sum() == 13

    def test_inference(self, image_file):
        mapped = mapper(is_train=False)(sample(image_file, annotation()))
        assert "annotations" not in mapped
        assert "instances" not in mapped
        assert (mapped["source"], mapped["pair_id"]) == ("user", 12)

    def test_masks_and_landmarks_can_be_left_out(self, image_file):
        plain = mapper(use_masks=False, use_landmarks=False)
        instances = plain(sample(image_file, annotation()))["instances"]
        assert not instances.has("gt_masks")
        assert not instances.has("gt_keypoints")
        assert len(instances) == 1

    def test_bitmasks(self, image_file):
        square = annotation(segmentation=[np.array([10.0, 20, 30, 20, 30, 50, 10, 50])])
        instances = mapper(mask_format="bitmask")(sample(image_file, square))["instances"]
        assert instances.gt_masks.tensor.sum() == 20 * 30

    def test_the_dataset_dict_stays_as_it_is(self, image_file):
        before = sample(image_file, annotation(), annotation(2))
        after = copy.deepcopy(before)
        augmentations = [T.ResizeShortestEdge(80, 200), T.RandomFlip(1.0)]
        mapper(*augmentations)(after)
        np.testing.assert_equal(after, before)


class TestLeftOut:
    @pytest.mark.parametrize(
        "values",
        [
            {"bbox": [10, 20, 0, 30]},
            {"bbox": [50, 20, 20, 30]},  # right of the image: clipped to nothing
            {"segmentation": [np.array([5.0, 5, 5, 5, 5, 5])], "bbox": [5, 5, 0, 0]},
            {"iscrowd": 1},
        ],
    )
    def test_items_that_nothing_can_be_learned_from(self, image_file, values):
        bad, good = annotation(2, **values), annotation(7, style=9)
        instances = mapper()(sample(image_file, bad, good))["instances"]
        assert instances.gt_classes.tolist() == [7]
        assert instances.gt_styles.tolist() == [9]

    @pytest.mark.parametrize("layout", [("compact", 39), ("dense", 294)])
    def test_no_items(self, image_file, layout):
        instances = mapper(landmark_layout=layout[0])(sample(image_file))["instances"]
        assert len(instances) == 0
        assert instances.gt_boxes.tensor.shape == (0, 4)
        assert instances.gt_keypoints.tensor.shape == (0, layout[1], 3)
        assert len(instances.gt_masks) == 0
        assert instances.gt_pair_ids.shape == instances.gt_styles.shape == (0,)

    def test_image_and_item_fields_fit_those_of_other_images(self, image_file):
        some = mapper()(sample(image_file, annotation()))["instances"]
        none = mapper()(sample(image_file))["instances"]
        assert set(some.get_fields()) == set(none.get_fields())


OWN = Taxonomy.from_coco(
    [
        {"id": 4, "name": "hat"},
        {
            "id": 2,
            "name": "tie",
            "keypoints": ["left", "right", "tip"],
            "keypoint_sigmas": [0.1, 0.1, 0.1],
        },
    ],
    "own",
)


class TestMissingLabels:
    @pytest.mark.parametrize("missing", [None, [], "no key"])
    @pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
    def test_mask(self, image_file, missing, mask_format):
        bare = annotation(2, segmentation=missing)
        if missing == "no key":
            del bare["segmentation"]
        for items, expected in (((bare, annotation(7)), [False, True]), ((bare,), [False])):
            mapped = mapper(T.RandomFlip(1.0), mask_format=mask_format)(sample(image_file, *items))
            instances = mapped["instances"]
            assert instances.gt_has_mask.tolist() == expected
            assert instances.gt_masks.nonempty().tolist() == expected
            assert len(instances.gt_boxes) == len(expected)
            assert instances.gt_keypoints.tensor[0, 0, 2] == 2
            assert not instances.has("gt_has_landmarks")

    @pytest.mark.parametrize("missing", [None, [], "no key"])
    @pytest.mark.parametrize("layout", ["compact", "dense"])
    def test_landmarks(self, image_file, missing, layout):
        bare = annotation(2, keypoints=missing)
        if missing == "no key":
            del bare["keypoints"]
        own = mapper(T.RandomFlip(1.0), landmark_layout=layout)
        instances = own(sample(image_file, bare, annotation(7)))["instances"]
        assert instances.gt_has_landmarks.tolist() == [False, True]
        assert (instances.gt_keypoints.tensor[0] == 0).all()
        assert (instances.gt_keypoints.tensor[1, :, 2] == 2).sum() == 14
        assert not instances.has("gt_has_mask")

    def test_unwanted_labels_are_not_missed(self, image_file):
        bare = annotation(2, keypoints=None, segmentation=None)
        plain = mapper(use_masks=False, use_landmarks=False)
        fields = plain(sample(image_file, bare))["instances"].get_fields()
        assert not {"gt_has_mask", "gt_has_landmarks", "gt_masks", "gt_keypoints"} & set(fields)

    def test_marks_stay_with_their_items(self, image_file):
        gone = annotation(1, bbox=[10, 20, 0, 30])
        bare = annotation(2, segmentation=None)
        instances = mapper()(sample(image_file, gone, bare, annotation(7)))["instances"]
        assert instances.gt_classes.tolist() == [2, 7]
        assert instances.gt_has_mask.tolist() == [False, True]

    def test_a_mask_that_is_lost_takes_its_item_along(self, image_file):
        """As long as it was there: without one, the box alone counts."""
        outside = annotation(2, segmentation=[np.array([-9.0, -9, -5, -9, -5, -5])])
        cut = mapper(FrameTransform(0, 0, (HEIGHT, WIDTH), [0, 0, 0]))
        instances = cut(sample(image_file, outside, annotation(7, segmentation=[])))["instances"]
        assert instances.gt_classes.tolist() == [7]

    def test_attributes(self, image_file):
        known, unknown = annotation(2, occlusion=3, zoom_in=1), annotation(7, zoom_in=None)
        own = mapper(attributes=("occlusion", "zoom_in"))
        found = own(sample(image_file, known, unknown))["instances"].gt_attributes
        assert found.tolist() == [[3, 1], [-1, -1]]
        assert own(sample(image_file))["instances"].gt_attributes.shape == (0, 2)

    def test_a_taxonomy_of_ones_own(self, image_file):
        """A tie with 3 landmarks, a hat with none."""
        points = np.array([[10.5, 20.5, 2], [20.5, 20.5, 1], [15.5, 40.5, 2]], np.float32)
        tie, hat = annotation(0, keypoints=points), annotation(1)
        del hat["keypoints"]
        own = mapper(T.RandomFlip(1.0), taxonomy=OWN)
        instances = own(sample(image_file, tie, hat))["instances"]
        # 40 - x; "left" and "right" change places
        expected = [[19.5, 20.5, 1], [29.5, 20.5, 2], [24.5, 40.5, 2]]
        assert instances.gt_keypoints.tensor.tolist() == [expected, [[0.0] * 3] * 3]
        assert instances.gt_has_landmarks.tolist() == [True, False]
        dense = mapper(taxonomy=OWN, landmark_layout="dense")
        assert dense(sample(image_file, tie))["instances"].gt_keypoints.tensor.shape == (1, 3, 3)


class TestIgnoreRegions:
    def test_boxes_move_with_the_image(self, image_file):
        region = annotation(2, bbox=[30, 40, 20, 30], iscrowd=1, segmentation={"no": "matter"})
        again, other = {**region, "category_id": 3}, annotation(2, bbox=[0, 0, 8, 6], iscrowd=1)
        outside = annotation(2, bbox=[40, 0, 8, 6], iscrowd=1)
        own = mapper(T.ResizeShortestEdge(80, 1000), T.RandomFlip(1.0))
        mapped = own(sample(image_file, region, again, annotation(7), other, outside))
        assert mapped["instances"].gt_classes.tolist() == [7]
        # twice as large, mirrored in 80, clipped at 120; each region once
        expected = [[0, 80, 20, 120], [64, 0, 80, 12]]
        regions = ignore_regions_of(mapped["instances"].to("cpu"))
        assert regions.tensor.tolist() == expected
        assert regions.tensor.dtype == torch.float32

    def test_images_without_any(self, image_file):
        mapped = mapper()(sample(image_file, annotation()))
        assert ignore_regions_of(mapped["instances"]) is None
        region = annotation(iscrowd=1)
        assert "instances" not in mapper(is_train=False)(sample(image_file, region))


class TestFittedBoxes:
    FRAME = FrameTransform(20, 0, (HEIGHT, WIDTH), [0, 0, 0])

    def test_boxes_shrink_to_what_is_left(self, image_file):
        """A triangle 10, 20 - 30, 20 - 30, 50, cut at x = 20: at its left edge y is 35."""
        item = annotation(keypoints=None)
        for fitted, box in ((True, [0, 20, 10, 50]), (False, [0, 20, 10, 50])):
            found = mapper(self.FRAME, fit_boxes=fitted)(sample(image_file, item))["instances"]
            assert found.gt_boxes.tensor.tolist() == [box]
        low = annotation(segmentation=[np.array([10.0, 20, 18, 20, 30, 40, 30, 50])])
        low["keypoints"] = None
        fitted = mapper(self.FRAME, fit_boxes=True, use_masks=False)(sample(image_file, low))
        # the edge from 18, 20 to 30, 40 is at y = 23 1/3 where x is 20
        box = fitted["instances"].gt_boxes.tensor[0].tolist()
        assert box == pytest.approx([0, 20 + 10 / 3, 10, 50])
        assert not fitted["instances"].has("gt_masks")


class TestResize:
    def test_everything_is_scaled(self, image_file):
        mapped = mapper(T.ResizeShortestEdge(80, 1000))(sample(image_file, annotation()))
        assert mapped["image"].shape == (3, 120, 80)
        assert (mapped["height"], mapped["width"]) == (HEIGHT, WIDTH)
        instances = mapped["instances"]
        assert instances.image_size == (120, 80)
        assert instances.gt_boxes.tensor.tolist() == [[20, 40, 60, 100]]
        assert instances.gt_masks.polygons[0][0].tolist() == [20, 40, 60, 40, 60, 100]
        assert instances.gt_keypoints.tensor[0, 0].tolist() == [21, 41, 2]

    def test_boxes_of_integers_are_not_cut_off(self, image_file):
        mapped = mapper(T.ResizeShortestEdge(20, 1000))(
            sample(image_file, annotation(bbox=[11, 21, 20, 30]))
        )
        assert mapped["instances"].gt_boxes.tensor.tolist() == [[5.5, 10.5, 15.5, 25.5]]

    def test_polygons_of_integers_are_not_cut_off(self, image_file):
        item = annotation(segmentation=[[10, 20, 30, 20, 30, 51]])
        mapped = mapper(T.ResizeShortestEdge(20, 1000))(sample(image_file, item))
        assert mapped["instances"].gt_masks.polygons[0][0].tolist() == [5, 10, 15, 10, 15, 25.5]


class TestFlip:
    def test_left_and_right_change_places(self, image_file):
        """Trousers, landmark pairs by hand from the landmark figure: 1-3 (waist), 4-14."""
        item = annotation(7)
        flipped = mapper(T.RandomFlip(1.0))(sample(image_file, item))["instances"]
        before, after = item["keypoints"], flipped.gt_keypoints.tensor[0].numpy()
        for one, other in ((0, 2), (3, 13), (1, 1)):
            assert after[one].tolist() == [WIDTH - before[other, 0], *before[other, 1:]]
            assert after[other].tolist() == [WIDTH - before[one, 0], *before[one, 1:]]

    def test_box_and_polygon(self, image_file):
        flipped = mapper(T.RandomFlip(1.0))(sample(image_file, annotation()))["instances"]
        assert flipped.gt_boxes.tensor.tolist() == [[10, 20, 30, 50]]  # 40 - 30, 40 - 10
        assert flipped.gt_masks.polygons[0][0].tolist() == [30, 20, 10, 20, 10, 50]

    @pytest.mark.parametrize("category_id", range(13))
    def test_landmarks_on_the_left_come_from_the_right(self, image_file, category_id):
        """With each landmark's visibility as its mark, the partner's arrives."""
        category = CATEGORIES[category_id]
        for left, right in category.flip_pairs:
            item = annotation(category_id)
            item["keypoints"][:, 2] = 1
            item["keypoints"][left, 2] = 2
            flipped = mapper(T.RandomFlip(1.0))(sample(image_file, item))["instances"]
            visible = flipped.gt_keypoints.tensor[0, : category.num_landmarks, 2] == 2
            assert visible.nonzero().flatten().tolist() == [right]

    @pytest.mark.parametrize("layout", ["compact", "dense"])
    @given(data=st.data())
    @settings(max_examples=30, deadline=None)
    def test_twice_is_the_original(self, tmp_path_factory, layout, data):
        path = tmp_path_factory.mktemp("flip") / "1.png"
        Image.new("RGB", (WIDTH, HEIGHT)).save(path)
        category_id = data.draw(st.integers(0, 12))
        n = CATEGORIES[category_id].num_landmarks
        coordinates = st.tuples(st.integers(0, WIDTH - 1), st.integers(0, HEIGHT - 1))
        points = data.draw(st.lists(coordinates, min_size=n, max_size=n))
        visible = data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
        keypoints = np.column_stack([np.array(points) + 0.5, visible]).astype(np.float32)
        item = annotation(category_id, keypoints=keypoints)
        once, twice = (
            mapper(*[T.RandomFlip(1.0)] * times, landmark_layout=layout) for times in (0, 2)
        )
        expected, found = (m(sample(str(path), item))["instances"] for m in (once, twice))
        assert torch.equal(found.gt_keypoints.tensor, expected.gt_keypoints.tensor)
        assert torch.equal(found.gt_boxes.tensor, expected.gt_boxes.tensor)
        assert (found.gt_masks.polygons[0][0] == expected.gt_masks.polygons[0][0]).all()

    def test_dense_agrees_with_the_host_and_dense_keypoints(self, image_file):
        item = annotation(3)
        ours = mapper(T.RandomFlip(1.0), landmark_layout="dense")(sample(image_file, item))
        dense = np.zeros((294, 3), dtype=np.float32)
        dense[CATEGORIES[3].slice] = item["keypoints"]
        permutation = np.concatenate([c.offset + c.flip_permutation for c in CATEGORIES])
        expected = detection_utils.transform_keypoint_annotations(
            dense, T.TransformList([T.HFlipTransform(WIDTH)]), (HEIGHT, WIDTH), permutation
        )
        found = ours["instances"].gt_keypoints.tensor[0].numpy()
        assert (found == expected.astype(np.float32)).all()


class TestSeed:
    def augmented(self):
        sizes = [20, 30, 50, 64]
        return mapper(T.ResizeShortestEdge(sizes, 100, "choice"), T.RandomFlip(0.5))

    def test_same_seed_same_sample(self, image_file):
        mapped = [self.augmented()(sample(image_file, annotation(), seed=s)) for s in (5, 5)]
        assert torch.equal(mapped[0]["image"], mapped[1]["image"])
        assert "seed" not in mapped[0]

    def test_other_seeds_other_samples(self, image_file):
        shapes = {
            tuple(self.augmented()(sample(image_file, seed=s))["image"].shape) for s in range(30)
        }
        assert len(shapes) == 4

    def test_the_generators_go_on_as_before(self, image_file):
        np.random.seed(1)  # noqa: NPY002
        random.seed(1)
        expected = np.random.random(), random.random()  # noqa: NPY002
        np.random.seed(1)  # noqa: NPY002
        random.seed(1)
        self.augmented()(sample(image_file, annotation(), seed=2**40 + 3))
        assert (np.random.random(), random.random()) == expected  # noqa: NPY002

    def test_state_is_put_back_after_an_error(self):
        np.random.seed(1)  # noqa: NPY002
        before = np.random.get_state()[1].tolist()  # noqa: NPY002
        with pytest.raises(KeyError), seeded(3):
            raise KeyError
        assert np.random.get_state()[1].tolist() == before  # noqa: NPY002

    def test_without_a_seed_the_global_generator_decides(self, image_file):
        def shapes():
            np.random.seed(4)  # noqa: NPY002
            return [self.augmented()(sample(image_file))["image"].shape for _ in range(10)]

        first = shapes()
        assert first == shapes()
        assert len(set(first)) > 1


class TestReading:
    def test_pixels_as_stored(self, tmp_path):
        """EXIF says: turn it by 90 degrees; annotations refer to the stored pixels."""
        turned = Image.Exif()
        turned[0x0112] = 6
        Image.new("RGB", (WIDTH, HEIGHT), (250, 0, 0)).save(tmp_path / "a.jpg", exif=turned)
        mapped = mapper()(sample(str(tmp_path / "a.jpg"), annotation()))
        assert mapped["image"].shape == (3, HEIGHT, WIDTH)
        assert mapped["image"][2].float().mean() > 240  # BGR: red is last

    @pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA"])
    def test_other_kinds_of_pixels(self, tmp_path, mode):
        path = tmp_path / ("a.jpg" if mode in ("L", "CMYK") else "a.png")
        Image.new("RGB", (WIDTH, HEIGHT)).convert(mode).save(path)
        assert read_image(path, upright=False).shape == (HEIGHT, WIDTH, 3)

    def test_formats(self, image_file):
        rgb = np.asarray(Image.open(image_file).convert("RGB"))
        grey = np.asarray(Image.open(image_file).convert("L"))[:, :, None]
        for name, expected in (("BGR", rgb[:, :, ::-1]), ("RGB", rgb), ("L", grey)):
            assert np.array_equal(read_image(image_file, name, upright=False), expected)

    def test_damaged_image(self, tmp_path, image_file):
        path = tmp_path / "cut.png"
        path.write_bytes(Path(image_file).read_bytes()[:500])
        with pytest.raises(ValueError, match=r"cannot read image .*cut\.png"):
            mapper()(sample(str(path)))

    def test_missing_image(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="none"):
            mapper()(sample(str(tmp_path / "none.png")))

    def test_wrong_size(self, image_file):
        with pytest.raises(detection_utils.SizeMismatchError, match="000001"):
            mapper()(sample(image_file, height=61))


class TestConfig:
    def make_cfg(self, *overrides):
        cfg = get_match_rcnn_cfg()
        cfg.merge_from_list(["MODEL.MASK_ON", True, "MODEL.KEYPOINT_ON", True, *overrides])
        return cfg

    def test_training(self, image_file):
        cfg = self.make_cfg("INPUT.MIN_SIZE_TRAIN", (20,), "INPUT.MAX_SIZE_TRAIN", 100)
        trained = GarmentMapper(cfg, is_train=True)
        resize, flip = trained.augmentations.augs
        assert isinstance(resize, T.ResizeShortestEdge)
        assert isinstance(flip, T.RandomFlip)
        mapped = trained(sample(image_file, annotation()))
        assert mapped["image"].shape == (3, 30, 20)
        assert mapped["instances"].gt_keypoints.tensor.shape == (1, 39, 3)

    def test_inference(self, image_file):
        cfg = self.make_cfg("INPUT.MIN_SIZE_TEST", 80, "INPUT.MAX_SIZE_TEST", 100)
        tested = GarmentMapper(cfg, is_train=False)
        assert len(tested.augmentations.augs) == 1
        assert tested(sample(image_file))["image"].shape == (3, 100, 67)

    def test_dense(self, image_file):
        cfg = self.make_cfg("INPUT.LANDMARK_LAYOUT", "dense")
        mapped = GarmentMapper(cfg, is_train=True)(sample(image_file, annotation()))
        assert mapped["instances"].gt_keypoints.tensor.shape == (1, 294, 3)

    def test_boxes_only(self, image_file):
        cfg = self.make_cfg("MODEL.MASK_ON", False, "MODEL.KEYPOINT_ON", False)
        mapped = GarmentMapper(cfg, is_train=True)(sample(image_file, annotation()))
        assert set(mapped["instances"].get_fields()) == {
            *("gt_boxes", "gt_classes", "gt_pair_ids", "gt_sources", "gt_styles"),
            "gt_has_partner",
        }

    def test_arguments_go_before_the_config(self, image_file):
        own = GarmentMapper(self.make_cfg(), is_train=True, augmentations=[])
        assert own(sample(image_file))["image"].shape == (3, HEIGHT, WIDTH)

    def test_augmentations_of_ours(self, image_file):
        cfg = self.make_cfg("INPUT.ROTATION", 20.0, "INPUT.LARGE_SCALE_JITTER.ENABLED", True)
        trained = GarmentMapper(cfg, is_train=True)
        assert len(trained.augmentations.augs) == 3
        assert trained.fit_boxes
        assert not GarmentMapper(cfg, is_train=False).fit_boxes

    def test_the_taxonomy_is_the_training_sets(self, image_file):
        MetadataCatalog.get("of_its_own").taxonomy = OWN
        try:
            cfg = self.make_cfg("DATASETS.TRAIN", ("of_its_own",))
            assert GarmentMapper(cfg, is_train=True).taxonomy is OWN
            cfg = self.make_cfg("DATASETS.TRAIN", ("of_its_own", "another"))
            with pytest.raises(ValueError, match=r"'of_its_own' has 2 .*'another' has 13"):
                GarmentMapper(cfg, is_train=True)
        finally:
            MetadataCatalog.remove("of_its_own")
            if "another" in MetadataCatalog.list():
                MetadataCatalog.remove("another")

    def test_unknown_layout(self):
        with pytest.raises(ValueError, match="landmark_layout must be 'compact' or 'dense'"):
            mapper(landmark_layout="sparse")

    def test_crop_is_refused(self):
        with pytest.raises(ValueError, match=r"INPUT\.CROP"):
            GarmentMapper(self.make_cfg("INPUT.CROP.ENABLED", True), is_train=True)


def test_real_item_end_to_end(make_tree, real_annotation, real_item):
    """From the annotation file to tensors; the image is halved."""
    folder = make_tree({1: real_annotation}) / "train"
    loaded = load_annotation_file(folder / "annos/000001.json", folder / "image/000001.jpg")
    instances = mapper(T.ResizeShortestEdge(234, 1000))(loaded)["instances"]
    assert instances.image_size == (312, 234)
    assert instances.gt_boxes.tensor.tolist() == [[124.5, 211.5, 233, 311.5]]
    found = instances.gt_keypoints.tensor[0]
    assert found[0].tolist() == [125.75, 260.25, 1]  # (251 + .5) / 2, (520 + .5) / 2
    assert found[12].tolist() == [228.25, 280.75, 2]
    labelled = np.array(real_item["landmarks"][2::3]) > 0
    assert ((found[:14, 2] > 0).numpy() == labelled).all()
    assert parse_item("item1", real_item).num_labelled == (found[:, 2] > 0).sum()


def test_an_image_that_resizing_leaves_nothing_of_is_named(tmp_path):
    Image.new("RGB", (4000, 3)).save(tmp_path / "strip.png")
    item = {"file_name": str(tmp_path / "strip.png"), "width": 4000, "height": 3}
    shrink = T.ResizeShortestEdge([96, 96], 128)
    with pytest.raises(ValueError, match=r"strip\.png has 4000 x 3 pixels, .*; crop it"):
        mapper(shrink)(item)
