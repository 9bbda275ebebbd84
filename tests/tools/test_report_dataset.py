import json
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[2] / "tools" / "dataset_report.py"


def run(*arguments):
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_tables_and_page(tmp_path):
    truth = {"images": [{"id": 1, "source": "user"}], "annotations": []}
    (tmp_path / "train.json").write_text(json.dumps(truth))
    done = run(tmp_path / "train.json", "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "images of consumers" in done.stdout
    assert done.stdout.endswith(f"report: {tmp_path / 'out' / 'dataset.html'}\n")
    assert (tmp_path / "out" / "dataset.md").is_file()


def test_one_clear_error(tmp_path):
    done = run(tmp_path / "none.json", "--output", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "none.json" in done.stderr
