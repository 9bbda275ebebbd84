import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from match_rcnn.reporting.curves import comparison_table, draw_curves, read_curves, smooth


@pytest.fixture
def run(tmp_path):
    def make(name, rows, tail=""):
        folder = tmp_path / name
        folder.mkdir()
        text = "".join(json.dumps(row) + "\n" for row in rows) + tail
        (folder / "metrics.json").write_text(text)
        return folder

    return make


def row(iteration, total, **more):
    return {"iteration": iteration, "total_loss": total, "lr": 0.1, **more}


def test_losses_are_read_and_nothing_else(run):
    rows = [row(0, 3.0, loss_cls=1.0, loss_box_reg=2.0), row(1, 2.0, loss_cls=1.5, time=3.0)]
    curves = read_curves(run("a", [*rows, {"iteration": 1, "bbox/AP": 50.0}]))
    assert list(curves) == ["total_loss", "loss_box_reg", "loss_cls"]
    assert curves["total_loss"] == {0: 3.0, 1: 2.0}
    assert curves["loss_box_reg"] == {0: 2.0}


def test_what_a_resumed_training_wrote_again_counts(run):
    curves = read_curves(run("a", [row(0, 1.0), row(1, 2.0), row(1, 5.0), row(2, 6.0)]))
    assert curves["total_loss"] == {0: 1.0, 1: 5.0, 2: 6.0}


def test_a_last_line_that_was_cut_off_is_left_out(run):
    assert read_curves(run("a", [row(0, 1.0)], tail='{"iterat'))["total_loss"] == {0: 1.0}


def test_a_broken_line_is_named(run):
    folder = run("a", [])
    (folder / "metrics.json").write_text("{nonsense\n" + json.dumps(row(0, 1.0)) + "\n")
    with pytest.raises(ValueError, match=r"metrics\.json, line 1 is not JSON"):
        read_curves(folder)


def test_no_losses(run, tmp_path):
    with pytest.raises(ValueError, match="holds no loss"):
        read_curves(run("a", [{"iteration": 1, "bbox/AP": 3.0}]))
    with pytest.raises(FileNotFoundError, match="expected the OUTPUT_DIR"):
        read_curves(tmp_path)


@given(st.lists(st.floats(-100, 100), max_size=30), st.integers(1, 10))
def test_smoothing_is_the_mean_of_the_last_ones(values, window):
    slow = [np.mean(values[max(0, i + 1 - window) : i + 1]) for i in range(len(values))]
    np.testing.assert_allclose(smooth(np.array(values, float), window), slow, atol=1e-9)


def test_the_table_by_hand():
    """20 iterations: a tenth is two. Differences 0.1 everywhere, mean of the first run 1.05."""
    first = {i: 2.0 - 0.1 * i for i in range(20)}
    second = {i: value + 0.1 for i, value in first.items()}
    table = comparison_table({"a": {"total_loss": first}, "b": {"total_loss": second}})
    cells = [cell.strip() for cell in table.splitlines()[-1].strip("|").split("|")]
    assert cells == ["total_loss", "1.950", "0.150", "2.050", "0.250", "9.5%"]


def test_a_loss_that_only_one_run_has():
    table = comparison_table({"a": {"loss_mask": {0: 1.0}}, "b": {"total_loss": {0: 1.0}}})
    cells = [cell.strip() for cell in table.splitlines()[-1].strip("|").split("|")]
    assert cells == ["loss_mask", "1.000", "1.000", "", "", ""]


def test_a_line_lies_where_its_values_are():
    """A constant 1 under ticks that end at 1: the line runs along the top of the axes."""
    picture = draw_curves({"a": {"total_loss": dict.fromkeys(range(11), 1.0)}})
    assert picture.shape == (26 + 190, 300, 3)
    coloured = (picture.max(axis=2).astype(int) - picture.min(axis=2)) > 60
    rows, columns = np.nonzero(coloured[26:])
    assert set(rows) <= {23, 24, 25}
    assert (columns.min(), columns.max()) == (pytest.approx(44, abs=1), pytest.approx(288, abs=1))


def test_a_panel_for_each_loss_and_no_trouble_with_nan_or_a_single_point():
    one = {f"loss_{i}": {0: 1.0, 1: float("nan"), 2: 3.0} for i in range(5)}
    picture = draw_curves({"a": one, "b": {"loss_0": {7: 2.0}}}, window=2)
    assert picture.shape == (26 + 2 * 190, 4 * 300, 3)


def test_the_tool_writes_picture_and_table(run, tmp_path, run_tool):
    folders = [run(name, [row(i, 2.0 + i + k) for i in range(3)]) for k, name in enumerate("ab")]
    output = tmp_path / "curves.png"
    done = run_tool("compare_runs", *folders, "--labels", "one", "two", "--output", output)
    assert "| total_loss | 2.000" in done.stdout
    assert output.read_bytes().startswith(b"\x89PNG")
    same = run_tool("compare_runs", folders[0], folders[0], "--output", output, check=False)
    assert (same.returncode, "different --labels" in same.stderr) == (2, True)
    missing = run_tool("compare_runs", tmp_path, "--output", output, check=False)
    assert (missing.returncode, "error: " in missing.stderr) == (1, True)
