import numpy as np
import pytest

from match_rcnn.data.synthetic.camera import Camera
from match_rcnn.data.synthetic.canvas import Canvas, Layer


def square(x0, y0, x1, y1):
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=float)


def test_the_last_to_be_drawn_owns_the_pixel():
    canvas = Canvas(20, 30)
    canvas.paint([square(2, 2, 12, 12)], (255, 0, 0), Layer(0, "torso"))
    canvas.paint([square(8, 2, 18, 12)], (0, 255, 0), Layer(None, "bag"))
    np.testing.assert_array_equal(canvas.image[5, 4], [255, 0, 0])
    np.testing.assert_array_equal(canvas.image[5, 15], [0, 255, 0])
    visible = canvas.visible(0)
    assert visible[5, 4]
    assert not visible[5, 10]
    assert canvas.silhouettes[0][5, 10]  # covered, yet part of the garment
    assert not canvas.visible(1).any()


def test_paint_without_layer_changes_colour_only():
    canvas = Canvas(10, 10)
    canvas.paint([square(1, 1, 8, 8)], (50, 50, 50), Layer(3, "torso"))
    canvas.paint([square(2, 2, 6, 6)], (250, 0, 0))
    assert canvas.visible(3)[4, 4]
    assert canvas.image[4, 4, 0] == 250


def test_what_lies_outside_is_ignored():
    canvas = Canvas(10, 10)
    canvas.paint([square(20, 20, 30, 30)], (0, 0, 0), Layer(0, "torso"))
    canvas.stroke([np.array([[-9.0, -9.0], [-5.0, -5.0]])], 1, (0, 0, 0), Layer(0, "strap"))
    assert not canvas.silhouettes
    assert (canvas.image == 255).all()


def test_far_away_corners_do_not_overflow():
    canvas = Canvas(10, 10)
    canvas.paint([square(-1e6, -1e6, 1e6, 1e6)], (7, 7, 7), Layer(0, "torso"))
    assert canvas.visible(0).all()


def test_a_painter_sees_pixel_coordinates():
    canvas = Canvas(8, 8)
    canvas.paint([square(-1, -1, 9, 9)], lambda x, y: np.stack([x, y, 0 * x], axis=-1))
    np.testing.assert_allclose(canvas.image[3, 5], [5, 3, 0])


def test_thin_strokes_fade_and_thick_ones_own():
    canvas = Canvas(20, 20)
    line = np.array([[2.0, 10.0], [17.0, 10.0]])
    canvas.stroke([line], 0.5, (0, 0, 0))
    assert 100 < canvas.image[10, 10, 0] < 160
    canvas.stroke([line], 3, (0, 0, 0), Layer(0, "strap"))
    assert canvas.visible(0)[9:12, 10].all()
    assert not canvas.visible(0)[13, 10]


@pytest.mark.parametrize("angle", [0.0, 0.7, -2.0])
def test_camera_and_back(angle):
    camera = Camera(50.0, angle, (0.2, 0.5), (40.0, 30.0))
    np.testing.assert_allclose(camera.pixels([0.2, 0.5])[0], [40, 30])
    x, y = camera.pixels([[0.3, -0.4]])[0]
    np.testing.assert_allclose(camera.plane(x, y), [0.3, -0.4], atol=1e-5)


def test_the_camera_turns_clockwise_on_the_screen():
    # A quarter turn: what lies to the right of the centre comes to lie below it.
    camera = Camera(10.0, np.pi / 2, (0.0, 0.0), (0.0, 0.0))
    np.testing.assert_allclose(camera.pixels([1.0, 0.0])[0], [0.0, 10.0], atol=1e-9)
