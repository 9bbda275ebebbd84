import numpy as np
import pytest

from match_rcnn.lite.data import transforms as T


class Halve(T.Augmentation):
    def get_transform(self, image: np.ndarray) -> T.Transform:
        height, width = image.shape[:2]
        return T.ResizeTransform(height, width, height // 2, width // 2)


IMAGE = np.arange(40 * 60, dtype=np.uint8).reshape(40, 60)


def test_an_augmentation_must_decide() -> None:
    with pytest.raises(NotImplementedError, match="Augmentation does not define get_transform"):
        T.Augmentation()(T.AugInput(IMAGE))


@pytest.mark.parametrize(
    ("augmentation", "text"),
    [
        (T.RandomFlip(), "RandomFlip()"),
        (T.RandomFlip(0.25), "RandomFlip(prob=0.25)"),
        (
            T.ResizeShortestEdge([3, 4], 10, "choice"),
            "ResizeShortestEdge(short_edge_length=[3, 4], max_size=10, sample_style='choice')",
        ),
        (
            T.AugmentationList([T.RandomFlip(), T.NoOpTransform()]),
            "AugmentationList(augs=[RandomFlip(), NoOpTransform()])",
        ),
    ],
)
def test_repr(augmentation: T.Augmentation, text: str) -> None:
    assert repr(augmentation) == str(augmentation) == text


class TestAugmentationList:
    def test_each_sees_what_came_before(self) -> None:
        inputs = T.AugInput(IMAGE)
        transforms = T.AugmentationList([Halve(), Halve(), T.HFlipTransform(15)])(inputs)
        assert inputs.image.shape == (10, 15)
        kinds = [type(t) for t in transforms.transforms]
        assert kinds == [T.ResizeTransform, T.ResizeTransform, T.HFlipTransform]
        # The transforms do to other data what was done to the inputs.
        np.testing.assert_array_equal(transforms.apply_image(IMAGE), inputs.image)
        np.testing.assert_allclose(transforms.apply_coords(np.array([[8.0, 4.0]])), [[13, 1]])

    def test_nested_lists_flatten(self) -> None:
        inner = T.AugmentationList([Halve(), Halve()])
        transforms = T.AugmentationList([inner, T.NoOpTransform()])(T.AugInput(IMAGE))
        assert len(transforms.transforms) == 3

    def test_empty(self) -> None:
        inputs = T.AugInput(IMAGE)
        assert T.AugmentationList([])(inputs).transforms == []
        assert inputs.image is IMAGE

    def test_neither_augmentation_nor_transform(self) -> None:
        with pytest.raises(AssertionError, match=r"got \[3\]"):
            T.AugmentationList([3])  # type: ignore[list-item]


@pytest.mark.parametrize("image", [[1, 2], np.zeros(3), np.zeros((1, 2, 3, 4))])
def test_wrong_image(image: object) -> None:
    with pytest.raises(AssertionError, match=r"an image (is|has) .*, not"):
        T.AugInput(image)  # type: ignore[arg-type]
