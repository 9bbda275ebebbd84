"""Reports of data that are not DeepFashion2's: five categories, landmarks here and none there,
files with names instead of numbers, no pairs, no levels, a mask on one item alone."""

import json

import cv2
import numpy as np
import pytest

from match_rcnn.reporting.dataset_report import write_dataset_report
from match_rcnn.reporting.numbers.dataset import read_statistics
from match_rcnn.reporting.numbers.runs import Where, read_runs
from match_rcnn.reporting.run_report import write_reports

CATEGORIES = [
    {"id": 3, "name": "hat"},
    {
        "id": 5,
        "name": "cape",
        "keypoints": ["top", "left hem", "right hem"],
        "keypoint_sigmas": [0.05, 0.05, 0.05],
    },
    {"id": 8, "name": "glove"},
    {"id": 9, "name": "belt"},
    {"id": 40, "name": "scarf"},
]


def item(number, image, category_id, box, **more):
    width, height = box[2:]
    return {
        "id": number,
        "image_id": image,
        "category_id": category_id,
        "bbox": list(box),
        "area": width * height,
        "iscrowd": 0,
        **more,
    }


@pytest.fixture
def shop(tmp_path):
    """Two photos: a cape with landmarks and a mask, a hat, a scarf; and an ignore region."""
    box = [10, 10, 40, 50]
    mask = {"segmentation": [[10, 10, 50, 10, 50, 60, 10, 60]]}
    points = {"keypoints": [30, 10, 2, 10, 60, 2, 50, 60, 1], "num_keypoints": 3}
    annotations = [
        item(1, 7, 5, box, **mask, **points),
        item(2, 7, 3, [60, 10, 20, 20]),
        item(3, 11, 40, [5, 5, 30, 70]),
        item(4, 11, 9, [50, 50, 20, 20], iscrowd=1),
    ]
    images = [
        {"id": 7, "file_name": "a/summer cape.jpg", "width": 100, "height": 80},
        {"id": 11, "file_name": "scarf.png", "width": 100, "height": 80},
    ]
    truth = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (tmp_path / "shop.json").write_text(json.dumps(truth))
    for image in images:
        file = tmp_path / "photos" / image["file_name"]
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), np.full((80, 100, 3), 90, np.uint8))
    return tmp_path


@pytest.fixture
def run(shop):
    """Boxes as annotated, and the scarf taken for a belt once more."""
    inference = shop / "run" / "inference" / "shop"
    inference.mkdir(parents=True)
    found = [(7, 5, [10, 10, 40, 50], 0.9), (7, 3, [60, 10, 20, 20], 0.8)]
    found += [(11, 40, [5, 5, 30, 70], 0.7), (11, 9, [5, 5, 30, 70], 0.2)]
    keys = ("image_id", "category_id", "bbox", "score")
    results = [dict(zip(keys, one, strict=True)) for one in found]
    (inference / "bbox_results.json").write_text(json.dumps(results))
    return shop / "run"


def test_counts(shop):
    found = read_statistics(shop / "shop.json")
    assert [c.name for c in found.taxonomy.categories] == ["hat", "cape", "glove", "belt", "scarf"]
    assert found.by_category(np.ones(3, bool)).tolist() == [1, 1, 0, 0, 1]
    assert found.ignored == 1
    assert found.visibility[5].tolist() == [[0, 0, 1], [0, 0, 1], [0, 1, 0]]
    assert found.visibility[3].shape == (0, 3)


def test_the_data_set_s_page(shop):
    page, tables = write_dataset_report([shop / "shop.json"], shop / "out")
    by_title = {table.title: {row[0]: row[1:] for row in table.rows} for table in tables}
    assert by_title["Counts"]["items"] == ["3"]
    assert by_title["Counts"]["ignore regions"] == ["1"]
    assert by_title["Items by category"]["scarf"] == ["0", "0", "1", "33.3%"]
    assert list(by_title["Landmarks by visibility"]) == ["cape"]
    assert by_title["Landmarks by visibility"]["cape"] == ["66.7%", "33.3%", "0.0%"]
    text = page.read_text()
    assert "left hem: 100.0%" in text
    for absent in ("Variations", "Items by style", "Products"):
        assert absent not in text


def test_a_run_s_page(shop, run):
    where = Where(shop / "shop.json", shop / "photos")
    (found,) = read_runs([run], where)
    assert found.metrics["bbox/AP-scarf"] == pytest.approx(100)
    (page,) = write_reports([run], shop / "out", where)
    text = page.read_text()
    assert "published" not in text
    assert "short sleeve top" not in text
    assert text.count('alt="predicted garments"') == 2  # both photos, by their names
    assert "glove" in text
    for absent in ("By subset", "Landmark errors", "Retrieval"):
        assert f"<h2>{absent}" not in text


def test_two_splits_of_other_categories_stand_side_by_side(shop):
    truth = json.loads((shop / "shop.json").read_text())
    truth["categories"] = [{"id": 3, "name": "bonnet"}, *CATEGORIES[1:]]
    (shop / "more.json").write_text(json.dumps(truth))
    _, tables = write_dataset_report([shop / "shop.json", shop / "more.json"], shop / "out")
    (table,) = [table for table in tables if table.title == "Items by category"]
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["hat"][2::4] == ["1", "0"]
    assert rows["bonnet"][2::4] == ["0", "1"]
    assert rows["cape"][2::4] == ["1", "1"]
