"""DeepFashion scored from files, through the command, on a benchmark of a few made-up images."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from match_rcnn.evaluation.recognition import (
    evaluate_recognition,
    evaluate_retrieval,
    scores_table,
)

TOOL = Path(__file__).parents[3] / "tools" / "evaluate_results.py"
IMAGES = ["img/a.jpg", "img/b.jpg", "img/c.jpg", "img/t.jpg"]


def write(root, name, header, rows, folder="Anno"):
    file = root / folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([str(len(rows)), header, *rows]) + "\n")


@pytest.fixture
def root(tmp_path):
    status = ["val", "val", "val", "train"]
    rows = [f"{i} {s}" for i, s in zip(IMAGES, status, strict=True)]
    write(tmp_path, "list_eval_partition.txt", "image_name evaluation_status", rows, "Eval")
    write(tmp_path, "list_category_cloth.txt", "n t", ["Tee 1", "Jeans 2", "Dress 3"])
    labels = [f"{i} {c}" for i, c in zip(IMAGES, (1, 2, 3, 1), strict=True)]
    write(tmp_path, "list_category_img.txt", "image_name category_label", labels)
    names = ["striped 1", "dotted 1", "cotton 2", "maxi 3", "v neck 4", "casual 5"]
    write(tmp_path, "list_attr_cloth.txt", "attribute_name attribute_type", names)
    attributes = ["1 -1 1 -1 -1 1", "-1 1 0 1 -1 1", "-1 -1 1 -1 1 0", "1 1 1 1 1 1"]
    rows = [f"{i} {a}" for i, a in zip(IMAGES, attributes, strict=True)]
    write(tmp_path, "list_attr_img.txt", "image_name attribute_labels", rows)
    write(tmp_path, "list_bbox.txt", "image_name x y x y", [f"{i} 000 000 100 200" for i in IMAGES])
    rows = [f"{i} 2 0 10 20 0 30 40 1 50 60 2 0 0" for i in IMAGES]
    write(tmp_path, "list_landmarks.txt", "image_name ...", rows)
    return tmp_path


@pytest.fixture
def predictions():
    """Of b, c, a, in this order, and of an image that is not asked for."""
    landmarks = np.zeros((4, 8, 2))
    landmarks[:, 4] = 10, 20
    landmarks[:, 5] = 30, 40
    landmarks[2, 4] = 10 + 15, 20  # a: 15 % off
    return {
        "images": np.array(["img/b.jpg", "img/c.jpg", "img/a.jpg", "img/t.jpg"]),
        # b right, c second, a last but for equals
        "category_scores": np.array([[0, 2, 1], [3, 1, 2], [1, 1, 2], [0, 0, 0]], np.float32),
        "attribute_scores": np.tile(np.arange(6, 0, -1.0, dtype=np.float32), (4, 1)),
        "landmarks": landmarks,
    }


def save(folder, arrays, name="p.npz"):
    np.savez(folder / name, **arrays)
    return folder / name


def test_recognition_by_hand(root, predictions):
    scores = evaluate_recognition(root, "val", save(root, predictions))
    assert scores["images"] == 3
    assert scores["category"] == {
        "top1": pytest.approx(1 / 3),
        "top3": 1,
        "top5": 1,
    }
    # Every attribute of a type is among its three best. Of all six, the first three are striped,
    # dotted, cotton (4 of the 8 positives), the first five lack casual (2 more are found).
    attributes = scores["attributes"]
    assert attributes["texture"] == {"top3": 1, "top5": 1}
    assert attributes["mean_of_types"] == {"top3": 1, "top5": 1}
    assert attributes["all_ranked"] == {"top3": 4 / 8, "top5": 6 / 8}
    assert list(attributes) == [
        *("texture", "fabric", "shape", "part", "style"),
        *("mean_of_types", "all_ranked"),
    ]
    ne = scores["landmarks"]["ne"]
    assert ne["left_waistline"] == pytest.approx(0.05)
    assert ne["right_waistline"] == 0
    assert ne["mean"] == pytest.approx(0.025)
    assert ne["left_hem"] is None  # occluded
    assert scores["landmarks"]["pdl"]["0.1"] == pytest.approx(5 / 6)
    assert scores["landmarks"]["pdl"]["0.2"] == 1
    table = scores_table(scores)
    assert "33.33%" in table
    assert "0.0500" in table


def test_part_of_the_arrays_is_enough(root, predictions):
    del predictions["category_scores"], predictions["landmarks"]
    assert set(evaluate_recognition(root, "val", save(root, predictions))) == {
        "images",
        "attributes",
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: {k: v[1:] for k, v in p.items()}, r"1 of 3 images are not in .*p.npz, such as"),
        (lambda p: {"images": p["images"]}, "at least one of category_scores"),
        (lambda p: {**p, "landmarks": p["landmarks"][1:]}, "4 images and 3 rows of landmarks"),
        (lambda p: {**p, "category_scores": np.zeros((4, 2))}, r"shape \(N, 3\), as many as"),
        (lambda p: {**p, "attribute_scores": np.zeros((4, 9))}, r"shape \(N, 6\)"),
        (lambda p: {**p, "landmarks": np.zeros((4, 6, 2))}, r"shape \(N, 8, 2\)"),
        (lambda p: {**p, "landmarks": p["landmarks"] * np.nan}, "landmarks of img/b.jpg .* finite"),
        (lambda p: {**p, "images": np.array(["img/a.jpg"] * 4)}, "img/a.jpg more than once"),
        (lambda p: {**p, "images": np.arange(4)}, "as strings"),
    ],
)
def test_unusable_predictions_are_named(root, predictions, change, message):
    with pytest.raises(ValueError, match=message):
        evaluate_recognition(root, "val", save(root, change(predictions)))


def test_files_that_are_no_npz(root):
    (root / "x.npz").write_text("no")
    with pytest.raises(ValueError, match=r"x.npz is no npz file"):
        evaluate_recognition(root, "val", root / "x.npz")
    np.savez(root / "y.npz", images=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=r"y.npz is no npz file of plain arrays"):
        evaluate_recognition(root, "val", root / "y.npz")
    with pytest.raises(FileNotFoundError):
        evaluate_recognition(root, "val", root / "z.npz")


def test_a_box_without_area_is_named(root, predictions):
    write(root, "list_bbox.txt", "h", [f"{i} 5 0 5 200" for i in IMAGES])
    with pytest.raises(ValueError, match=r"3 images have a box without area .* img/a.jpg"):
        evaluate_recognition(root, "val", save(root, predictions))


def test_a_category_beyond_the_list_is_named(root, predictions):
    write(root, "list_category_img.txt", "h", [f"{i} 9" for i in IMAGES])
    with pytest.raises(ValueError, match="category 9 of 3"):
        evaluate_recognition(root, "val", save(root, predictions))


def test_in_shop_from_files(tmp_path):
    rows = ["q.jpg id_1 query", "g.jpg id_2 gallery", "h.jpg id_1 gallery"]
    write(tmp_path, "list_eval_partition.txt", "image_name item_id evaluation_status", rows, "Eval")
    arrays = {
        "images": np.array([b"h.jpg", b"q.jpg", b"g.jpg"]),  # as bytes they are names too
        "embeddings": np.array([[2.0, 0.0], [0.0, 0.0], [1.0, 0.0]]),
    }
    scores = evaluate_retrieval("inshop", tmp_path, save(tmp_path, arrays))
    assert scores["hit"]["1"] == 0
    assert scores["hit"]["5"] == 1
    assert scores["map"] == 0.5
    assert "mAP 50.00%" in scores_table(scores)
    with pytest.raises(ValueError, match=r"expected embeddings \(N, d\)"):
        evaluate_retrieval(
            "inshop", tmp_path, save(tmp_path, {**arrays, "embeddings": np.zeros(3)})
        )


def run(*arguments):
    command = [sys.executable, TOOL, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command(root, predictions):
    out = root / "out.json"
    asked = ("--task", "recognition", "--root", root, "--split", "val", "--output", out)
    done = run(*asked, "--predictions", save(root, predictions))
    assert done.returncode == 0, done.stderr
    assert json.loads(out.read_text())["images"] == 3
    assert "all_ranked" in done.stdout
    out.unlink()
    few = save(root, {k: v[:1] for k, v in predictions.items()})
    failed = run(*asked, "--predictions", few)
    assert failed.returncode == 1
    assert "2 of 3 images are not in" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not out.exists()


def test_consumer_to_shop_by_the_command(tmp_path):
    rows = ["c.jpg s.jpg id_1 test", "d.jpg t.jpg id_2 val"]
    write(tmp_path, "list_eval_partition.txt", "a b item_id evaluation_status", rows, "Eval")
    arrays = {"images": np.array(["c.jpg", "s.jpg", "t.jpg"]), "embeddings": np.eye(3)}
    out = tmp_path / "out.json"
    asked = ("--task", "consumer2shop", "--root", tmp_path, "--output", out)
    done = run(*asked, "--embeddings", save(tmp_path, arrays))
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert (found["queries"], found["gallery"], found["hit"]["1"]) == (1, 2, 1)
    wrong = run(*asked)
    assert wrong.returncode == 2
    assert "--task consumer2shop needs --embeddings" in wrong.stderr
    wrong = run(*asked, "--embeddings", out, "--results", out)
    assert "--task consumer2shop does not take --results" in wrong.stderr
