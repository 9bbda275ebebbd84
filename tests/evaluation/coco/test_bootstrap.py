import copy
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from match_rcnn.evaluation.coco.bootstrap import WeightedAP, compare, compare_files, draws_of
from match_rcnn.evaluation.coco.files import read_detections, read_ground_truth
from match_rcnn.evaluation.coco.scoring import TASKS, evaluate

SLOW_FIXTURE = [HealthCheck.function_scoped_fixture]


@pytest.fixture
def read(tmp_path):
    def read(task, ground_truth, *results):
        (tmp_path / "gt.json").write_text(json.dumps(ground_truth))
        truth = read_ground_truth(tmp_path / "gt.json", [task])
        found = []
        for i, result in enumerate(results):
            (tmp_path / f"{i}.json").write_text(json.dumps(result))
            limit = TASKS[task].limits[-1]
            found.append(read_detections(tmp_path / f"{i}.json", task, truth, limit))
        return truth, *found

    return read


@pytest.mark.parametrize("task", TASKS)
@settings(max_examples=15, deadline=None, suppress_health_check=SLOW_FIXTURE)
@given(seed=st.integers(0, 2**32 - 1))
def test_with_equal_weights_it_is_ap(tools, read, task, seed):
    case = tools.Case(seed)
    if not case.results[task]:
        return
    truth, found = read(task, case.ground_truth, case.results[task])
    expected = evaluate(task, truth, found)
    weighted = WeightedAP(task, truth, found)
    for weight in (1.0, 3.0):
        by_threshold = weighted(np.full(len(truth.image_ids), weight))
        if expected.stats["AP"] == -1:
            assert np.isnan(by_threshold).all()
        else:
            assert by_threshold.mean() == pytest.approx(expected.stats["AP"], abs=1e-9)
            assert by_threshold[0] == pytest.approx(expected.stats["AP50"], abs=1e-9)


def twice(case_truth, results, image_id):
    """The same with one image a second time, under another id."""
    truth, results = copy.deepcopy((case_truth, results))
    image = next(i for i in truth["images"] if i["id"] == image_id)
    truth["images"].append({**image, "id": 7777})
    own = [a for a in truth["annotations"] if a["image_id"] == image_id]
    truth["annotations"] += [{**a, "image_id": 7777, "id": 100_000 + i} for i, a in enumerate(own)]
    results += [{**r, "image_id": 7777} for r in results if r["image_id"] == image_id]
    return truth, results


@settings(max_examples=15, deadline=None, suppress_health_check=SLOW_FIXTURE)
@given(seed=st.integers(0, 2**32 - 1))
def test_an_image_of_weight_two_is_there_twice(tools, read, seed):
    case = tools.Case(seed)
    results = case.results["bbox"]
    if not results:
        return
    # Among equal scores the place of the second copy would count.
    for i, result in enumerate(results):
        result["score"] = 0.5 + 0.4 * result["score"] + 1e-6 * i
    truth, found = read("bbox", case.ground_truth, results)
    weights = np.ones(len(truth.image_ids))
    weights[0] = 2
    got = WeightedAP("bbox", truth, found)(weights)
    doubled = read("bbox", *twice(case.ground_truth, results, int(truth.image_ids[0])))
    expected = evaluate("bbox", *doubled).stats
    if expected["AP"] > -1:
        assert got.mean() == pytest.approx(expected["AP"], abs=1e-9)
        assert got[0] == pytest.approx(expected["AP50"], abs=1e-9)


def boxes(*places):
    return [
        {"image_id": i, "category_id": 8, "bbox": [x, 0, 20, 20], "score": 0.9 - 0.01 * i}
        for i, x in places
    ]


@pytest.fixture
def ten_photos():
    annotations = [
        {
            "id": i,
            "image_id": i,
            "category_id": 8,
            "bbox": [0, 0, 20, 20],
            "area": 400,
            "iscrowd": 0,
        }
        for i in range(1, 11)
    ]
    images = [{"id": i, "width": 100, "height": 100} for i in range(1, 11)]
    return {"images": images, "annotations": annotations}


def test_a_model_against_itself(ten_photos, read):
    truth, found = read("bbox", ten_photos, boxes((1, 0), (2, 60), (3, 0)))
    same = WeightedAP("bbox", truth, found)
    drawn = draws_of(same, 10, draws=50)
    difference = compare([drawn], [drawn])["AP"]
    assert difference.value == difference.low == difference.high == 0
    assert difference.not_better == 1


def test_a_model_that_is_right_more_often(ten_photos, read, tmp_path):
    """Five of ten against ten of ten: the interval holds the difference and lies above 0."""
    half = boxes(*((i, 0) for i in range(1, 6)), *((i, 60) for i in range(6, 11)))
    truth, _, _ = read("bbox", ten_photos, half, boxes(*((i, 0) for i in range(1, 11))))
    found = compare_files("bbox", truth, tmp_path / "0.json", tmp_path / "1.json", draws=300)
    for one in found.values():
        assert one.firsts == pytest.approx([51 / 101])  # recall 0 to 0.5 at full precision
        assert one.seconds == pytest.approx([1])
        assert 0 < one.low < one.value < one.high < 1
        assert one.not_better < 0.02
    halves = [WeightedAP("bbox", truth, file) for file in read("bbox", ten_photos, half)[1:]]
    drawn = [draws_of(one, 10, draws=20) for one in halves]
    assert compare(drawn * 2, drawn * 3)["AP"].value == 0
    again = compare_files("bbox", truth, tmp_path / "0.json", tmp_path / "1.json", draws=300)
    assert again == found
