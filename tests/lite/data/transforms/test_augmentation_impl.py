# ruff: noqa: NPY002 (augmentations draw from numpy's global generator)
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from match_rcnn.lite.data import transforms as T

IMAGE = np.arange(5 * 8 * 3, dtype=np.uint8).reshape(5, 8, 3)


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
        with pytest.raises(ValueError, match=r"two ends, got \(1, 2, 3\)"):
            T.ResizeShortestEdge((1, 2, 3), sample_style="range")
        with pytest.raises(ValueError, match="got 'ranges'"):
            T.ResizeShortestEdge((1, 2), sample_style="ranges")  # type: ignore[arg-type]


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
