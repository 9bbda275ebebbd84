import json
from math import comb

import cv2
import numpy as np
import pytest

from match_rcnn.d2 import DatasetCatalog, MetadataCatalog
from match_rcnn.evaluation.retrieval import baselines
from match_rcnn.evaluation.retrieval.baselines import (
    annotated_items,
    chance_accuracy,
    colour_embedding,
    compare,
    comparison_table,
    detected_items,
    right_items,
)
from match_rcnn.evaluation.retrieval.files import read_retrieval_truth

RED, BLUE, WHITE = (0, 0, 255), (255, 0, 0), (255, 255, 255)
#: image, source, pair id, style, box x y w h, colour
ITEMS = [
    (1, "user", 5, 1, (10, 10, 40, 40), RED),
    (2, "user", 6, 1, (20, 10, 40, 50), BLUE),
    (3, "shop", 5, 1, (30, 20, 50, 40), RED),
    (4, "shop", 6, 1, (10, 30, 60, 40), BLUE),
    (5, "shop", 7, 1, (10, 30, 60, 40), WHITE),
    (5, "shop", 7, 0, (12, 30, 60, 40), WHITE),
]


@pytest.fixture
def world(tmp_path):
    """A registered data set of five photos, and its folder."""
    annotations, images = [], {}
    for number, (image, source, pair_id, style, box, colour) in enumerate(ITEMS, 1):
        images[image] = {"id": image, "source": source, "pair_id": pair_id}
        annotation = {"id": number, "image_id": image, "category_id": 1, "bbox": box}
        annotations.append({**annotation, "pair_id": pair_id, "style": style})
        photo = np.full((100, 100, 3), 90, np.uint8)
        x, y, w, h = box
        photo[y : y + h, x : x + w] = colour
        cv2.imwrite(str(tmp_path / f"{image}.png"), photo)
    truth = {"images": list(images.values()), "annotations": annotations}
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    name = f"baselines_{tmp_path.name}"
    found = [{"image_id": i, "file_name": str(tmp_path / f"{i}.png")} for i in images]
    DatasetCatalog.register(name, lambda: found)
    MetadataCatalog.get(name).set(json_file=str(tmp_path / "gt.json"))
    yield name, tmp_path
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def test_a_colour_s_embedding_is_one_bin_of_the_middle():
    photo = np.full((50, 50, 3), 90, np.uint8)
    photo[10:30, 10:30] = RED
    # The box reaches five pixels beyond the red, and a fifth of its sides is cut off.
    vector = colour_embedding(photo, np.array([5.0, 5.0, 35.0, 35.0]))
    assert vector.shape == (432,)
    assert sorted(vector)[-2:] == [0, 1]
    other = colour_embedding(photo[:, :, ::-1], np.array([5.0, 5.0, 35.0, 35.0]))
    assert vector @ other == 0


def test_half_and_half_is_half_alike():
    photo = np.zeros((10, 10, 3), np.uint8)
    photo[:, :5], photo[:, 5:] = RED, BLUE
    box = np.array([0.0, 0.0, 10.0, 10.0])
    both = colour_embedding(photo, box)
    assert np.linalg.norm(both) == pytest.approx(1)
    photo[:] = RED
    assert both @ colour_embedding(photo, box) == pytest.approx(0.5**0.5)


@pytest.mark.parametrize(
    "box", [(8, 8, 8.2, 8.2), (-5, -5, 30, 30), (9, 9, 40, 40), (30, 30, 40, 40)]
)
def test_tiny_boxes_and_boxes_beyond_the_photo_have_colours(box):
    vector = colour_embedding(np.full((10, 10, 3), 200, np.uint8), np.array(box, dtype=float))
    assert np.linalg.norm(vector) == pytest.approx(1)


def test_chance_is_the_expectation_over_random_orders():
    right, size = np.array([1, 3, 0]), 8
    accuracy = chance_accuracy(right, size)
    assert accuracy[1] == pytest.approx((1 / 8 + 3 / 8 + 0) / 3)
    none_of_five = [comb(7, 5) / comb(8, 5), comb(5, 5) / comb(8, 5), 1]
    assert accuracy[5] == pytest.approx(1 - sum(none_of_five) / 3)
    assert accuracy[20] == pytest.approx(2 / 3)  # the whole gallery


def test_chance_without_queries_or_gallery():
    assert np.isnan(chance_accuracy(np.zeros(0, dtype=int), 5)[1])
    assert chance_accuracy(np.array([0]), 0) == dict.fromkeys((1, 5, 10, 15, 20), 0.0)


def test_right_items_follow_the_protocol(world):
    truth = read_retrieval_truth(world[1] / "gt.json")
    gallery = annotated_items(truth).take(truth.image_ids > 2)
    right = right_items(truth, np.array([0, 1]), gallery)
    assert right.tolist() == [1, 1]
    # A second box on the same item is right too, one that hardly meets it is not.
    twice = gallery.take(np.array([0, 0, 1]))
    twice.boxes[2] += 50
    assert right_items(truth, np.array([0, 1]), twice).tolist() == [2, 0]


def test_colour_finds_colours_and_chance_is_known(world):
    rows = compare(world[0])
    colour, chance = rows
    assert [row["ranked by"] for row in rows] == ["colour histogram", "chance"]
    assert colour["top1"] == 100
    assert colour["queries"] == chance["queries"] == 2
    # One right item among four.
    assert chance["top1"] == pytest.approx(25)
    assert chance["top5"] == pytest.approx(100)
    assert "colour histogram" in comparison_table(rows)


def test_the_table_has_the_places_that_are_asked_for(world):
    rows = compare(world[0])
    assert comparison_table(rows, tops=(1, 15)).split("\n")[0].split()[3:5] == ["top-1", "top-15"]
    assert "top-20" in comparison_table(rows)


@pytest.mark.parametrize(
    ("keys", "limit"),
    [
        ("LANDMARK_DETECTIONS_PER_IMAGE: 1, RETRIEVAL_DETECTIONS_PER_IMAGE: 3", 3),
        ("LANDMARK_DETECTIONS_PER_IMAGE: 2", 2),  # a run of before the key was there
    ],
)
def test_as_many_detections_take_part_as_in_the_run(world, keys, limit, monkeypatch):
    name, folder = world
    run = write_run(folder, name)
    (run / "config.yaml").write_text(f"TEST: {{{keys}, RETRIEVAL_MIN_SCORE: 0.1}}")
    asked = []
    monkeypatch.setattr(baselines, "detected_items", lambda path, limit, score: asked.append(limit))
    baselines._detected_by(run, name)
    assert asked == [limit]


def write_run(folder, name):
    """A run that missed image 2, with three detections on image 1."""
    inference = folder / "run" / "inference" / name
    inference.mkdir(parents=True)
    test = "TEST: {LANDMARK_DETECTIONS_PER_IMAGE: 2, RETRIEVAL_MIN_SCORE: 0.1}"
    (folder / "run" / "config.yaml").write_text(test)
    found = [(1, (10, 10, 40, 40), 0.9), (1, (9, 10, 40, 40), 0.5), (1, (60, 60, 9, 9), 0.4)]
    found += [(3, (30, 20, 50, 40), 0.9), (4, (10, 30, 60, 40), 0.8), (5, (10, 30, 60, 40), 0.05)]
    keys = ("image_id", "bbox", "score")
    entries = [{**dict(zip(keys, f, strict=True)), "category_id": 1} for f in found]
    (inference / "bbox_results.json").write_text(json.dumps(entries))
    answer = {"query_image_id": 1, "query_bbox": [10, 10, 50, 50], "query_cls": 1}
    answer |= {"query_score": 0.9, "gallery_image_id": [4], "gallery_bbox": [[10, 30, 70, 70]]}
    for task in ("retrieval", "retrieval_gt_boxes"):
        (inference / f"{task}_results.json").write_text(json.dumps([answer]))
    return folder / "run"


def test_a_run_beside_its_baselines_on_its_own_boxes(world):
    name, folder = world
    run = write_run(folder, name)
    kept = detected_items(run / "inference" / name / "bbox_results.json", 2, 0.1)
    assert kept.image_ids.tolist() == [1, 1, 3, 4]
    assert kept.boxes[0].tolist() == [10, 10, 50, 50]
    rows = compare(name, run)
    assert [(row["boxes"], row["ranked by"]) for row in rows] == [
        (boxes, ranking)
        for boxes in ("detected", "ground truth")
        for ranking in ("match network", "colour histogram", "chance")
    ]
    learned, colour, chance = rows[:3]
    assert (learned["top1"], learned["missed"]) == (0, 1)
    assert (colour["top1"], colour["missed"]) == (50, 1)
    # One right item of two for the query that was found, none for the other.
    assert chance["top1"] == pytest.approx(25)
    assert chance["top5"] == pytest.approx(50)


def test_data_without_sources_is_refused(world):
    path = world[1] / "gt.json"
    truth = json.loads(path.read_text())
    for image in truth["images"]:
        del image["source"]
    path.write_text(json.dumps(truth))
    with pytest.raises(ValueError, match="no photo's source is known"):
        compare(world[0])
