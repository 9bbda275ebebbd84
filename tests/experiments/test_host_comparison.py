from pathlib import Path

import numpy as np
import pytest

from match_rcnn.d2 import HOST
from match_rcnn.experiments.host_comparison import Plan, compare, load, made_by, observe, save

CONFIG = Path(__file__).parents[2] / "configs" / "quickstart.yaml"


def line(one, other):
    """The only line of a comparison of two arrays; an argument of None: there is no such array."""
    runs = [{} if a is None else {"losses of iteration 1: x": np.array(a)} for a in (one, other)]
    (found,) = compare(*runs)
    return found


class TestCompare:
    def test_by_hand(self):
        found = line([1.0, -8.0, 3.0, 5.0], [1.0, -8.0, 3.5, 4.0])
        assert (found.values, found.different) == (4, 2)
        assert (found.largest_value, found.largest_difference, found.relative) == (8, 1, 1 / 8)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ([1.0, np.nan, np.inf], [1.0, np.nan, np.inf]),
            ([], []),
            ([True, False], [True, False]),
            ([0.0], [0.0]),
        ],
    )
    def test_equal(self, one, other):
        found = line(one, other)
        assert (found.different, found.largest_difference, found.relative) == (0, 0, 0)

    @pytest.mark.parametrize(
        ("one", "other", "different"),
        [
            ([1.0, 2.0], [1.0, 2.0, 3.0], 3),
            ([1.0, 2.0], None, 2),
            (None, [1.0], 1),
            ([1.0, np.nan], [1.0, 2.0], 1),
            ([1.0, np.inf], [1.0, -np.inf], 1),
            ([0.0], [1e-9], 1),
        ],
    )
    def test_beyond_any_tolerance(self, one, other, different):
        found = line(one, other)
        assert found.different == different
        assert found.relative == np.inf

    def test_unsigned_pixels_do_not_wrap(self):
        found = line(np.array([0, 255], np.uint8), np.array([1, 255], np.uint8))
        assert found.largest_difference == 1

    def test_a_section_of_tensors_is_one_line_of_the_worst(self):
        one = {"gradients: a": np.array([100.0]), "gradients: b": np.array([1.0, 2.0])}
        other = {"gradients: a": np.array([101.0]), "gradients: b": np.array([1.0, 2.2])}
        (found,) = compare(one, other)
        assert found.name == "gradients (2), most in b"
        assert (found.values, found.different) == (3, 2)
        assert found.relative == pytest.approx(0.1)


def test_a_gradient_that_is_rounding_is_compared_with_the_others():
    """The true one is 0, and on two processors it comes out as two numbers."""
    one = {"gradients: weight": np.array([8.0]), "gradients: bias": np.array([2.2e-16])}
    other = {"gradients: weight": np.array([8.0]), "gradients: bias": np.array([9.7e-17])}
    (found,) = compare(one, other)
    assert found.relative < 1e-12
    other["gradients: bias"] = np.array([1e-3])
    assert compare(one, other)[0].relative == pytest.approx(1e-3 / 0.08)


@pytest.fixture(scope="module")
def plan():
    smaller = ("MODEL.FPN.OUT_CHANNELS", "16", "MODEL.ROI_BOX_HEAD.FC_DIM", "32")
    return Plan(str(CONFIG), smaller, iterations=1, images=1, pixels=96)


@pytest.fixture(scope="module")
def observation(plan):
    return observe(plan)


def test_a_run_holds_all_streams(observation):
    names = " ".join(observation)
    for part in ("loss_keypoint", "loss_mask", "loss_match", "gradients: backbone", "pixels"):
        assert part in names
    assert observation["detections: number"].item() > 0
    assert {"embedding", "landmarks", "pred_masks"} <= {
        name.partition(": ")[2] for name in observation if name.startswith("detections")
    }
    start, end = (
        observation[f"weights at the {when}: roi_heads.match_head.fc.weight"]
        for when in ("start", "end")
    )
    assert not np.array_equal(start, end)
    assert made_by(observation).startswith(HOST)


def test_a_run_can_be_repeated_and_kept(plan, observation, tmp_path):
    save(tmp_path / "before.npz", observation)
    lines = compare(load(tmp_path / "before.npz"), observe(plan))
    assert len(lines) > 15
    assert all(found.different == 0 for found in lines), [x for x in lines if x.different]


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="no observation at"):
        load(tmp_path / "missing.npz")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    (tmp_path / "text.npz").write_text("no archive")
    np.save(tmp_path / "array.npy", np.zeros(3))
    for name in ("other.npz", "text.npz", "array.npy"):
        with pytest.raises(ValueError, match="is no observation"):
            load(tmp_path / name)


def test_the_tool_says_what_it_misses(run_tool, tmp_path):
    flags = ("--config-file", CONFIG, "--against", tmp_path / "before.npz")
    done = run_tool("compare_hosts", *flags, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"error: no observation at {tmp_path / 'before.npz'}"
