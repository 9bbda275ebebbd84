import json


def test_baselines_of_a_data_set(run_tool, generated_datasets, tmp_path):
    output = tmp_path / "baseline.json"
    done = run_tool(
        "retrieval_baseline", "--output", output, DETECTRON2_DATASETS=generated_datasets
    )
    rows = json.loads(output.read_text())
    assert [row["ranked by"] for row in rows] == ["colour histogram", "chance"]
    assert all(row["boxes"] == "ground truth" and row["queries"] > 0 for row in rows)
    assert 0 < rows[1]["top1"] < rows[1]["top5"] <= 100
    assert rows[0]["top1"] > rows[1]["top1"]
    assert len(done.stdout.splitlines()) == 4


def test_a_figure_of_nothing_is_one_clear_error(run_tool, tmp_path):
    paths = ("--results", tmp_path / "none.json", "--output", tmp_path / "figure.jpg")
    done = run_tool("retrieval_figure", *paths, check=False, DETECTRON2_DATASETS=str(tmp_path))
    assert done.returncode == 1
    message = f"no retrieval results at {tmp_path / 'none.json'}; evaluate a model first"
    assert done.stderr.splitlines()[-1] == f"error: {message}"
    assert not (tmp_path / "figure.jpg").exists()
