# ruff: noqa: NPY002 (augmentations draw from numpy's global generator)
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from match_rcnn.lite.data import transforms as T

IMAGE = np.arange(5 * 8 * 3, dtype=np.uint8).reshape(5, 8, 3)
PIXEL = np.array([[[10, 100, 200]]], dtype=np.uint8)


def draw(augmentation: T.Augmentation, image: np.ndarray, times: int) -> list[T.Transform]:
    np.random.seed(7)
    return [augmentation.get_transform(image) for _ in range(times)]


class TestResizeShortestEdge:
    @pytest.mark.parametrize(
        ("size", "short", "longest", "expected"),
        [  # detectron2 02b5c4e2 gives
            ((333, 1000), 800, 1333, (444, 1333)),  # 443.889 rounds up
            ((480, 640), 800, 1333, (800, 1067)),
            ((640, 480), 800, 1333, (1067, 800)),
            ((1280, 720), 800, 1333, (1333, 750)),  # the long edge decides
            ((427, 640), 320, 500, (320, 480)),  # 479.63
            ((600, 600), 800, 1333, (800, 800)),
            ((335, 1001), 640, 1333, (446, 1333)),
            ((7, 5), 3, 4, (4, 3)),
        ],
    )
    def test_sizes(
        self, size: tuple[int, int], short: int, longest: int, expected: tuple[int, int]
    ) -> None:
        assert T.ResizeShortestEdge.get_output_shape(*size, short, longest) == expected

    @given(st.integers(1, 4000), st.integers(1, 4000), st.integers(1, 2000), st.integers(1, 2000))
    def test_rules(self, height: int, width: int, short: int, longest: int) -> None:
        new = T.ResizeShortestEdge.get_output_shape(height, width, short, longest)
        scale = min(short / min(height, width), longest / max(height, width))
        for old_edge, new_edge in zip((height, width), new, strict=True):
            assert abs(new_edge - old_edge * scale) <= 0.5 + 1e-6
        assert max(new) <= longest
        assert min(new) <= short
        transposed = T.ResizeShortestEdge.get_output_shape(width, height, short, longest)
        assert transposed == new[::-1]

    def test_range_and_choice(self) -> None:
        # detectron2 02b5c4e2 gives, with this seed
        drawn = draw(T.ResizeShortestEdge((3, 9), 20), IMAGE, 3)
        assert [(t.new_h, t.new_w) for t in drawn] == [(7, 11), (4, 6), (9, 14)]
        drawn = draw(T.ResizeShortestEdge((3, 5, 9), 20, "choice"), IMAGE, 3)
        assert [(t.new_h, t.new_w) for t in drawn] == [(3, 5), (5, 8), (9, 14)]

    def test_both_ends_of_the_range_come(self) -> None:
        assert {t.new_h for t in draw(T.ResizeShortestEdge((3, 5)), IMAGE, 100)} == {3, 4, 5}

    def test_one_length(self) -> None:
        assert {t.new_h for t in draw(T.ResizeShortestEdge(10), IMAGE, 5)} == {10}

    def test_length_zero_leaves_the_image(self) -> None:
        transform = T.ResizeShortestEdge((0, 0)).get_transform(IMAGE)
        assert isinstance(transform, T.NoOpTransform)

    def test_wrong_arguments(self) -> None:
        with pytest.raises(AssertionError, match="two values"):
            T.ResizeShortestEdge((1, 2, 3), sample_style="range")
        with pytest.raises(AssertionError, match="ranges"):
            T.ResizeShortestEdge((1, 2), sample_style="ranges")  # type: ignore[arg-type]


@pytest.mark.parametrize(("shape", "size"), [((7, 9), (7, 9)), (6, (6, 6))])
def test_resize(shape: int | tuple[int, int], size: tuple[int, int]) -> None:
    assert T.Resize(shape).get_transform(IMAGE).apply_image(IMAGE).shape == (*size, 3)


class TestRandomFlip:
    def test_as_detectron2(self) -> None:
        flipped = [isinstance(t, T.HFlipTransform) for t in draw(T.RandomFlip(), IMAGE, 8)]
        # detectron2 02b5c4e2 gives, with this seed
        assert flipped == [True, False, True, False, False, False, False, True]

    @pytest.mark.parametrize(("prob", "kind"), [(0.0, T.NoOpTransform), (1.0, T.HFlipTransform)])
    def test_never_and_always(self, prob: float, kind: type) -> None:
        assert {type(t) for t in draw(T.RandomFlip(prob), IMAGE, 50)} == {kind}

    def test_vertical(self) -> None:
        flip = T.RandomFlip(1.0, horizontal=False, vertical=True).get_transform(IMAGE)
        np.testing.assert_array_equal(flip.apply_image(IMAGE), IMAGE[::-1])

    @pytest.mark.parametrize("both", [True, False])
    def test_one_direction(self, both: bool) -> None:
        with pytest.raises(ValueError, match="exactly one"):
            T.RandomFlip(horizontal=both, vertical=both)


class TestRandomApply:
    def test_never_and_always(self) -> None:
        for inner in (T.HFlipTransform(8), T.RandomFlip(1.0)):
            for prob, kind in ((0.0, T.NoOpTransform), (1.0, T.HFlipTransform)):
                augmentation = T.RandomApply(inner, prob)
                assert type(augmentation.get_transform(IMAGE)) is kind
                assert type(augmentation(T.AugInput(IMAGE))) is kind

    def test_a_whole_list(self) -> None:
        inputs = T.AugInput(IMAGE)
        T.RandomApply(T.AugmentationList([T.Resize(10), T.Resize(4)]), 1.0)(inputs)
        assert inputs.image.shape == (4, 4, 3)

    @pytest.mark.parametrize("prob", [-0.1, 1.1, math.nan])
    def test_probability(self, prob: float) -> None:
        with pytest.raises(AssertionError, match="between 0 and 1"):
            T.RandomApply(T.RandomFlip(), prob)


class TestRandomCrop:
    @pytest.mark.parametrize(
        ("crop_type", "crop_size", "expected"),
        [  # x0, y0, w, h; detectron2 02b5c4e2 gives, with this seed
            ("relative", (0.5, 0.5), [(1, 0, 4, 3), (3, 2, 4, 3), (1, 0, 4, 3)]),
            ("relative_range", (0.3, 0.3), [(1, 3, 7, 2), (0, 0, 8, 4), (2, 2, 3, 2)]),
            ("absolute", (2, 20), [(0, 3, 8, 2), (0, 0, 8, 2), (0, 1, 8, 2)]),
            ("absolute_range", (2, 4), [(3, 2, 3, 2), (0, 2, 3, 2), (2, 2, 4, 3)]),
        ],
    )
    def test_as_detectron2(
        self, crop_type: str, crop_size: tuple[float, float], expected: list[tuple[int, ...]]
    ) -> None:
        crops = draw(T.RandomCrop(crop_type, crop_size), IMAGE, 3)
        assert [(c.x0, c.y0, c.w, c.h) for c in crops] == expected

    @given(st.integers(1, 60), st.integers(1, 60), st.sampled_from(T.RandomCrop.CROP_TYPES))
    def test_lies_inside(self, height: int, width: int, crop_type: str) -> None:
        crop_size = (0.3, 0.6) if crop_type.startswith("relative") else (20, 40)
        crop = T.RandomCrop(crop_type, crop_size).get_transform(np.zeros((height, width)))
        assert 0 <= crop.x0 <= crop.x0 + crop.w <= width
        assert 0 <= crop.y0 <= crop.y0 + crop.h <= height

    def test_wrong_arguments(self) -> None:
        with pytest.raises(ValueError, match="crop_type must be one of"):
            T.RandomCrop("square", (1, 1))
        with pytest.raises(ValueError, match="low <= high"):
            T.RandomCrop("absolute_range", (3, 2))


class TestColours:
    @pytest.mark.parametrize(
        ("augmentation", "expected"),
        [  # detectron2 02b5c4e2 gives, with this seed
            (T.RandomBrightness(0.5, 1.5), [[5, 57, 115], [12, 127, 255], [9, 93, 187]]),
            (T.RandomContrast(0.5, 1.5), [[49, 101, 159], [0, 99, 227], [15, 100, 194]]),
            (T.RandomSaturation(0.5, 1.5), [[41, 93, 151], [0, 104, 232], [14, 99, 192]]),
            (T.RandomLighting(20.0), [[5, 95, 195], [8, 98, 199], [9, 99, 200]]),
        ],
    )
    def test_as_detectron2(self, augmentation: T.Augmentation, expected: list[list[int]]) -> None:
        images = [t.apply_image(PIXEL) for t in draw(augmentation, PIXEL, 3)]
        assert [image.ravel().tolist() for image in images] == expected
        assert all(image.dtype == np.uint8 for image in images)

    @pytest.mark.parametrize("kind", [T.RandomBrightness, T.RandomContrast, T.RandomSaturation])
    def test_intensity_one_keeps_the_image(self, kind: type) -> None:
        image = kind(1, 1).get_transform(PIXEL).apply_image(PIXEL)
        np.testing.assert_array_equal(image, PIXEL)

    def test_saturation_zero_is_grey(self) -> None:
        grey = T.RandomSaturation(0, 0).get_transform(PIXEL).apply_image(PIXEL * 1.0)
        # 0.299 * 10 + 0.587 * 100 + 0.114 * 200
        np.testing.assert_allclose(grey, np.full((1, 1, 3), 84.49))

    @pytest.mark.parametrize("kind", [T.RandomSaturation, lambda *_: T.RandomLighting(1.0)])
    def test_needs_three_channels(self, kind: type) -> None:
        with pytest.raises(AssertionError, match="RGB"):
            kind(1, 1).get_transform(np.zeros((4, 4)))
