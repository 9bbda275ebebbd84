import json
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "evaluate_results.py"
N = 10  # landmarks of shorts, category 7


@pytest.fixture
def files(tmp_path):
    """Shorts with one visible and nine occluded landmarks, the visible one found wrong."""
    head = {"image_id": 1, "category_id": 7}
    item = {**head, "id": 1, "bbox": [10, 10, 40, 40], "area": 1600, "iscrowd": 0}
    item["keypoints"] = [20, 20, 2] + [30, 30, 1] * (N - 1)
    item["num_keypoints"] = N
    truth = {
        "images": [{"id": 1, "height": 60, "width": 60}],
        "annotations": [item],
        "categories": [{"id": 7, "name": "shorts"}],
    }
    results = {
        "bbox": [{**head, "bbox": [10, 10, 40, 40], "score": 0.9}],
        "keypoints": [{**head, "keypoints": [50, 50, 1] + [30, 30, 1] * (N - 1), "score": 0.9}],
    }
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    for task, entries in results.items():
        (tmp_path / f"{task}.json").write_text(json.dumps(entries))
    return tmp_path


def run(folder, task, *flags, results=None):
    arguments = ["--task", task, "--ground-truth", folder / "gt.json"]
    arguments += [
        "--results",
        folder / (results or f"{task}.json"),
        "--output",
        folder / "out.json",
    ]
    command = [sys.executable, str(TOOL), *map(str, arguments), *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_boxes(files):
    done = run(files, "bbox")
    assert done.returncode == 0, done.stderr
    found = json.loads((files / "out.json").read_text())
    assert found["task"] == "bbox"
    assert len(found["stats"]) == len(found["stat_names"]) == 12
    assert found["stats"][:6] == pytest.approx([1, 1, 1, -1, 1, -1])
    assert found["per_category"] == {"shorts": pytest.approx({"AP": 1.0, "AP50": 1.0, "AP75": 1.0})}
    assert "shorts" in done.stdout


def test_subsets(files):
    truth = json.loads((files / "gt.json").read_text())
    truth["images"][0]["source"] = "user"
    truth["annotations"][0]["occlusion"] = 3
    (files / "gt.json").write_text(json.dumps(truth))
    done = run(files, "bbox", "--subsets")
    assert done.returncode == 0, done.stderr
    found = json.loads((files / "out.json").read_text())
    right = pytest.approx({"AP": 1.0, "AP50": 1.0, "AP75": 1.0})
    assert found["subsets"] == {"source-user": right, "occlusion-heavy": right}
    assert "occlusion-heavy" in done.stdout


def test_another_taxonomy(files):
    landmarks = [str(i) for i in range(N)]
    shorts = {"id": 7, "name": "bermudas", "keypoints": landmarks, "keypoint_sigmas": [0.1] * N}
    taxonomy = files / "taxonomy.json"
    taxonomy.write_text(json.dumps({"categories": [{"id": 2, "name": "bag"}, shorts]}))
    done = run(files, "keypoints", "--taxonomy", str(taxonomy))
    assert done.returncode == 0, done.stderr
    assert json.loads((files / "out.json").read_text())["stats"][0] == pytest.approx(0.9)


def test_scoring_files_imports_no_framework():
    code = "import sys, match_rcnn.evaluation.coco.subsets, match_rcnn.evaluation.tables\n"
    code += "print(*sorted({'torch', 'detectron2', 'yaml', 'tabulate', 'cv2'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_landmarks_with_and_without_occluded_ones(files):
    run(files, "keypoints")
    found = json.loads((files / "out.json").read_text())
    assert len(found["stats"]) == 10
    assert found["stats"][0] == pytest.approx(0.9)  # similarity 9/10: thresholds 0.5 to 0.9
    run(files, "keypoints", "--visible-only")
    found = json.loads((files / "out.json").read_text())
    assert found["stats"][0] == 0
    assert found["visible_only"] is True


def test_an_error_is_one_line_and_no_output(files):
    (files / "broken.json").write_text('[{"image_id": 3}]')
    done = run(files, "bbox", results="broken.json")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "broken.json, entry 0" in line
    assert not (files / "out.json").exists()


def test_a_missing_file(files):
    done = run(files, "bbox", results="nothing.json")
    assert done.returncode == 1
    assert "nothing.json" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_check_needs_no_ground_truth(files):
    command = [sys.executable, str(TOOL), "--check", "--task", "bbox", "--results"]
    done = subprocess.run(
        [*command, str(files / "bbox.json")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "accepted: bbox, 1 entries\n")


def test_check_says_what_a_grader_rejects(files):
    done = run(files, "keypoints", "--check")  # compact: graders want 882 numbers
    assert done.returncode == 1
    assert "keypoints is not a list of 882 numbers" in done.stdout
    found = json.loads((files / "out.json").read_text())
    assert found["accepted"] is False
    assert found["problems"][0]["first"] == "entry 0"
