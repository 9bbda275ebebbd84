import numpy as np
import pytest
from PIL import Image, ImageOps

from match_rcnn.lite.data import transforms as T


class TestResizeTransform:
    IMAGE = np.arange(16, dtype=np.uint8).reshape(4, 4) * 10

    def test_uint8_is_antialiased(self) -> None:
        resized = T.ResizeTransform(4, 4, 2, 3).apply_image(self.IMAGE)
        assert resized.dtype == np.uint8
        # detectron2 02b5c4e2 gives
        np.testing.assert_array_equal(resized, [[32, 44, 56], [94, 106, 118]])

    def test_float_is_sampled(self) -> None:
        resized = T.ResizeTransform(4, 4, 2, 3).apply_image(self.IMAGE.astype(np.float32))
        assert resized.dtype == np.float32
        # Rows 0.5 and 2.5, columns 1/6, 1.5 and 17/6 of the source, a linear ramp.
        np.testing.assert_allclose(resized, [[65 / 3, 35, 145 / 3], [305 / 3, 115, 385 / 3]], 1e-5)

    def test_masks_take_the_nearest(self) -> None:
        resized = T.ResizeTransform(4, 4, 2, 3).apply_segmentation(self.IMAGE)
        # detectron2 02b5c4e2 gives
        np.testing.assert_array_equal(resized, [[40, 60, 70], [120, 140, 150]])

    @pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
    @pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1), (4, 6, 3), (4, 6, 4)])
    @pytest.mark.parametrize("step", [1, -1])  # a flipped view has negative strides
    def test_shapes_and_dtypes(self, shape: tuple[int, ...], dtype: type, step: int) -> None:
        image = np.full(shape, 255, dtype=dtype)[:, ::step]
        resized = T.ResizeTransform(4, 6, 3, 12).apply_image(image)
        assert resized.shape == (3, 12, *shape[2:])
        assert resized.dtype == dtype
        np.testing.assert_allclose(resized, 255)

    def test_channels_do_not_mix(self) -> None:
        image = np.random.default_rng(0).random((5, 7, 3))
        transform = T.ResizeTransform(5, 7, 8, 6)
        whole = transform.apply_image(image)
        for channel in range(3):
            alone = transform.apply_image(image[..., channel])
            np.testing.assert_allclose(whole[..., channel], alone, rtol=1e-12)

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


class TestColorTransform:
    def test_changes_values_only(self) -> None:
        transform = T.ColorTransform(lambda image: 255 - image)
        image = np.array([[[0, 1, 2]]], dtype=np.uint8)
        np.testing.assert_array_equal(transform.apply_image(image), [[[255, 254, 253]]])
        np.testing.assert_array_equal(transform.apply_segmentation(image), image)
        points = np.array([[1.0, 2.0]])
        np.testing.assert_array_equal(transform.apply_coords(points), points)
        assert isinstance(transform.inverse(), T.NoOpTransform)

    def test_pil_function(self) -> None:
        image = np.array([[[10, 200, 90]]], dtype=np.uint8)
        expected = np.asarray(ImageOps.solarize(Image.fromarray(image), 100))
        transform = T.PILColorTransform(lambda pil: ImageOps.solarize(pil, 100))
        np.testing.assert_array_equal(transform.apply_image(image), expected)

    @pytest.mark.parametrize("kind", [T.ColorTransform, T.PILColorTransform])
    def test_not_a_function(self, kind: type) -> None:
        with pytest.raises(ValueError, match="callable"):
            kind(3)
