import json
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "report.py"


def run(*arguments):
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def results(tmp_path):
    """A run with one box result, and its ground truth."""
    item = {"id": 1, "image_id": 1, "category_id": 9, "bbox": [2, 2, 8, 8], "area": 64}
    item |= {"segmentation": [[2, 2, 10, 2, 10, 10]], "keypoints": [0] * 24, "num_keypoints": 0}
    truth = {"images": [{"id": 1, "height": 20, "width": 20}], "annotations": [item]}
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    inference = tmp_path / "model" / "inference" / "some_set"
    inference.mkdir(parents=True)
    found = [{"image_id": 1, "category_id": 9, "bbox": [2, 2, 8, 8], "score": 0.5}]
    (inference / "bbox_results.json").write_text(json.dumps(found))
    return tmp_path


def test_a_report(results):
    output = results / "out"
    done = run(
        *(results / "model", "--output", output, "--ground-truth", results / "gt.json"),
        *("--label", "measured here"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"report: {output / 'model.html'}\n"
    text = (output / "model.md").read_text()
    assert "| AP | published (Ge et al. 2019) |" in text
    assert "measured here" in text


def test_one_clear_error(tmp_path):
    done = run(tmp_path / "none", "--output", tmp_path / "out")
    assert done.returncode == 1
    assert (
        done.stderr
        == f"error: {tmp_path / 'none'} is no folder; expected the OUTPUT_DIR of a run\n"
    )
