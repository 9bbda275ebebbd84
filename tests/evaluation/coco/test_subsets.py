import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from match_rcnn.evaluation.coco import similarity
from match_rcnn.evaluation.coco.files import read_detections, read_ground_truth
from match_rcnn.evaluation.coco.scoring import TASKS, Scorer
from match_rcnn.evaluation.coco.similarity import compute_similarities
from match_rcnn.evaluation.coco.subsets import score_subsets, subsets

HALF = 51 / 101  # recall points from 0 to 0.5


@pytest.fixture
def scorer(write):
    def scorer(truth, results, task="bbox"):
        read = read_ground_truth(write("gt.json", truth), [task])
        limit = TASKS[task].limits[-1]
        found = read_detections(write("dt.json", results), task, read, limit)
        return Scorer(compute_similarities(task, read, found))

    return scorer


@pytest.fixture
def three_tops(scorer):
    """Three tops: a user's (occlusion 1, found), a shop's (1, missed) and a shop's (3, found); a
    false detection with the highest score in the user's image."""
    boxes = {1: [0, 0, 10, 10], 2: [0, 0, 10, 10], 3: [30, 0, 10, 10]}
    images, levels = {1: 1, 2: 2, 3: 2}, {1: 1, 2: 1, 3: 3}
    truth = {
        "images": [{"id": 1, "source": "user"}, {"id": 2, "source": "shop"}],
        "annotations": [
            {
                "id": i,
                "image_id": images[i],
                "category_id": 1,
                "bbox": boxes[i],
                "area": 100,
                "occlusion": levels[i],
            }
            for i in boxes
        ],
    }
    found = [(1, [50, 0, 9, 9], 0.9), (1, boxes[1], 0.8), (2, boxes[3], 0.7)]
    results = [{"image_id": i, "category_id": 1, "bbox": b, "score": s} for i, b, s in found]
    return scorer(truth, results)


@pytest.fixture
def two_tops(scorer):
    """AP by level of a slightly occluded top at x = 0 and a heavily occluded one at x = 100, both
    10 x 10, from detections (x, width, score)."""

    def two_tops(*found):
        head = {"image_id": 1, "category_id": 1, "area": 100}
        truth = {
            "images": [{"id": 1}],
            "annotations": [
                {**head, "id": 1, "bbox": [0, 0, 10, 10], "occlusion": 1},
                {**head, "id": 2, "bbox": [100, 0, 10, 10], "occlusion": 3},
            ],
        }
        results = [{**head, "bbox": [x, 0, w, 10], "score": s} for x, w, s in found]
        scored = score_subsets(scorer(truth, results))
        return {name.split("-")[1]: scores.stats for name, scores in scored.items()}

    return two_tops


def test_names(three_tops):
    names = [subset.name for subset in subsets(three_tops.similarities.ground_truth)]
    assert names == ["source-shop", "source-user", "occlusion-slight", "occlusion-heavy"]


def test_scores_worked_out_by_hand(three_tops):
    scored = {name: scores.stats["AP"] for name, scores in score_subsets(three_tops).items()}
    assert scored == {
        "source-user": pytest.approx(0.5),  # the false one comes first
        "source-shop": pytest.approx(HALF),  # one of two, at precision 1
        "occlusion-slight": pytest.approx(HALF / 2),  # one of two, after the false one
        "occlusion-heavy": pytest.approx(0.5),  # item 1's detection is no false one
    }


def test_a_detection_that_takes_an_outside_item_counts_as_nothing(two_tops):
    levels = two_tops((0, 10, 0.9), (100, 10, 0.8))
    assert levels["slight"]["AP"] == levels["heavy"]["AP"] == pytest.approx(1)


def test_a_second_detection_of_an_item_is_false_in_every_level(two_tops):
    levels = two_tops((0, 10, 0.9), (0, 9, 0.85), (100, 10, 0.8))
    assert levels["slight"]["AP"] == pytest.approx(1)  # the false one comes after the true one
    assert levels["heavy"]["AP"] == pytest.approx(0.5)  # and here before it
    # With a higher score than the better placed one it takes the item, up to IoU 0.9 its own.
    levels = two_tops((0, 9, 0.9), (0, 10, 0.85), (100, 10, 0.8))
    assert levels["slight"]["AP50"] == pytest.approx(1)
    assert levels["slight"]["AP"] == pytest.approx((9 + 0.5) / 10)  # false at 0.95, before the true
    assert levels["heavy"]["AP"] == pytest.approx(0.5)  # one of the two at every threshold


def test_a_badly_placed_detection_is_false_where_it_takes_nothing(two_tops):
    levels = two_tops((0, 6.2, 0.9), (100, 10, 0.8))  # IoU 0.62
    assert levels["slight"]["AP50"] == pytest.approx(1)
    assert levels["slight"]["AP75"] == 0
    assert levels["heavy"]["AP50"] == pytest.approx(1)  # takes the outside item
    assert levels["heavy"]["AP75"] == pytest.approx(0.5)  # takes none, and comes first
    assert levels["heavy"]["AP"] == pytest.approx((3 * 1 + 7 * 0.5) / 10)


def test_a_detection_of_the_background_is_false_in_every_level(two_tops):
    levels = two_tops((50, 10, 0.95), (0, 10, 0.9), (100, 10, 0.8))
    assert levels["slight"]["AP"] == levels["heavy"]["AP"] == pytest.approx(0.5)


def test_an_inside_item_is_taken_before_a_more_similar_outside_one(scorer):
    """As pycocotools: one detection, IoU 0.9 with an ignored item and 0.6 with one that counts."""
    head = {"image_id": 1, "category_id": 1, "area": 100}
    truth = {
        "images": [{"id": 1}],
        "annotations": [
            {**head, "id": 1, "bbox": [0, 0, 9, 10], "occlusion": 1},
            {**head, "id": 2, "bbox": [0, 0, 6, 10], "occlusion": 3},
        ],
    }
    results = [{**head, "bbox": [0, 0, 10, 10], "score": 0.9}]
    heavy = score_subsets(scorer(truth, results))["occlusion-heavy"].stats
    assert heavy["AP50"] == pytest.approx(1)
    assert heavy["AP75"] == 0  # takes the outside item; 0.6 is not enough


@pytest.mark.parametrize("task", ["bbox", "segm", "keypoints"])
@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 2**32 - 1))
def test_as_ignored_items_of_pycocotools(tools, scorer, task, seed):
    case = tools.Case(seed)
    if not case.results[task]:
        return
    for item in case.annotations:
        item["occlusion"] = (None, 1, 2, 3)[(item["id"] * 7 + seed) % 4]
    found = score_subsets(scorer(case.ground_truth, case.results[task], task))
    for level, name in enumerate(("slight", "medium", "heavy"), 1):
        outside = {a["id"] for a in case.annotations if a["occlusion"] != level}
        if len(outside) == len(case.annotations):
            assert f"occlusion-{name}" not in found
            continue
        files = case.ground_truth, case.results[task], task
        expected = tools.reference(*files, ignored=outside)
        precision = found[f"occlusion-{name}"].precision[..., 0, 0]
        np.testing.assert_allclose(
            precision, expected.eval["precision"][:, :, :, 0, -1], rtol=0, atol=1e-9
        )


def test_similarities_are_computed_once(three_tops, monkeypatch):
    def refuse(*args):
        raise AssertionError("computed again")

    monkeypatch.setattr(similarity, "box_overlaps", refuse)
    monkeypatch.setattr(similarity, "compute_similarities", refuse)
    assert len(score_subsets(three_tops)) == 4


def test_a_file_without_sources_and_attributes_has_none(write):
    whole = {"images": [{"id": 1}], "annotations": []}
    assert subsets(read_ground_truth(write("gt.json", whole), ["bbox"])) == []


def test_every_image_and_item_is_in_one_subset_of_a_kind(three_tops):
    found = subsets(three_tops.similarities.ground_truth)
    images = sum(s.images.astype(int) for s in found if s.images is not None)
    items = sum((~s.ignored).astype(int) for s in found if s.ignored is not None)
    np.testing.assert_array_equal(images, 1)
    np.testing.assert_array_equal(items, 1)
