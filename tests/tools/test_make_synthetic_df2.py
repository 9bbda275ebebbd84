import subprocess
import sys
from pathlib import Path

from match_rcnn.utils.files import read_json

TOOL = Path(__file__).parents[2] / "tools" / "make_synthetic_df2.py"


def run(*arguments):
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_writes_data_and_prints_counts(tmp_path):
    root = tmp_path / "df2"
    result = run("--output", root, "--train", 3, "--validation", 6, "--seed", 1, "--size", 96)
    assert result.returncode == 0, result.stderr
    assert len(list((root / "train" / "image").iterdir())) == 3
    assert len(list((root / "validation" / "annos").iterdir())) == 6
    assert "occlusion" in result.stdout
    assert "shop: 4, user: 2" in result.stdout
    assert read_json(root / "summary.json")["seed"] == 1


def test_user_errors_are_one_line(tmp_path):
    result = run("--output", tmp_path, "--train", 1, "--size", 5)
    assert result.returncode == 1
    assert result.stderr.startswith("error: expected a size from")
    assert "Traceback" not in result.stderr
