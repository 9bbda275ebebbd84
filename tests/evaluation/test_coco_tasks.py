"""Against plain pycocotools on the same files: every number of precision and recall."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from match_rcnn.evaluation.coco_tasks import TASKS, score
from match_rcnn.evaluation.ground_truth import read_ground_truth
from match_rcnn.evaluation.results import read_detections
from match_rcnn.evaluation.similarity import compute_similarities

ALL = ("bbox", "segm", "keypoints")


def similarities(folder, ground_truth, results, task, visible_only=False):
    (folder / "gt.json").write_text(json.dumps(ground_truth))
    (folder / "dt.json").write_text(json.dumps(results))
    truth = read_ground_truth(folder / "gt.json", [task])
    truth = truth.visible_only() if visible_only else truth
    found = read_detections(folder / "dt.json", task, truth, TASKS[task].limits[-1])
    return compute_similarities(task, truth, found)


def assert_same(scores, expected):
    np.testing.assert_allclose(scores.precision, expected.eval["precision"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(scores.recall, expected.eval["recall"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(list(scores.stats.values()), expected.stats, rtol=0, atol=1e-9)


@pytest.mark.parametrize("task", ALL)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**32 - 1))
def test_as_pycocotools(tools, tmp_path, task, seed):
    case = tools.Case(seed)
    if not case.results[task]:
        return  # pycocotools does not take an empty list
    expected = tools.reference(case.ground_truth, case.results[task], task)
    got = similarities(tmp_path, case.ground_truth, case.results[task], task)
    assert_same(score(got), expected)
