import json

import pytest

from match_rcnn.experiments.demo import (
    MEANING,
    Demo,
    DemoSize,
    last_metrics,
    print_summary,
    summary_table,
)
from match_rcnn.experiments.steps import Steps


def test_the_newest_evaluation_is_read(tmp_path):
    lines = [{"iteration": 1, "bbox/AP": 1.0}, {"bbox/AP": 2.0, "bbox/AP50": 3.0}, {"loss": 4.0}]
    path = tmp_path / "metrics.json"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    assert last_metrics(path) == {"bbox/AP": 2.0, "bbox/AP50": 3.0}


def test_retrieval_is_read_with_the_rest(tmp_path):
    lines = [{"bbox/AP": 2.0, "retrieval/top1-scale-small": 3.0, "loss_match": 1.0, "lr": 0.1}]
    lines += [{"retrieval/top1": 9.0}]  # not an evaluation's line
    path = tmp_path / "metrics.json"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    assert last_metrics(path) == {"bbox/AP": 2.0, "retrieval/top1-scale-small": 3.0}


def test_the_last_words_hold_every_table(capsys):
    metrics = {"bbox/AP": 41.25, "bbox/AP50": 60.0, "bbox/AP75": 50.0}
    metrics |= {f"bbox/{name}-occlusion-heavy": 12.5 for name in ("AP", "AP50", "AP75")}
    metrics |= {"retrieval/top1": 25.0, "retrieval/top1-zoom_in-large": 50.0}
    row = {"boxes": "detected", "ranked by": "chance", "queries": 4, "missed": 1}
    row |= {f"top{k}": 6.25 for k in (1, 5, 10, 15, 20)}
    meaning = {"metrics": MEANING, "retrieval": "words on retrieval"}
    print_summary({"metrics": metrics, "retrieval": [row], "meaning": meaning})
    printed = capsys.readouterr().out
    lines = [line.split() for line in printed.splitlines()]
    assert ["bbox", "41.2", "60.0", "50.0"] in lines
    assert ["occlusion-heavy", "12.5"] in lines
    assert ["detected", "chance", "6.2", "6.2", "6.2", "6.2", "4", "1"] in lines
    (of_queries,) = [line for line in lines if line[:2] == ["top-1", "retrieval"]]
    assert "0.500" in of_queries
    assert "they say nothing about DeepFashion2 itself" in printed
    assert "words on retrieval" in printed


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


def test_each_training_starts_from_the_one_before(tmp_path, monkeypatch):
    """The last one's model is what is evaluated and drawn."""
    commands = []
    configs = [tmp_path / "first.yaml", tmp_path / "second.yaml"]
    for config in configs:
        config.write_text("VERSION: 2\n")
    demo = Demo(tmp_path, DemoSize(iterations=5), configs)
    monkeypatch.setattr(demo.steps, "tool", lambda name, *words: commands.append((name, words)))
    demo.train()
    demo.draw()
    (_, first), (_, second), (_, drawn), _ = commands
    assert str(tmp_path / "first") in first
    assert first[first.index("DATASETS.TEST") + 1] == "()"
    assert "MODEL.WEIGHTS" not in first
    assert str(tmp_path / "model") in second
    assert "DATASETS.TEST" not in second
    weights = second[second.index("MODEL.WEIGHTS") + 1]
    assert weights == str(tmp_path / "first" / "model_final.pth")
    for words in (first, second):
        assert words[words.index("SOLVER.MAX_ITER") + 1] == "5"
        assert "--resume" in words
    assert drawn[1].endswith("second.yaml")
    assert str(tmp_path / "model" / "model_final.pth") in drawn


def test_a_training_of_another_length_is_not_gone_on_with(tmp_path, monkeypatch):
    config = tmp_path / "only.yaml"
    config.write_text("VERSION: 2\n")
    monkeypatch.setattr(Steps, "tool", lambda *words: None)
    Demo(tmp_path, DemoSize(iterations=4), [config]).train()
    with pytest.raises(ValueError, match=r"model was made .* .SOLVER\.MAX_ITER was"):
        Demo(tmp_path, DemoSize(), [config]).train()
