import json

import numpy as np
import pytest

from match_rcnn.data import taxonomy
from match_rcnn.evaluation.coco.files import landmark_areas, read_detections, read_ground_truth
from match_rcnn.evaluation.coco.predictions import (
    box_entry,
    landmark_entry,
    mask_entry,
    rounded,
    write_results,
)

N = taxonomy.DEEPFASHION2.category(8).num_landmarks  # trousers: 14
HEAD = {"image_id": 5, "category_id": 8, "score": 0.5}
FULL = {"size": [4, 6], "counts": "0h0"}  # all 24 pixels


@pytest.fixture
def truth(write):
    """Trousers in image 5, with labelled landmarks, and in image 6, without; nothing in 7."""
    item = {
        "category_id": 8,
        "bbox": [0, 0, 4, 4],
        "area": 16,
        "segmentation": [[0, 0, 4, 0, 4, 4]],
    }
    labelled = [1, 1, 2] * N
    whole = {
        "images": [{"id": i, "height": 4, "width": 6} for i in (5, 6, 7)],
        "annotations": [
            {"id": 1, "image_id": 5, **item, "keypoints": labelled},
            {"id": 2, "image_id": 6, **item, "keypoints": [0, 0, 0] * N},
        ],
    }
    return read_ground_truth(write("gt.json", whole), ["segm", "keypoints"])


@pytest.fixture
def read(truth, write):
    def read(task, results, limit=100):
        return read_detections(write("dt.json", results), task, truth, limit)

    return read


def test_best_first_and_no_more_than_the_limit(read):
    scores = [0.1, 0.9, 0.5, 0.9]
    results = [{**HEAD, "bbox": [i, 0, 1, 2], "score": s} for i, s in enumerate(scores)]
    found = read("bbox", [*results, {**results[0], "image_id": 7}], limit=3)
    assert found.scores.tolist() == [0.9, 0.9, 0.5, 0.1]
    assert found.boxes[:, 0].tolist() == [1, 3, 2, 0]  # equal scores stay in order
    assert found.rank.tolist() == [0, 1, 2, 0]
    assert found.image.tolist() == [0, 0, 0, 2]
    assert found.areas.tolist() == [2, 2, 2, 2]


def test_masks_are_held_where_an_item_may_match(read):
    found = read("segm", [{**HEAD, "image_id": i, "segmentation": FULL} for i in (5, 6, 7)])
    assert found.masks == (b"0h0", b"0h0", b"")
    assert found.areas.tolist() == [24, 24, 24]


def test_landmarks_are_held_where_an_item_may_match(read):
    numbers = [3, 4, 1] * N
    found = read("keypoints", [{**HEAD, "image_id": i, "keypoints": numbers} for i in (5, 6, 7)])
    assert found.landmarks.rows.tolist() == [0, 1, -1]
    assert found.landmarks.tables[8].tolist() == [[[3, 4]] * N] * 2
    assert found.areas.tolist() == [12, 12, 12]  # from (0, 0), where the other channels are


def test_landmark_areas():
    own = np.array([[[3.0, 4], [5, 7]], [[-3, 4], [5, 7]]])
    # Zero belongs to the box: the other channels are there.
    assert landmark_areas(own, taxonomy.DEEPFASHION2).tolist() == [35, 56]
    whole = np.array([[[3.0, 4], [5, 7]] * 147])
    assert landmark_areas(whole, taxonomy.DEEPFASHION2).tolist() == [6]


def test_the_area_of_a_result_that_is_not_zero_outside_its_category(read):
    points = np.full((294, 3), 5.0)
    points[0] = 2, 1, 0
    found = read("keypoints", [{**HEAD, "keypoints": points.ravel().tolist()}])
    assert found.areas.tolist() == [12]
    np.testing.assert_array_equal(found.landmarks.foreign[0], points)


def written(tmp_path, entries):
    write_results(tmp_path / "out" / "results.json", entries)
    return json.loads((tmp_path / "out" / "results.json").read_text())


def test_entries_in_the_official_formats(tmp_path):
    score = np.float32(0.8)
    points = rounded(np.array([[1.234, 2.3456, 0.5]] * N, dtype=np.float32), 2)
    box, mask, landmarks = written(
        tmp_path,
        [
            box_entry(5, 8, rounded(np.array([1, 2.00049, 3, 4.5], np.float32), 3), score),
            mask_entry(5, 8, b"0h0", (4, 6), score),
            landmark_entry(5, 8, points, score),
        ],
    )
    assert box == {"image_id": 5, "category_id": 8, "bbox": [1, 2, 3, 4.5], "score": 0.8}
    assert mask == {"image_id": 5, "category_id": 8, "segmentation": FULL, "score": 0.8}
    dense = np.reshape(landmarks.pop("keypoints"), (294, 3))
    assert landmarks == {"image_id": 5, "category_id": 8, "score": 0.8}
    own = taxonomy.DEEPFASHION2.category(8).slice
    np.testing.assert_array_equal(dense[own], [[1.23, 2.35, 0.5]] * N)
    dense[own] = 0
    assert not dense.any()


@pytest.mark.parametrize("category", taxonomy.DEEPFASHION2.categories, ids=lambda c: c.name)
def test_every_category_has_its_place_in_a_dense_entry(category):
    points = np.arange(3.0 * category.num_landmarks).reshape(-1, 3) + 1
    dense = np.reshape(
        json.loads(landmark_entry(1, category.id, points, np.float32(1)))["keypoints"], (294, 3)
    )
    np.testing.assert_array_equal(dense[category.slice], points)
    assert np.count_nonzero(dense) == points.size


def test_no_entries_are_an_empty_list(tmp_path):
    assert written(tmp_path, []) == []


def test_a_writer_that_fails_leaves_no_file(tmp_path):
    def entries():
        yield b"{}"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_results(tmp_path / "results.json", entries())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("task", "entry", "reason"),
    [
        ("bbox", {"category_id": 8, "bbox": [1, 2, 3, 4], "score": 1}, "missing key 'image_id'"),
        ("bbox", HEAD, "missing key 'bbox'; it has 'image_id', 'category_id', 'score'"),
        ("segm", HEAD, "missing key 'segmentation'"),
        ("keypoints", HEAD, "missing key 'keypoints'"),
        ("bbox", 5, "expected an object, got 5"),
        ("bbox", {**HEAD, "image_id": 99, "bbox": [1, 2, 3, 4]}, r"image_id 99 is not in .*gt"),
        ("bbox", {**HEAD, "image_id": "5", "bbox": [1, 2, 3, 4]}, "image_id must be a finite"),
        ("bbox", {**HEAD, "image_id": 5.5, "bbox": [1, 2, 3, 4]}, "must be a whole number"),
        ("bbox", {**HEAD, "category_id": 14, "bbox": [1, 2, 3, 4]}, "category_id 14 is not in"),
        ("bbox", {**HEAD, "bbox": [1, 2, 3]}, "bbox must be 4 finite numbers"),
        ("bbox", {**HEAD, "bbox": [1, 2, 3, float("inf")]}, "bbox must be 4 finite numbers"),
        ("bbox", {**HEAD, "bbox": [1, 2, 3, 4], "score": float("nan")}, "score must be a finite"),
        ("bbox", {**HEAD, "bbox": [1, 2, 3, 4], "score": None}, "score must be a finite"),
        ("keypoints", {**HEAD, "keypoints": [0] * 51}, r"3\*14 \(compact\).* got 51"),
        ("keypoints", {**HEAD, "keypoints": [None] + [0] * 41}, "flat list of finite numbers"),
        ("keypoints", {**HEAD, "keypoints": [None] + [0] * 881}, "flat list of finite numbers"),
        ("keypoints", {**HEAD, "keypoints": [[0, 0, 0]] * 42}, "flat list of finite numbers"),
        ("keypoints", {**HEAD, "keypoints": "none"}, "flat list of finite numbers"),
        ("segm", {**HEAD, "segmentation": [[1, 1, 5, 1, 5, 4]]}, "must be a run-length mask"),
        ("segm", {**HEAD, "segmentation": {"size": [6, 4], "counts": "0h0"}}, "the mask's size"),
        ("segm", {**HEAD, "segmentation": {"size": [4, 6], "counts": "0h1"}}, "do not fill 4 x 6"),
        ("segm", {**HEAD, "segmentation": {"size": [4, 6], "counts": "é"}}, "malformed"),
    ],
)
@pytest.mark.parametrize("before", [0, 3])
def test_one_clear_error(read, task, entry, reason, before):
    good = {"bbox": [0, 0, 1, 1], "segmentation": FULL, "keypoints": [0] * 42}
    with pytest.raises(ValueError, match=rf"dt\.json, entry {before} .*{reason}"):
        read(task, [{**HEAD, **good}] * before + [entry])


def test_an_object_is_no_result_file(read):
    with pytest.raises(ValueError, match="expected a list of entries"):
        read("bbox", {"annotations": []})


def test_uncompressed_masks_are_taken(read):
    found = read("segm", [{**HEAD, "segmentation": {"size": [4, 6], "counts": [20, 4]}}])
    assert found.areas.tolist() == [4]
