"""What was published of DeepFashion (2016), and a run's figures below."""

import json

import pytest

from match_rcnn.data.sources.deepfashion import ATTRIBUTE_TYPES
from match_rcnn.reporting import recognition
from match_rcnn.reporting.numbers.runs import Run, newest_metrics
from match_rcnn.reporting.pages import Page
from match_rcnn.reporting.tables import MISSING


def a_run(tmp_path, **metrics):
    return Run("mine", tmp_path, "made_up", "measured on a test", metrics=metrics)


@pytest.fixture
def run(tmp_path):
    metrics = {f"given/attributes/{t}_top3": 10.0 + i for i, t in enumerate(ATTRIBUTE_TYPES)}
    metrics |= {"given/attributes/mean_of_types_top3": 12.0, "given/attributes/detected": 90.0}
    metrics |= {"category/top3": 55.5, "oracle_category/top3": 77.0, "landmarks/ne_mean": 0.05}
    return a_run(tmp_path, **metrics, **{"inshop/hit20": 33.33})


def rows_of(table, name):
    return [row for row in table.rows if name in row[table.heads - 1]]


def test_published_rows_stand_above_ours(run):
    table = recognition.classification([run])
    assert table.headers[2:] == [
        *("category", "texture", "fabric", "shape", "part", "style"),
        *("All, as published", "mean of types", "all ranked"),
    ]
    first, second = rows_of(table, "Liu and Lu")
    types = ["56.17", "43.20", "58.28", "46.97", "68.82"]
    assert first[2:] == ["91.16", *types, "54.69", MISSING, MISSING]
    assert second[8] == "63.74"
    assert table.quiet == {0, 1, 2, 3, 4, 5, 9, 10, 11, 12, 13, 14}
    found, *_ = rows_of(table, "given, detected garments")
    ours = ["10.00", "11.00", "12.00", "13.00", "14.00"]
    assert found[2:] == [MISSING, *ours, MISSING, "12.00", MISSING]
    assert [row[2] for row in rows_of(table, "measured on a test")] == [
        *(MISSING, "55.50", "77.00"),
        *3 * [MISSING],
    ]
    assert "true landmarks given" in table.rows[8][1]


def test_liu_and_lu_is_the_mean_of_the_types_and_others_are_not():
    """What the note says of "All"."""
    for method, (_, *types, every) in recognition.PUBLISHED_CLASSIFICATION.items():
        means = [sum(own[place] for own in types) / 5 for place in (0, 1)]
        is_mean = all(abs(m - e) < 0.006 for m, e in zip(means, every, strict=True))
        assert is_mean == (method == "Liu and Lu"), (method, means, every)


def test_landmarks_and_retrieval(run):
    table = recognition.landmarks([run])
    assert ["FashionNet, published", "0.0872"] in table.rows
    assert table.rows[-1] == ["measured on a test", "0.0500"]
    table = recognition.retrieval([run], "inshop")
    assert table.rows[0] == [
        "FashionNet, published",
        "53.0",
        "73.0",
        "76.0",
        "77.0",
        "79.0",
        "80.0",
    ]
    assert table.rows[-1][3] == "33.3"
    assert recognition.retrieval([run], "consumer2shop") is None


def test_the_section(run, tmp_path):
    section = recognition.section([run])
    text = Page("a", [section]).to_markdown()
    assert "Corbière et al., published" in text
    assert "of other splits" in text.replace("\n", " ")
    assert recognition.section([a_run(tmp_path)]) is None


def test_metrics_of_a_run(tmp_path):
    kept = {"inshop/hit20": 5.0, "a/attributes_found/part_top3": 4.0, "oracle_category/top1": 3.0}
    kept["bbox/AP"] = 2.0
    left_out = {"loss_attributes": 1.0, "fast_rcnn/cls_accuracy": 1.0}
    (tmp_path / "metrics.json").write_text(json.dumps(kept | left_out))
    assert newest_metrics(tmp_path / "metrics.json") == kept
