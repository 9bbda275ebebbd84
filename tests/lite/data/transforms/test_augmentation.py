import numpy as np
import pytest

from match_rcnn.lite.data import transforms as T


class CropToBoxes(T.Augmentation):
    """Needs two inputs, under the names of AugInput."""

    def get_transform(self, image: np.ndarray, boxes: np.ndarray) -> T.Transform:
        x0, y0 = (int(v) for v in boxes[:, :2].min(axis=0))
        x1, y1 = (int(v) for v in boxes[:, 2:].max(axis=0))
        return T.CropTransform(x0, y0, x1 - x0, y1 - y0)


class Halve(T.Augmentation):
    """Its one parameter stands for the image, whatever its name."""

    def get_transform(self, img: np.ndarray) -> T.Transform:
        height, width = img.shape[:2]
        return T.ResizeTransform(height, width, height // 2, width // 2)


IMAGE = np.arange(40 * 60, dtype=np.float32).reshape(40, 60)


class TestAugmentation:
    def test_inputs_by_name(self) -> None:
        boxes = np.array([[10.0, 5.0, 20.0, 15.0], [30.0, 8.0, 40.0, 35.0]])
        inputs = T.AugInput(IMAGE, boxes=boxes)
        CropToBoxes()(inputs)
        np.testing.assert_array_equal(inputs.image, IMAGE[5:35, 10:40])
        np.testing.assert_array_equal(inputs.boxes, boxes - [10, 5, 10, 5])

    def test_missing_input(self) -> None:
        class NeedsDepth(T.Augmentation):
            def get_transform(self, image: np.ndarray, depth: np.ndarray) -> T.Transform:
                return T.NoOpTransform()

        with pytest.raises(AttributeError, match=r"NeedsDepth.* needs input attribute 'depth'"):
            NeedsDepth()(T.AugInput(IMAGE))

    def test_variable_arguments(self) -> None:
        class Anything(T.Augmentation):
            def get_transform(self, image: np.ndarray, *others: np.ndarray) -> T.Transform:
                return T.NoOpTransform()

        with pytest.raises(TypeError, match=r"\*args"):
            Anything()(T.AugInput(IMAGE))

    def test_result_must_be_a_transform(self) -> None:
        class Wrong(T.Augmentation):
            def get_transform(self, image: np.ndarray) -> T.Transform:
                return 3

        with pytest.raises(AssertionError, match="must return a Transform"):
            Wrong()(T.AugInput(IMAGE))

    def test_not_defined(self) -> None:
        with pytest.raises(NotImplementedError):
            T.Augmentation().get_transform(IMAGE)

    def test_rand_range(self) -> None:
        np.random.seed(0)  # noqa: NPY002
        draws = [T.Augmentation()._rand_range(2.0, 3.0) for _ in range(100)]
        assert all(2 <= draw < 3 for draw in draws)
        assert all(0 <= T.Augmentation()._rand_range(0.5) < 0.5 for _ in range(100))
        assert T.Augmentation()._rand_range(2.0, 3.0, 7).shape == (7,)

    def test_init_from_locals(self) -> None:
        class Old(T.Augmentation):
            def __init__(self, a: int, b: int = 4) -> None:
                self._init(locals())

        old = Old(1)
        assert (old.a, old.b) == (1, 4)
        assert not hasattr(old, "self")
        assert repr(old) == "Old(a=1)"


class TestRepr:
    @pytest.mark.parametrize(
        ("augmentation", "text"),
        [
            (T.RandomFlip(), "RandomFlip()"),
            (T.RandomFlip(0.25), "RandomFlip(prob=0.25)"),
            (
                T.RandomCrop("relative", (0.5, 0.5)),
                "RandomCrop(crop_type='relative', crop_size=(0.5, 0.5))",
            ),
            (
                T.ResizeShortestEdge([3, 4], 10, "choice"),
                "ResizeShortestEdge(short_edge_length=[3, 4], max_size=10, sample_style='choice')",
            ),
            (
                T.AugmentationList([T.RandomFlip(), T.NoOpTransform()]),
                "AugmentationList[RandomFlip(), NoOpTransform()]",
            ),
        ],
    )
    def test_as_detectron2(self, augmentation: T.Augmentation, text: str) -> None:
        assert repr(augmentation) == str(augmentation) == text

    def test_unknown_attributes(self) -> None:
        assert "RandomApply object at" in repr(T.RandomApply(T.RandomFlip()))


class TestAugmentationList:
    def test_each_sees_what_came_before(self) -> None:
        boxes = np.array([[10.0, 5.0, 40.0, 35.0]])
        inputs = T.AugInput(IMAGE, boxes=boxes, sem_seg=np.ones((40, 60), dtype=np.uint8))
        transforms = T.AugmentationList([CropToBoxes(), Halve(), T.HFlipTransform(15)])(inputs)
        assert inputs.image.shape == inputs.sem_seg.shape == (15, 15)
        np.testing.assert_allclose(inputs.boxes, [[0, 0, 15, 15]])
        kinds = [type(t) for t in transforms.transforms]
        assert kinds == [T.CropTransform, T.ResizeTransform, T.HFlipTransform]
        # The transforms do to other data what was done to the inputs.
        np.testing.assert_array_equal(transforms.apply_image(IMAGE), inputs.image)
        np.testing.assert_allclose(transforms.apply_coords(np.array([[14.0, 7.0]])), [[13, 1]])

    def test_nested_lists_flatten(self) -> None:
        inner = T.AugmentationList([Halve(), Halve()])
        transforms = T.AugmentationList([inner, T.NoOpTransform()])(T.AugInput(IMAGE))
        assert len(transforms.transforms) == 3

    def test_empty(self) -> None:
        inputs = T.AugInput(IMAGE)
        assert T.AugmentationList([])(inputs).transforms == []
        assert inputs.image is IMAGE

    def test_neither_augmentation_nor_transform(self) -> None:
        with pytest.raises(AssertionError, match="expected an Augmentation"):
            T.AugmentationList([3])  # type: ignore[list-item]


class TestAugInput:
    @pytest.mark.parametrize("image", [[1, 2], np.zeros(3), np.zeros((1, 2, 3, 4))])
    def test_wrong_image(self, image: object) -> None:
        with pytest.raises(AssertionError, match="image must be"):
            T.AugInput(image)  # type: ignore[arg-type]

    def test_only_what_is_given_is_transformed(self) -> None:
        inputs = T.AugInput(IMAGE)
        inputs.transform(T.HFlipTransform(60))
        np.testing.assert_array_equal(inputs.image, IMAGE[:, ::-1])
        assert inputs.boxes is None
        assert inputs.sem_seg is None

    def test_old_names(self) -> None:
        assert T.StandardAugInput is T.AugInput
        assert T.TransformGen is T.Augmentation


def test_apply_augmentations() -> None:
    image, transforms = T.apply_augmentations([Halve()], IMAGE)
    assert image.shape == (20, 30)
    assert len(transforms.transforms) == 1
    inputs = T.AugInput(IMAGE)
    same, _ = T.apply_augmentations([Halve()], inputs)
    assert same is inputs
    assert inputs.image.shape == (20, 30)
