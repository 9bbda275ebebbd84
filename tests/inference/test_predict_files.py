"""Photos, folders and videos into a folder of results: what is in it, and going on with it."""

import json
import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO

from match_rcnn.inference import bulk
from match_rcnn.inference.bulk import BulkPredictor
from match_rcnn.inference.predict_files import picture_name, predict_files
from match_rcnn.inference.predictor import MatchRCNNPredictor
from match_rcnn.inference.results import Results
from match_rcnn.inference.shots import find_files, shots

#: Several shapes, so that batches are made of them; the same stems in two folders.
SIZES = {
    **{f"a/{i}.png": (64, 96) for i in range(5)},
    **{f"b/{i}.jpg": (90, 60 + 40 * (i % 2)) for i in range(4)},
    "b/1.png": (120, 40),
}


@pytest.fixture(scope="module")
def predictor(model_file):
    return MatchRCNNPredictor.pretrained(model_file, score_threshold=0.01)


@pytest.fixture
def photos(tmp_path, write_photos):
    folder = write_photos(tmp_path / "photos", SIZES)
    (folder / "a/broken.jpg").write_bytes((folder / "b/0.jpg").read_bytes()[:500])
    (folder / "notes.md").write_text("no photo")
    return folder


def rows_of(output):
    return [json.loads(line) for line in (output / "predictions.jsonl").read_text().splitlines()]


def test_the_same_garments_as_one_by_one_in_the_photos_order(predictor, photos, tmp_path):
    report = predict_files(predictor, [photos], tmp_path / "out", embeddings=True, batch=4)
    rows = rows_of(tmp_path / "out")
    assert [row["image"] for row in rows] == sorted(SIZES)
    assert [*report.broken] == ["a/broken.jpg"]
    assert json.loads((tmp_path / "out/report.json").read_text())["num_broken"] == 1
    for row in rows:
        expected = predictor(photos / row["image"])
        assert (row["height"], row["width"]) == SIZES[row["image"]]
        assert len(row["garments"]) == len(expected) == 5
        for found, garment in zip(row["garments"], expected, strict=True):
            assert found["category"] == garment.category.name
            assert found["box"] == pytest.approx(garment.box.tolist(), abs=1e-2)
            assert found["embedding"] == pytest.approx(garment.embedding.tolist(), abs=1e-4)
            assert found["mask"]["size"] == list(SIZES[row["image"]])


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_batches_hold_photos_of_one_size_after_padding(predictor, photos, batch, monkeypatch):
    shapes = []
    model, run = predictor._predictor.model, type(predictor._predictor.model).forward

    def forward(self, inputs):
        shapes.append([tuple(one["image"].shape[1:]) for one in inputs])
        return run(self, inputs)

    monkeypatch.setattr(type(model), "forward", forward)
    files = find_files([photos])
    bulk = BulkPredictor(predictor, lambda shot, *_: shot.name, batch=batch)
    found = list(bulk(shots(files, photos)))
    assert [shot.name for shot, _ in found] == sorted([*SIZES, "a/broken.jpg"])
    assert [name for _, name in found if isinstance(name, str)] == sorted(SIZES)
    padded = [{(-(-h // 32), -(-w // 32)) for h, w in one} for one in shapes]
    assert all(len(one) == 1 for one in padded)
    # What is read when the model is free goes along: at least two, as it waits for a second.
    assert min(batch, 2) <= max(map(len, shapes)) <= min(batch, 5)


def test_freed_memory_is_given_back_on_the_way(predictor, photos, tmp_path, monkeypatch):
    """However long the run: after every so many images, not at the end."""
    times = []
    monkeypatch.setattr(bulk, "_GIVE_BACK", 4)
    monkeypatch.setattr(bulk, "give_back", lambda: times.append(1))
    predict_files(predictor, [photos], tmp_path / "out", batch=2)
    assert len(times) == (len(SIZES) + 1) // 4  # one file is broken


def test_pictures_of_one_stem_do_not_overwrite_each_other(predictor, photos, tmp_path):
    paths = [photos / "a", photos / "b"]
    predict_files(predictor, paths, tmp_path / "out", formats=["pictures"])
    pictures = {p.relative_to(tmp_path / "out/pictures") for p in tmp_path.glob("out/**/*.jpg")}
    assert len(pictures) == len(SIZES)


@given(st.lists(st.sampled_from(["x", ".jpg", ".png", ".mp4", "/y", "../"]), max_size=5))
def test_no_two_names_share_a_picture(parts):
    name = "x" + "".join(parts).replace("..//", "../").strip("/") + ".png"
    others = {name, f"{name}.jpg", f"{name}.jpg.jpg", f"{name}.mp4", f"{name}.mp4.mp4"}
    assert len({picture_name(other) for other in others}) == len(others)


def test_a_torn_line_and_an_unfinished_video_are_taken_back(tmp_path):
    whole = [
        {"image": "a.jpg", "garments": []},
        {"image": "v.mp4", "frame": 0, "last": False, "garments": []},
        {"image": "v.mp4", "frame": 1, "last": True, "garments": []},
    ]
    torn = [{"image": "w.mp4", "frame": 0, "last": False, "garments": []}]
    text = "".join(json.dumps(row) + "\n" for row in whole + torn) + '{"image": "b.j'
    Results(tmp_path, {"every": 1})
    (tmp_path / "predictions.jsonl").write_text(text)
    results = Results(tmp_path, {"every": 1})
    assert results.done == {"a.jpg", "v.mp4"}
    assert list(results.rows()) == whole
    with pytest.raises(ValueError, match=r"every was 1, is 2.*another folder"):
        Results(tmp_path, {"every": 2})


def test_going_on_takes_in_what_is_new_and_what_was_broken(predictor, photos, tmp_path):
    output = photos / "out"  # below the photos: its pictures are none of them
    predict_files(predictor, [photos / "a"], output, formats=["pictures"])
    (photos / "a/broken.jpg").write_bytes((photos / "b/0.jpg").read_bytes())
    report = predict_files(predictor, [photos], output, formats=["pictures", "coco"])
    assert (report.files, report.passed_over, report.broken) == (11, 5, {})
    names = [row["image"] for row in rows_of(output)]
    assert len(names) == len(set(names)) == 11
    assert names[:5] == [f"{i}.png" for i in range(5)]
    assert "../b/1.png" in names
    assert (output / "pictures/_up/b/1.png.jpg").is_file()
    with pytest.raises(ValueError, match="pictures was True, is False"):
        predict_files(predictor, [photos], output)


def test_other_forms_say_the_same(predictor, photos, tmp_path):
    pytest.importorskip("pyarrow")
    import pyarrow.parquet

    report = predict_files(predictor, [photos], tmp_path / "out", formats=["coco", "parquet"])
    rows = rows_of(tmp_path / "out")
    coco = COCO(str(tmp_path / "out/predictions.json"))
    assert len(coco.imgs) == len(rows)
    assert len(coco.anns) == sum(report.garments.values()) == 5 * len(rows)
    for image_id, row in enumerate(rows, 1):
        for annotation, garment in zip(coco.imgToAnns[image_id], row["garments"], strict=True):
            x1, y1, x2, y2 = garment["box"]
            assert annotation["bbox"] == pytest.approx([x1, y1, x2 - x1, y2 - y1])
            assert annotation["score"] == garment["score"]
            assert coco.annToMask(annotation).shape == SIZES[row["image"]]
            points = np.reshape(annotation["keypoints"], (-1, 3))
            assert points[:, :2].tolist() == [p[:2] for p in garment["landmarks"]]
    table = pyarrow.parquet.read_table(tmp_path / "out/predictions.parquet").to_pylist()
    garments = [(row["image"], g["category"]) for row in rows for g in row["garments"]]
    assert [(one["image"], one["category"]) for one in table] == garments


def test_videos_frame_by_frame(predictor, tmp_path):
    video = cv2.VideoWriter(
        str(tmp_path / "v.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10.0, (96, 64)
    )
    for shade in range(7):
        video.write(np.full((64, 96, 3), 30 * shade, np.uint8))
    video.release()
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    paths = [tmp_path / "v.mp4", tmp_path / "broken.mp4"]
    output = tmp_path / "out"
    report = predict_files(predictor, paths, output, formats=["pictures"], every=3)
    rows = rows_of(output)
    assert [(row["frame"], row["time"], row["last"]) for row in rows] == [
        (0, 0.0, False),
        (3, 0.3, False),
        (6, 0.6, True),
    ]
    assert [*report.broken] == ["broken.mp4"]
    drawn = cv2.VideoCapture(str(output / "pictures/v.mp4"))
    assert drawn.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert drawn.get(cv2.CAP_PROP_FPS) == pytest.approx(10 / 3, rel=0.01)


def test_lists_folders_and_files_are_taken_once(photos, tmp_path):
    (tmp_path / "list.txt").write_text("photos/a/0.png\n\nphotos/b/1.png\n")
    found = find_files([tmp_path / "list.txt", photos / "b", photos / "a/0.png"])
    assert [f.relative_to(photos).as_posix() for f in found] == [
        *("a/0.png", "b/1.png", "b/0.jpg", "b/1.jpg", "b/2.jpg", "b/3.jpg")
    ]
    with pytest.raises(FileNotFoundError, match="there is no"):
        find_files([photos / "none"])
    with pytest.raises(ValueError, match="is no photo"):
        find_files([photos / "notes.md"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no photos or videos in"):
        find_files([tmp_path / "empty"])


def test_killed_and_started_again_nothing_is_there_twice_or_missing(
    model_file, write_photos, tmp_path
):
    names = [f"{i:02}.png" for i in range(16)]
    write_photos(tmp_path / "photos", dict.fromkeys(names, (64, 96)))
    command = [sys.executable, "-m", "match_rcnn", "predict", "photos", "--output", "out"]
    command += ["--weights", str(model_file), "--score-threshold", "0.01", "--batch", "1"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    lines = tmp_path / "out/predictions.jsonl"
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and process.poll() is None:
        if lines.exists() and lines.read_bytes().count(b"\n") >= 2:
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = lines.read_bytes().count(b"\n")
    assert 0 < before < 16
    done = subprocess.run(
        [*command, "--json"], cwd=tmp_path, env=environment, capture_output=True, check=True
    )
    assert json.loads(done.stdout)["passed_over"] == before
    assert [row["image"] for row in rows_of(tmp_path / "out")] == names
