import pickle

from match_rcnn.data.problems import (
    IMAGE_LEFT_OUT,
    ITEM_LEFT_OUT,
    Problem,
    ProblemReport,
    Reason,
)


def problem(number, item, reason, action):
    return Problem(f"train/annos/{number:06d}.json", item, reason, "expected a, got b", action)


def filled():
    report = ProblemReport(images=7, items=11)
    problems = [
        problem(1, "item2", Reason.POLYGON, ITEM_LEFT_OUT),
        problem(2, None, Reason.IMAGE_MISSING, IMAGE_LEFT_OUT),
        problem(3, "item1", Reason.POLYGON, ITEM_LEFT_OUT),
    ]
    report.add(problems, [Reason.BOX_PARTLY_OUTSIDE] * 4)
    return report


def test_counts_by_reason():
    assert filled().left_out == {Reason.POLYGON: 2, Reason.IMAGE_MISSING: 1}


def test_json():
    value = filled().to_json()
    assert value["counts"] == {
        "images": 7,
        "items": 11,
        "images_left_out": 1,
        "items_left_out": 2,
        "files_left_out": 0,
        "left_out_by_reason": {
            "annotation file without image": 1,
            "polygon of fewer than 3 points": 2,
        },
        "kept_by_reason": {"box partly outside the image": 4},
    }
    assert value["problems"][0] == {
        "file": "train/annos/000001.json",
        "item": "item2",
        "reason": "polygon of fewer than 3 points",
        "detail": "expected a, got b",
        "action": "item left out",
    }
    assert [p["item"] for p in value["problems"]] == ["item2", None, "item1"]


def test_summary():
    assert filled().summary().splitlines() == [
        "7 images with 11 items",
        "  left out, annotation file without image: 1",
        "  left out, polygon of fewer than 3 points: 2",
        "  kept as it is, box partly outside the image: 4",
    ]


def test_empty_report():
    report = ProblemReport()
    assert report.summary() == "0 images with 0 items"
    assert report.to_json()["problems"] == []


def test_problems_cross_processes():
    found = problem(1, "item2", Reason.POLYGON, ITEM_LEFT_OUT)
    assert pickle.loads(pickle.dumps(found)) == found
