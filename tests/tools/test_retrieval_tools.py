"""The retrieval options of convert_df2 and evaluate_results."""

import io
import json

import pytest
from PIL import Image

ITEM = {
    "category_id": 9,
    "category_name": "skirt",
    "style": 1,
    "bounding_box": [10, 20, 50, 80],
    "landmarks": [11, 21, 2] * 8,
    "segmentation": [[10, 20, 50, 20, 50, 80]],
    "scale": 2,
    "occlusion": 1,
    "zoom_in": 1,
    "viewpoint": 2,
}
PHOTOS = {1: ("user", 5), 2: ("shop", 5), 3: ("shop", 6), 4: ("street", 5)}


@pytest.fixture
def root(tmp_path):
    """A user photo and three others; each shows a skirt, the user photo also one of style 0."""
    pixels = io.BytesIO()
    Image.new("RGB", (64, 96)).save(pixels, "JPEG")
    for folder in ("image", "annos"):
        (tmp_path / "validation" / folder).mkdir(parents=True)
    for number, (source, pair_id) in PHOTOS.items():
        annotation = {"source": source, "pair_id": pair_id, "item1": ITEM}
        if source == "user":
            annotation["item2"] = {**ITEM, "style": 0, "bounding_box": [1.5, 2, 30.25, 40]}
        name = tmp_path / "validation" / "annos" / f"{number:06d}.json"
        name.write_text(json.dumps(annotation))
        image = tmp_path / "validation" / "image" / f"{number:06d}.jpg"
        image.write_bytes(pixels.getvalue())
    return tmp_path


def convert(run_tool, root, *more, **kwargs):
    flags = ("--root", root, "--split", "validation", "--output", root / "out" / "coco.json")
    return run_tool("convert_df2", *flags, *more, **kwargs)


def read(path):
    return json.loads(path.read_text())


@pytest.mark.parametrize("workers", [1, 2])
def test_convert_writes_both_files(run_tool, root, workers):
    flags = ("--retrieval", root / "out" / "val", "--workers", workers)
    done = convert(run_tool, root, *flags)
    assert "val_query.json" in done.stdout
    assert read(root / "out" / "val_query.json") == [
        {"query_image_id": 1, "style": 1, "cls": 9, "pair_id": 5, "bbox": [10, 20, 50, 80]},
        {"query_image_id": 1, "style": 0, "cls": 9, "pair_id": 5, "bbox": [1.5, 2, 30.25, 40]},
    ]
    assert read(root / "out" / "val_gallery.json") == [
        {"gallery_image_id": 2, "style": 1, "pair_id": 5, "bbox": [10, 20, 50, 80]},
        {"gallery_image_id": 3, "style": 1, "pair_id": 6, "bbox": [10, 20, 50, 80]},
    ]


def test_convert_without_the_option_writes_neither(run_tool, root):
    convert(run_tool, root)
    names = {path.name for path in (root / "out").iterdir()}
    assert names == {"coco.json", "coco.json.problems.json"}


def test_convert_fails_whole(run_tool, root):
    broken = root / "validation" / "annos" / "000003.json"
    broken.write_text("{")
    flags = ("--retrieval", root / "out" / "val", "--on-error", "fail")
    done = convert(run_tool, root, *flags, check=False)
    assert done.returncode == 1
    assert list((root / "out").iterdir()) == []


@pytest.fixture
def files(run_tool, root):
    convert(run_tool, root, "--retrieval", root / "out" / "val")
    result = {
        "query_image_id": 1,
        "query_bbox": [10, 20, 50, 81],
        "query_cls": 9,
        "query_score": 0.5,
        "gallery_image_id": [3, 2],
        "gallery_bbox": [[10, 20, 50, 80], [10, 20, 50, 70]],
    }
    (root / "results.json").write_text(json.dumps([result]))
    return root


def evaluate(run_tool, root, *more, task="retrieval", **kwargs):
    flags = ("--results", root / "results.json", "--output", root / "scores.json")
    return run_tool("evaluate_results", "--task", task, *flags, *more, **kwargs)


def truth(root):
    out = root / "out"
    return "--query-gt", out / "val_query.json", "--gallery-gt", out / "val_gallery.json"


def test_evaluate(run_tool, files):
    done = evaluate(run_tool, files, *truth(files))
    found = read(files / "scores.json")
    assert found["accuracy"] == {"1": 0, "5": 1, "10": 1, "15": 1, "20": 1}
    assert found["queries"] == 1
    assert found["missed"] == {"official": 0, "all": 0}
    assert found["without_partner"] == 0
    assert found["files"]["results"] == str(files / "results.json")
    assert "top-20" in done.stdout


def test_evaluate_without_queries(run_tool, files):
    (files / "out" / "val_query.json").write_text("[]")
    evaluate(run_tool, files, *truth(files))
    found = read(files / "scores.json")
    assert found["accuracy"] == dict.fromkeys(("1", "5", "10", "15", "20"))
    assert found["queries"] == 0


def test_an_error_is_one_line_and_no_output(run_tool, files):
    (files / "results.json").write_text('[{"query_image_id": 1}]')
    done = evaluate(run_tool, files, *truth(files), check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "results.json, entry 0" in line
    assert not (files / "scores.json").exists()


@pytest.mark.parametrize(
    ("task", "flags", "message"),
    [
        ("retrieval", ("--query-gt", "q.json"), "--task retrieval needs --gallery-gt"),
        ("retrieval", ("--ground-truth", "gt.json"), "does not take --ground-truth"),
        ("bbox", (), "--task bbox needs --ground-truth"),
        ("bbox", ("--ground-truth", "g", "--query-gt", "q"), "does not take --query-gt"),
    ],
)
def test_each_task_has_its_own_ground_truth(run_tool, tmp_path, task, flags, message):
    done = evaluate(run_tool, tmp_path, *flags, task=task, check=False)
    assert done.returncode == 2
    assert message in done.stderr
