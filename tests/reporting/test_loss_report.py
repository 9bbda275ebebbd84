import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from match_rcnn.reporting.loss_report import comparison_table, loss_page, read_curves, smooth


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
    assert table.rows == [["total_loss", "1.950", "0.150", "2.050", "0.250", "9.5%"]]
    assert table.groups == [("a", 2), ("b", 2), ("mean difference", 1)]


def test_a_loss_that_only_one_run_has():
    table = comparison_table({"a": {"loss_mask": {0: 1.0}}, "b": {"total_loss": {0: 1.0}}})
    assert table.rows == [["loss_mask", "1.000", "1.000", "", "", ""]]
    assert comparison_table({"a": {"loss_mask": {0: 1.0}}}).groups == [("a", 2)]


def test_a_chart_for_each_loss_and_no_trouble_with_nan_or_a_single_point():
    one = {f"loss_{i}": {0: 1.0, 1: float("nan"), 2: 3.0} for i in range(5)}
    page = loss_page({"a": one, "b": {"loss_0": {7: 2.0}}}, window=2)
    (group,) = page.sections[0].groups
    assert [figure.caption for figure in group.figures] == [f"loss_{i}" for i in range(5)]
    html = page.to_html()
    assert html.count('role="img"') == 5
    assert html.count('class="line s1"') == 5 + 1  # and in the legend
    assert "nan" not in html


def test_the_tool_writes_page_and_table(run, tmp_path, run_tool):
    folders = [run(name, [row(i, 2.0 + i + k) for i in range(3)]) for k, name in enumerate("ab")]
    output = tmp_path / "curves.html"
    done = run_tool("compare_runs", *folders, "--labels", "one", "two", "--output", output)
    assert "| total_loss | 2.000" in done.stdout
    assert done.stdout.endswith(f"report: {output}\n")
    assert "<svg" in output.read_text()
    same = run_tool("compare_runs", folders[0], folders[0], "--output", output, check=False)
    assert (same.returncode, "different --labels" in same.stderr) == (2, True)
    missing = run_tool("compare_runs", tmp_path, "--output", output, check=False)
    assert (missing.returncode, "error: " in missing.stderr) == (1, True)
