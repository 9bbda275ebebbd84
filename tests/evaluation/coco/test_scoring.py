"""Against plain pycocotools on the same files: every number of precision and recall."""

import json
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from match_rcnn.data import taxonomy
from match_rcnn.evaluation.coco import similarity
from match_rcnn.evaluation.coco.files import read_detections, read_ground_truth
from match_rcnn.evaluation.coco.scoring import TASKS, Scorer
from match_rcnn.evaluation.coco.similarity import compute_similarities
from match_rcnn.evaluation.coco.subsets import evaluate_files

ALL = ("bbox", "segm", "keypoints")
SLOW_FIXTURE = [HealthCheck.function_scoped_fixture]


@pytest.fixture
def scorer(tmp_path):
    def scorer(ground_truth, results, task, visible_only=False):
        (tmp_path / "gt.json").write_text(json.dumps(ground_truth))
        (tmp_path / "dt.json").write_text(json.dumps(results))
        truth = read_ground_truth(tmp_path / "gt.json", [task])
        truth = truth.visible_only() if visible_only else truth
        limit = TASKS[task].limits[-1]
        found = read_detections(tmp_path / "dt.json", task, truth, limit)
        return Scorer(compute_similarities(task, truth, found))

    return scorer


def assert_same(scores, expected):
    np.testing.assert_allclose(scores.precision, expected.eval["precision"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(scores.recall, expected.eval["recall"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(list(scores.stats.values()), expected.stats, rtol=0, atol=1e-9)


@pytest.mark.parametrize("task", ALL)
@settings(max_examples=25, deadline=None, suppress_health_check=SLOW_FIXTURE)
@given(seed=st.integers(0, 2**32 - 1))
def test_as_pycocotools(tools, scorer, task, seed):
    case = tools.Case(seed)
    if not case.results[task]:
        return  # pycocotools does not take an empty list
    expected = tools.reference(case.ground_truth, case.results[task], task)
    assert_same(scorer(case.ground_truth, case.results[task], task).score(), expected)


@pytest.mark.parametrize("task", ["bbox", "segm"])
@settings(max_examples=15, deadline=None, suppress_health_check=SLOW_FIXTURE)
@given(seed=st.integers(0, 2**32 - 1), crowds=st.sampled_from([0.4, 0.8, 1.0]))
def test_ignore_regions_as_pycocotools(tools, scorer, task, seed, crowds):
    case = tools.Case(seed, crowds=crowds)
    if case.results[task]:
        expected = tools.reference(case.ground_truth, case.results[task], task)
        assert_same(scorer(case.ground_truth, case.results[task], task).score(), expected)


@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_a_detection_in_an_ignore_region_is_neither_right_nor_wrong(tools, scorer, task):
    case = tools.Case(0)
    item = next(a for a in case.annotations if not a["iscrowd"])
    x, y, w, h = item["bbox"]
    head = {"image_id": item["image_id"], "category_id": item["category_id"]}
    region = {**item, "id": 99, "iscrowd": 1, "bbox": [200, 150, 90, 90], "area": 8100}
    region["segmentation"] = [[200, 150, 290, 150, 290, 240, 200, 240]]
    truth = {**case.ground_truth, "annotations": [item, region]}
    item["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]

    def found(box, score):
        shape = {"bbox": box} if task == "bbox" else {"segmentation": tools.rle(np.array(box))}
        return {**head, **shape, "score": score}

    right, inside, twice = (
        found([x, y, w, h], 0.5),
        found([210, 160, 40, 40], 0.9),
        found([215, 170, 40, 40], 0.8),
    )
    alone = scorer(truth, [right], task).score().stats
    assert alone["AP50"] == pytest.approx(1)
    beside_regions = scorer(truth, [right, inside, twice], task).score().stats
    del alone["AR1"], beside_regions["AR1"]  # of the best detection of an image
    assert beside_regions == alone
    beside = found([100, 200, 40, 40], 0.9)
    assert scorer(truth, [right, beside], task).score().stats["AP50"] < 0.6


@pytest.mark.parametrize("seed", range(4))
def test_visible_only_is_a_file_without_occluded_landmarks(tools, scorer, seed):
    case = tools.Case(seed)
    ours = scorer(case.ground_truth, case.results["keypoints"], "keypoints", True)
    for annotation in case.annotations:
        points = np.reshape(annotation["keypoints"], (294, 3))
        points[points[:, 2] == 1] = 0
        annotation["keypoints"] = points.reshape(-1).tolist()
        annotation["num_keypoints"] = int((points[:, 2] > 0).sum())
    expected = tools.reference(case.ground_truth, case.results["keypoints"], "keypoints")
    assert_same(ours.score(), expected)


@pytest.mark.parametrize("task", ALL)
def test_only_some_images(tools, scorer, task):
    case = tools.Case(5)
    chosen = sorted(case.image_ids.tolist())[::2]
    expected = tools.reference(case.ground_truth, case.results[task], task, chosen)
    ours = scorer(case.ground_truth, case.results[task], task)
    images = np.isin(ours.similarities.ground_truth.image_ids, chosen)
    assert_same(ours.score(images=images), expected)


@pytest.mark.parametrize("seed", range(3))
def test_compact_files_score_as_dense_ones(tools, write, seed):
    case = tools.Case(seed)
    for result in case.results["keypoints"]:  # what compact files cannot say
        own = taxonomy.DEEPFASHION2.category(result["category_id"]).slice
        points = np.zeros((294, 3))
        points[own] = np.reshape(result["keypoints"], (294, 3))[own]
        result["keypoints"] = points.reshape(-1).tolist()
    dense_truth, truth = case.ground_truth, case.ground_truth
    truth["annotations"] = tools.compact(case.annotations)
    truths = write("dense_gt.json", dense_truth), write("compact_gt.json", truth)
    compact = tools.compact(case.results["keypoints"])
    results = write("dense.json", case.results["keypoints"]), write("compact.json", compact)
    scores = [evaluate_files("keypoints", gt, dt).whole for gt in truths for dt in results]
    for other in scores[1:]:
        np.testing.assert_array_equal(other.precision, scores[0].precision)
        np.testing.assert_array_equal(other.recall, scores[0].recall)
    assert max(scores[0].stats.values()) > 0


@pytest.mark.parametrize("task", ALL)
@pytest.mark.parametrize("order", ["right ones last", "right ones first"])
def test_more_detections_than_count(tools, scorer, task, order):
    """130 of one category in one image: 20 (landmarks), and 1, 10 and 100 count."""
    case = tools.Case(1)
    item = next(a for a in case.annotations if a["num_keypoints"] and not a["iscrowd"])
    right = {"bbox": item["bbox"], "segmentation": tools.rle(item["bbox"])}
    wrong = {"bbox": [0, 0, 1, 1], "segmentation": tools.rle([0, 0, 1, 1])}
    right["keypoints"], wrong["keypoints"] = item["keypoints"], [0.0] * 882
    head = {"image_id": item["image_id"], "category_id": item["category_id"]}
    scores = np.linspace(1, 0.1, 130)[:: 1 if order == "right ones first" else -1]
    key = {"bbox": "bbox", "segm": "segmentation", "keypoints": "keypoints"}[task]
    results = [
        {**head, key: (right if i < 15 else wrong)[key], "score": s} for i, s in enumerate(scores)
    ]
    expected = tools.reference(case.ground_truth, results, task)
    assert_same(scorer(case.ground_truth, results, task).score(), expected)


@pytest.mark.parametrize("task", ["segm", "keypoints"])
def test_results_with_boxes_have_the_boxes_areas(tools, scorer, task):
    """pycocotools takes a detection's area from the box where the first result has one."""
    case = tools.Case(3)
    plain = tools.reference(case.ground_truth, case.results[task], task)
    for result in case.results[task]:
        result["bbox"] = [0.0, 0.0, 4.0, 5.0]
    expected = tools.reference(case.ground_truth, case.results[task], task)
    assert list(expected.stats) != list(plain.stats)
    assert_same(scorer(case.ground_truth, case.results[task], task).score(), expected)


def test_landmark_results_with_masks_have_the_masks_areas(tools, scorer):
    case = tools.Case(3)
    results = case.results["keypoints"]
    for result in results:
        result["segmentation"] = tools.rle([0, 0, 4, 5])
    expected = tools.reference(case.ground_truth, results, "keypoints")
    assert_same(scorer(case.ground_truth, results, "keypoints").score(), expected)


@pytest.mark.parametrize("task", ALL)
def test_an_item_with_id_0_is_never_matched_as_in_pycocotools(tools, scorer, task):
    case = tools.Case(4)
    for annotation in case.annotations:
        annotation["id"] -= 1
    expected = tools.reference(case.ground_truth, case.results[task], task)
    assert_same(scorer(case.ground_truth, case.results[task], task).score(), expected)


@pytest.mark.parametrize("task", ALL)
def test_no_results_at_all(tools, scorer, task):
    scores = scorer(tools.Case(0).ground_truth, [], task).score()
    stats = scores.stats
    assert stats["AP"] == stats["AP50"] == 0
    assert scores.per_category()["short_sleeved_shirt"]["AP"] == -1  # no item of it


@pytest.mark.parametrize("task", ALL)
def test_no_items_at_all(tools, scorer, task):
    case = tools.Case(0)
    truth = {**case.ground_truth, "annotations": []}
    assert set(scorer(truth, case.results[task], task).score().stats.values()) == {-1.0}


@pytest.mark.parametrize("task", ALL)
def test_per_category_is_a_score_of_that_category_alone(tools, write, task):
    case = tools.Case(2)
    files = write("gt.json", case.ground_truth), write("dt.json", case.results[task])
    found = evaluate_files(task, *files).to_json()
    expected = tools.reference(case.ground_truth, case.results[task], task)
    assert found["stats"] == pytest.approx(expected.stats, abs=1e-9)
    assert len(found["stat_names"]) == len(expected.stats)
    for k, category_id in enumerate(expected.params.catIds):
        precision = expected.eval["precision"][:, :, k, 0, -1]
        values = found["per_category"][taxonomy.DEEPFASHION2.category(category_id).coco_name]
        assert values["AP"] == pytest.approx(precision.mean(), abs=1e-9)
        assert values["AP50"] == pytest.approx(precision[0].mean(), abs=1e-9)
        assert values["AP75"] == pytest.approx(precision[5].mean(), abs=1e-9)


def test_brief_scores_are_the_first_three(tools, scorer):
    case = tools.Case(2)
    ours = scorer(case.ground_truth, case.results["bbox"], "bbox")
    whole, brief = ours.score().stats, ours.score(brief=True).stats
    assert brief == {name: whole[name] for name in ("AP", "AP50", "AP75")}


def test_an_ignored_item_is_neither_hit_nor_miss(scorer):
    """Two items, found at 0.9 and 0.8, and a false detection at 0.7 (worked out by hand)."""
    boxes = {1: [0, 0, 10, 10], 2: [20, 20, 10, 10]}
    head = {"image_id": 1, "category_id": 1}
    truth = {
        "images": [{"id": 1, "height": 50, "width": 50}],
        "annotations": [{**head, "id": i, "bbox": b, "area": 100} for i, b in boxes.items()],
        "categories": [{"id": 1, "name": "top"}],
    }
    found = [(boxes[1], 0.9), (boxes[2], 0.8), ([40, 0, 5, 5], 0.7)]
    results = [{**head, "bbox": box, "score": s} for box, s in found]
    ours = scorer(truth, results, "bbox")
    assert ours.score().stats["AP"] == pytest.approx(1)
    # Item 1 ignored: its detection does not stand before item 2's as a false one.
    assert ours.score(ignored=np.array([True, False])).stats["AP"] == pytest.approx(1)
    # All but the false detection's neighbourhood ignored: nothing is left to find.
    assert ours.score(ignored=np.array([True, True])).stats["AP"] == -1


def test_a_false_detection_before_the_true_one_halves_precision(scorer):
    head = {"image_id": 1, "category_id": 1}
    truth = {
        "images": [{"id": 1}],
        "annotations": [{**head, "id": 1, "bbox": [0, 0, 10, 10], "area": 100}],
        "categories": [{"id": 1, "name": "top"}],
    }
    # IoU with the item: 8 of 10 columns = 0.8.
    found = [([30, 0, 10, 10], 0.9), ([0, 0, 8, 10], 0.8)]
    results = [{**head, "bbox": box, "score": s} for box, s in found]
    stats = scorer(truth, results, "bbox").score().stats
    assert stats["AP50"] == stats["AP75"] == pytest.approx(0.5)
    assert stats["AP"] == pytest.approx(0.5 * 7 / 10)  # thresholds 0.5 to 0.8 of ten
    assert stats["AR1"] == 0
    assert stats["AR10"] == pytest.approx(0.7)


def test_visible_only_is_for_landmarks(tmp_path):
    with pytest.raises(ValueError, match="keypoints"):
        evaluate_files("bbox", tmp_path / "a.json", tmp_path / "b.json", visible_only=True)


def test_a_test_set_cannot_be_scored(write):
    truth = write("gt.json", {"images": [{"id": 1}]})
    with pytest.raises(ValueError, match="no list 'annotations'"):
        evaluate_files("bbox", truth, write("dt.json", []))


@pytest.mark.parametrize("workers", [2, 3, 7])
@settings(max_examples=10, deadline=None, suppress_health_check=SLOW_FIXTURE)
@given(seed=st.integers(0, 2**32 - 1))
def test_masks_compared_in_parts(tools, scorer, workers, seed):
    case = tools.Case(seed)
    whole = scorer(case.ground_truth, case.results["segm"], "segm").similarities
    asked = []

    @contextmanager
    def in_this_process(function, count, processes):
        asked.append((count, processes))
        yield map(function, range(count))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similarity, "_WORTH_A_FORK", 1)
        patch.setattr(similarity, "can_fork", lambda: True)
        patch.setattr(similarity, "ordered_map", in_this_process)
        found = compute_similarities("segm", whole.ground_truth, whole.detections, workers)
    np.testing.assert_array_equal(found.values, whole.values)
    assert asked == [(workers, workers) if len(whole.values) else (1, 1)]
