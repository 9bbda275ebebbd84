import json

import pytest

from match_rcnn.demo import last_metrics, summary_table


def test_the_newest_evaluation_is_read(tmp_path):
    lines = [{"iteration": 1, "bbox/AP": 1.0}, {"bbox/AP": 2.0, "bbox/AP50": 3.0}, {"loss": 4.0}]
    path = tmp_path / "metrics.json"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    assert last_metrics(path) == {"bbox/AP": 2.0, "bbox/AP50": 3.0}


def test_a_training_that_never_evaluated_is_an_error(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text('{"loss": 1.0}\n')
    with pytest.raises(ValueError, match="holds no evaluation"):
        last_metrics(path)


def test_the_table_has_a_row_a_task():
    table = summary_table({"bbox/AP": 50.04, "bbox/AP50": 70.0, "segm/AP": 1.0})
    assert "measured on generated data" in table
    assert [line.split()[0] for line in table.splitlines()[2:]] == ["bbox", "segm"]
    assert "50.0" in table
