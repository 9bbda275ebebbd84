from match_rcnn.evaluation.tables import category_table, flatten, subset_table, task_table

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
