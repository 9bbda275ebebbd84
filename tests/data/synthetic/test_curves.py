import numpy as np

from match_rcnn.data.synthetic.curves import smooth_closed, smoothstep


def test_corners_are_joined_by_straight_lines():
    square = np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 4.0], [0.0, 4.0]])
    curve = smooth_closed(square, np.zeros(4, bool), per_segment=4)
    assert curve.shape == (16, 2)
    np.testing.assert_allclose(curve[:5, 1], 0.0, atol=1e-12)  # along the first side
    np.testing.assert_allclose(curve[0::4], square)
    assert (np.diff(curve[:5, 0]) > 0).all()


def test_smooth_points_round_the_corner():
    square = np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 4.0], [0.0, 4.0]])
    curve = smooth_closed(square, np.ones(4, bool), per_segment=10)
    np.testing.assert_allclose(curve[0::10], square)
    # Bulges outward of the square by symmetry about both diagonals.
    assert curve[:, 1].min() < -0.2
    np.testing.assert_allclose(curve.mean(axis=0), [2.0, 2.0], atol=1e-9)


def test_a_smooth_points_tangent_joins_its_neighbours():
    points = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 0.0], [1.0, -3.0]])
    curve = smooth_closed(points, np.array([False, True, False, False]), per_segment=1000)
    before, at, after = curve[999], curve[1000], curve[1001]
    np.testing.assert_allclose(at, [1.0, 1.0])
    for tangent in (at - before, after - at):
        assert abs(tangent[1] / tangent[0]) < 0.01  # parallel to (0, 0) -> (2, 0)


def test_smoothstep_at_hand_worked_points():
    x = np.array([-1.0, 0.0, 0.25, 0.5, 1.0, 3.0])
    np.testing.assert_allclose(smoothstep(x), [0, 0, 0.15625, 0.5, 1, 1])
