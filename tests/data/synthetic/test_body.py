import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from match_rcnn.data.synthetic.body import (
    DEPTH,
    FOREARM,
    SHOULDER,
    UPPER_ARM,
    Pose,
    random_pose,
)


def test_a_hanging_arm_by_hand():
    pose = Pose(arms=((0.0, 0.0), (0.0, 0.0)))
    for side, sign in ((0, -1.0), (1, 1.0)):
        arm = pose.arm(side)
        tip = [sign * SHOULDER[0], SHOULDER[1] + UPPER_ARM + FOREARM]
        np.testing.assert_allclose(arm.tip, tip)
        # The outer side of the left arm is the picture's left.
        np.testing.assert_allclose(
            arm.at(0.2, 0.05)[0], [sign * (SHOULDER[0] + 0.05), SHOULDER[1] + 0.2]
        )


def test_the_forearm_turns_at_the_elbow():
    pose = Pose(arms=((0.0, 0.0), (0.0, np.pi / 2)))
    arm = pose.arm(1)
    elbow = np.array([SHOULDER[0], SHOULDER[1] + UPPER_ARM])
    np.testing.assert_allclose(arm.joint, elbow)
    np.testing.assert_allclose(arm.tip, np.add(elbow, (FOREARM, 0.0)), atol=1e-12)
    # Outer side of a forearm that points right is up.
    np.testing.assert_allclose(arm.at(UPPER_ARM + 0.3, 0.05)[0], np.add(elbow, (0.3, -0.05)))


@given(st.integers(0, 10_000), st.floats(0.0, 0.2), st.floats(-0.1, 0.1), st.integers(0, 1))
def test_limb_coordinates_undo_at_on_the_upper_bone(seed, along, offset, side):
    arm = random_pose(np.random.default_rng(seed), 2, 1.0).arm(side)
    point = arm.at(along, offset)[0]
    u, v = arm.coordinates(point[0], point[1])
    if v < arm.first:  # a sharply bent forearm may lie over the upper arm
        assert u == pytest.approx(offset, abs=1e-6)
        assert v == pytest.approx(along, abs=1e-6)


@given(st.integers(0, 10_000), st.floats(-0.3, 0.3), st.floats(0.0, 1.8), st.floats(0, 1))
def test_torso_coordinates_undo_torso(seed, x, y, loose):
    pose = random_pose(np.random.default_rng(seed), 3, 1.0)
    point = pose.torso(x, y, DEPTH, loose)[0]
    u, v = pose.coordinates(point[0], point[1], loose)
    assert u == pytest.approx(x, abs=1e-9)
    assert v == pytest.approx(y)


def test_the_far_side_of_a_turned_person():
    assert Pose(yaw=0.1).far_side is None
    assert Pose(yaw=0.9).far_side == 1  # faces the picture's right: the right shoulder is behind
    assert Pose(yaw=-0.9).far_side == 0
    assert Pose(yaw=0.9, back=True).far_side == 0


@pytest.mark.parametrize("viewpoint", [1, 2, 3])
def test_poses_are_of_the_viewpoint_asked_for(viewpoint):
    rng = np.random.default_rng(0)
    poses = [random_pose(rng, viewpoint, liveliness) for liveliness in (0.0, 0.5, 1.0) * 30]
    assert all(pose.worn == (viewpoint > 1) for pose in poses)
    turned = [pose.back or abs(pose.yaw) > 0.6 for pose in poses]
    assert all(turned) if viewpoint == 3 else not any(turned)
    if viewpoint == 3:
        assert {pose.back for pose in poses} == {False, True}
