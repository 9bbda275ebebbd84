import numpy as np
import pytest

from match_rcnn.evaluation.coco_tasks import score
from match_rcnn.evaluation.ground_truth import read_ground_truth
from match_rcnn.evaluation.results import read_detections
from match_rcnn.evaluation.similarity import compute_similarities
from match_rcnn.evaluation.subsets import subsets


@pytest.fixture
def similarities(write):
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
    read = read_ground_truth(write("gt.json", truth), ["bbox"])
    detections = read_detections(write("dt.json", results), "bbox", read, 100)
    return compute_similarities("bbox", read, detections)


def test_names(similarities):
    names = [subset.name for subset in subsets(similarities.ground_truth)]
    assert names == ["source-shop", "source-user", "occlusion-slight", "occlusion-heavy"]


def test_scores_worked_out_by_hand(similarities):
    scored = {
        subset.name: score(similarities, subset.ignored, subset.images, brief=True).stats["AP"]
        for subset in subsets(similarities.ground_truth)
    }
    half = 51 / 101  # recall points from 0 to 0.5
    assert scored == {
        "source-user": pytest.approx(0.5),  # the false one comes first
        "source-shop": pytest.approx(half),  # one of two, at precision 1
        "occlusion-slight": pytest.approx(half / 2),  # one of two, after the false one
        "occlusion-heavy": pytest.approx(0.5),  # item 1's detection is no false one
    }


def test_a_file_without_sources_and_attributes_has_none(write):
    whole = {"images": [{"id": 1}], "annotations": []}
    assert subsets(read_ground_truth(write("gt.json", whole), ["bbox"])) == []


def test_every_image_and_item_is_in_one_subset_of_a_kind(similarities):
    truth = similarities.ground_truth
    found = subsets(truth)
    images = sum(s.images.astype(int) for s in found if s.images is not None)
    items = sum((~s.ignored).astype(int) for s in found if s.ignored is not None)
    np.testing.assert_array_equal(images, 1)
    np.testing.assert_array_equal(items, 1)
