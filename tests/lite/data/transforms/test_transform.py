import numpy as np
import pytest

from match_rcnn.lite.data import transforms as T


class TestResizeTransform:
    IMAGE = np.arange(16, dtype=np.uint8).reshape(4, 4) * 10

    def test_uint8_is_antialiased(self) -> None:
        resized = T.ResizeTransform(4, 4, 2, 3).apply_image(self.IMAGE)
        assert resized.dtype == np.uint8
        # detectron2 02b5c4e2 gives
        np.testing.assert_array_equal(resized, [[32, 44, 56], [94, 106, 118]])

    def test_masks_take_the_nearest(self) -> None:
        resized = T.ResizeTransform(4, 4, 2, 3).apply_segmentation(self.IMAGE)
        # detectron2 02b5c4e2 gives
        np.testing.assert_array_equal(resized, [[40, 60, 70], [120, 140, 150]])

    @pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1), (4, 6, 3), (4, 6, 4)])
    @pytest.mark.parametrize("step", [1, -1])  # a flipped view has negative strides
    def test_shapes(self, shape: tuple[int, ...], step: int) -> None:
        image = np.full(shape, 255, dtype=np.uint8)[:, ::step]
        resized = T.ResizeTransform(4, 6, 3, 12).apply_image(image)
        np.testing.assert_array_equal(resized, np.full((3, 12, *shape[2:]), 255, dtype=np.uint8))

    def test_only_bytes(self) -> None:
        with pytest.raises(AssertionError, match="only bytes are resized, got float64"):
            T.ResizeTransform(4, 6, 3, 12).apply_image(np.zeros((4, 6)))

    def test_channels_do_not_mix(self) -> None:
        image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
        transform = T.ResizeTransform(5, 7, 8, 6)
        whole = transform.apply_image(image)
        for channel in range(3):
            alone = transform.apply_image(image[..., channel])
            np.testing.assert_array_equal(whole[..., channel], alone)

    def test_coordinates(self) -> None:
        transform = T.ResizeTransform(10, 20, 30, 10)
        points = np.array([[0.0, 0.0], [20.0, 10.0], [5.0, 2.5]])
        np.testing.assert_allclose(transform.apply_coords(points), [[0, 0], [10, 30], [2.5, 7.5]])
        box = transform.apply_box(np.array([[2.0, 1.0, 4.0, 3.0]]))
        np.testing.assert_allclose(box, [[1, 3, 2, 9]])

    def test_integer_points_stay_integers(self) -> None:
        # detectron2's rule, worth knowing: 3 * 0.5 and 5 * 0.5 are cut off.
        points = T.ResizeTransform(10, 10, 5, 5).apply_coords(np.array([[3, 5]]))
        assert points.tolist() == [[1, 2]]

    def test_inverse(self) -> None:
        transform = T.ResizeTransform(10, 20, 30, 10)
        points = np.array([[3.0, 4.0]])
        back = transform.inverse().apply_coords(transform.apply_coords(points.copy()))
        np.testing.assert_allclose(back, points)

    def test_wrong_size(self) -> None:
        with pytest.raises(AssertionError):
            T.ResizeTransform(4, 5, 2, 3).apply_image(self.IMAGE)

    def test_repr(self) -> None:
        text = "ResizeTransform(h=1, w=2, new_h=3, new_w=4, interp=2)"
        assert repr(T.ResizeTransform(1, 2, 3, 4)) == text
