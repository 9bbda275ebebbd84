"""Clothing Co-Parsing, on a clone of the same form that the test makes."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from match_rcnn.data.problems import Reason
from match_rcnn.data.sources.ccp import LABELS, SPLIT, convert_ccp, outlines, photos_of

scipy_io = pytest.importorskip("scipy.io")

TOOL = Path(__file__).parents[3] / "tools" / "convert_ccp.py"
H, W = 40, 30
NAMES = ["null", "coat", "dress", "pants", "t-shirt"]
COAT, DRESS, PANTS = 1, 2, 3


def decoded(segmentation, height=H, width=W):
    if isinstance(segmentation, list):
        segmentation = mask_util.merge(mask_util.frPyObjects(segmentation, height, width))
    return mask_util.decode(segmentation)


class Clone:
    def __init__(self, root):
        self.root = root
        (root / "photos").mkdir(parents=True)
        (root / "annotations" / "pixel-level").mkdir(parents=True)
        names = np.array([NAMES], dtype=object)
        scipy_io.savemat(root / "label_list.mat", {"label_list": names})

    def photo(self, name, pixels, size=(H, W)):
        cv2.imwrite(str(self.root / "photos" / f"{name}.jpg"), np.zeros((*size, 3), np.uint8))
        file = self.root / "annotations" / "pixel-level" / f"{name}.mat"
        scipy_io.savemat(file, {"groundtruth": pixels})

    def labels(self, photos):
        file = self.root / "labels.json"
        file.write_text(json.dumps({"photos": photos}))
        return file


@pytest.fixture
def clone(tmp_path):
    clone = Clone(tmp_path / "clone")
    pixels = np.zeros((H, W), np.uint8)
    pixels[5:25, 4:24] = COAT
    pixels[10:20, 10:18] = DRESS  # inside the coat: a hole in it
    pixels[30:40, 20:30] = PANTS
    clone.photo("0007", pixels)
    return clone


def convert(clone, photos, **how):
    output = clone.root / "out.json"
    report = convert_ccp(clone.root, output, labels=clone.labels(photos), **how)
    return report, json.loads(output.read_text())


def test_an_item_is_all_that_a_label_has(clone):
    report, file = convert(clone, {"0007": {"coat": 4, "pants": 8}})
    assert file["images"] == [{"id": 7, "file_name": "0007.jpg", "width": W, "height": H}]
    coat, pants = file["annotations"]
    assert (coat["category_id"], pants["category_id"]) == (4, 8)
    assert coat["bbox"] == [4, 5, 20, 20]
    assert coat["area"] == 400  # the box's, as the converter of DeepFashion2 has it
    assert [coat["id"], pants["id"]] == [1, 2]
    assert "keypoints" not in coat  # not labelled, which is not the same as zeros
    assert decoded(coat["segmentation"]).sum() == 20 * 20 - 10 * 8  # the hole is left out
    assert decoded(pants["segmentation"])[30:40, 20:30].all()
    assert (report.images, report.items, report.ignored) == (1, 2, 0)
    assert report.categories["trousers"] == 1


def test_unknown_is_an_ignore_region_of_every_category_and_none_is_nothing(clone):
    report, file = convert(clone, {"0007": {"coat": "none", "dress": "unknown"}})
    regions = file["annotations"]
    assert [r["category_id"] for r in regions] == list(range(1, 14))
    assert {r["iscrowd"] for r in regions} == {1}
    expected = np.zeros((H, W))
    expected[10:20, 10:18] = 1
    assert all((decoded(r["segmentation"]) == expected).all() for r in regions)
    assert (report.items, report.ignored) == (0, 1)


def test_specks_move_no_box(clone):
    pixels = np.zeros((H, W), np.uint8)
    pixels[10:30, 5:25] = PANTS
    pixels[0, 0] = PANTS  # 1 of 400
    pixels[35:37, 0:4] = PANTS  # 8 of 400: a part of its own
    clone.photo("0008", pixels)
    _, file = convert(clone, {"0008": {"pants": 8}})
    assert file["annotations"][0]["bbox"] == [0, 10, 25, 27]
    assert len(file["annotations"][0]["segmentation"]) == 2


def test_what_cannot_be_used_is_left_out_and_listed(clone):
    clone.photo("0008", np.zeros((H, W + 1), np.uint8))
    clone.photo("0009", np.zeros((H, W), np.uint8))
    (clone.root / "annotations" / "pixel-level" / "0009.mat").unlink()
    clone.photo("0010", np.zeros((H, W), np.uint8))
    (clone.root / "photos" / "0010.jpg").write_bytes(b"no photo")
    clone.photo("0012", np.zeros((H, W), np.uint8))
    (clone.root / "annotations" / "pixel-level" / "0012.mat").write_text("no map")
    photos = {name: {"coat": 4} for name in ("0008", "0009", "0010", "0011", "0012")}
    report, file = convert(clone, {**photos, "0007": {"coat": 4, "t-shirt": 1, "hat": 1}})
    assert [image["id"] for image in file["images"]] == [7]
    assert len(file["annotations"]) == 1
    found = {(p.file, p.item): p.reason for p in report.problems}
    assert found == {
        ("photos/0007.jpg", "t-shirt"): Reason.CATEGORY,  # no such pixels in the map
        ("photos/0007.jpg", "hat"): Reason.CATEGORY,  # no such label
        ("photos/0008.jpg", None): Reason.WRONG_TYPE,
        ("photos/0009.jpg", None): Reason.ANNOTATION_MISSING,
        ("photos/0010.jpg", None): Reason.IMAGE_UNREADABLE,
        ("photos/0011.jpg", None): Reason.IMAGE_MISSING,
        ("photos/0012.jpg", None): Reason.ANNOTATION_UNREADABLE,
    }
    listed = json.loads((clone.root / "out.json.problems.json").read_text())
    assert listed["counts"]["images_left_out"] == 5
    assert len(listed["problems"]) == 7


@pytest.mark.parametrize("meaning", [0, 14, "maybe", None])
def test_an_unknown_meaning_names_photo_and_label(clone, meaning):
    with pytest.raises(ValueError, match=r"'coat' of photo 0007 in .*labels.json"):
        convert(clone, {"0007": {"coat": meaning}})


def test_a_folder_that_is_no_clone_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"photos is not there; --root must name a clone"):
        convert_ccp(tmp_path, tmp_path / "out.json")
    assert not list(tmp_path.iterdir())


def test_scipy_missing_is_said(clone, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(ImportError, match=r"pip install 'match_rcnn\[ccp\]'"):
        convert(clone, {"0007": {"coat": 4}})


def test_the_split_is_a_partition_with_near_duplicates_on_one_side():
    train, validation, every = (set(photos_of(s)) for s in ("train", "validation", "all"))
    assert (len(train), len(validation), len(every)) == (603, 200, 803)
    assert train | validation == every
    pairs = json.loads(SPLIT.read_text())["near_duplicates"]
    assert all((a in train) == (b in train) for a, b in pairs)
    assert {name for pair in pairs for name in pair} <= every
    with pytest.raises(ValueError, match="train, validation, all; got 'test'"):
        photos_of("test")


def test_the_labels_that_come_along_count_as_stated():
    meanings = [m for photo in photos_of("all", LABELS).values() for m in photo.values()]
    assert meanings.count("unknown") == 438
    assert sum(isinstance(m, int) for m in meanings) == 1299


@settings(max_examples=1000, deadline=None)
@given(st.data())
def test_outlines_fill_to_the_mask(data):
    """Rectangles put together and cut out again, holes among them."""
    mask = np.zeros((60, 50), np.uint8)
    for value in (1, 1, 0, 0):
        y, x = data.draw(st.integers(0, 40)), data.draw(st.integers(0, 30))
        h, w = data.draw(st.integers(6, 30)), data.draw(st.integers(6, 30))
        mask[y : y + h, x : x + w] = value
    polygons = outlines(mask)
    if not mask.any():
        assert polygons == []
        return
    filled = decoded(polygons, 60, 50)
    # Corners may be cut by a pixel: nothing is wrong but along the edge, and little there.
    inside = cv2.erode(mask, np.ones((3, 3), np.uint8), borderValue=0)
    outside = 1 - cv2.dilate(mask, np.ones((3, 3), np.uint8))
    assert filled[inside == 1].all()
    assert not filled[outside == 1].any()
    edge = mask.sum() - inside.sum()
    assert (filled != mask).sum() <= 0.25 * edge + 6


def test_the_command(clone):
    labels = clone.labels({"0007": {"coat": 4}})
    output = clone.root / "x" / "ccp.json"
    command = [sys.executable, TOOL, "--root", clone.root, "--labels", labels, "--output", output]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "1 images with 1 items" in done.stdout
    assert output.is_file()
    wrong = subprocess.run([*command[:3], "/nowhere", *command[4:]], capture_output=True, text=True)
    assert wrong.returncode == 1
    assert "Traceback" not in wrong.stderr
