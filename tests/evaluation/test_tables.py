from match_rcnn.evaluation.tables import (
    category_table,
    flatten,
    retrieval_subset_table,
    subset_table,
    task_table,
)

RESULTS = {
    "bbox": {
        "AP": 50.0,
        "AP50": 71.25,
        "APs": float("nan"),
        "AP-short sleeve top": 44.4,
        "AP-source-user": 41.0,
        "AP50-source-user": 62.0,
        "AP75-source-user": 43.0,
    },
    "keypoints": {"AP": 30.0, "AP-short sleeve top": 33.3},
}


def cells(table):
    return [line.split() for line in table.splitlines()]


def test_retrieval_by_subset():
    """Table 9's rows: a k and a kind of boxes; its columns: levels, overall, many right ones."""
    metrics = {
        "bbox/AP": 9.0,
        "retrieval/top1": 25.0,
        "retrieval/top20": 50.0,
        "retrieval/top1-occlusion-heavy": 12.5,
        "retrieval/top20-viewpoint-side_or_back": 75.0,
        "retrieval_gt_boxes/top1": 100.0,
        "retrieval_gt_boxes/top1-more_than_five": 37.5,
    }
    lines = retrieval_subset_table(metrics).splitlines()
    assert lines[0].split()[:5] == ["boxes", "scale", "scale", "scale", "occlusion"]
    assert lines[1].split()[:3] == ["small", "modest", "large"]
    first, second, third = [line.split() for line in lines[3:]]
    nan = ["nan"]
    assert first == ["top-1", "retrieval", *nan * 5, "0.125", *nan * 6, "0.250", "nan"]
    assert second == ["top-1", "retrieval_gt_boxes", *nan * 12, "1.000", "0.375"]
    assert third == ["top-20", "retrieval", *nan * 11, "0.750", "0.500", "nan"]


def test_task_table():
    rows = cells(task_table(flatten(RESULTS)))
    assert rows[0] == ["task", "AP", "AP50", "AP75", "APs", "APm", "APl"]
    assert rows[2][:4] == ["bbox", "50.0", "71.2", "nan"]
    assert rows[3][:3] == ["keypoints", "30.0", "nan"]


def test_category_table_has_no_subsets():
    rows = cells(category_table(flatten(RESULTS)))
    assert rows[0] == ["category", "bbox", "AP", "keypoints", "AP"]
    assert rows[2:] == [["short", "sleeve", "top", "44.4", "33.3"]]


def test_subset_table_has_no_categories():
    rows = cells(subset_table(flatten(RESULTS), columns=("AP", "AP75")))
    assert rows[2:] == [["source-user", "41.0", "43.0", "nan", "nan"]]


def test_no_subsets_no_table():
    assert subset_table({"bbox/AP": 1.0, "bbox/AP-skirt": 2.0}) == ""
