import pytest

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.engine.evaluations import EvaluationLog, best_metric, cut_metrics


def log_of(path, *values):
    log = EvaluationLog(path, "bbox/AP")
    log.open(0)
    for i, value in enumerate(values):
        log.add(10 * i + 9, {} if value is None else {"bbox/AP": value})
    return log


@pytest.mark.parametrize(
    ("values", "best", "since"),
    [
        ((), None, 0),
        ((3.0,), (9, 3.0), 0),
        ((3.0, 2.0, 1.0), (9, 3.0), 2),
        ((3.0, 4.0, 1.0), (19, 4.0), 1),
        ((3.0, 3.0), (9, 3.0), 1),  # as good is no better
        ((float("nan"), 1.0, None), (19, 1.0), 1),
    ],
)
def test_the_best_and_how_long_ago(tmp_path, values, best, since):
    log = log_of(tmp_path / "log.json", *values)
    assert log.best == best
    assert log.evaluations_since_best() == since


def test_a_continued_run_knows_those_before_and_none_after(tmp_path):
    path = tmp_path / "log.json"
    log_of(path, 1.0, 5.0, 7.0)
    continued = EvaluationLog(path, "bbox/AP")
    continued.open(20)
    assert continued.best == (19, 5.0)
    assert 19 in continued
    assert 29 not in continued
    again = EvaluationLog(path, "bbox/AP")
    again.open(1000)
    assert again.best == (19, 5.0)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('{"iteration": 1}\n{"iteration": 2}\n', '{"iteration": 1}\n'),
        ('{"iteration": 1}\n{"iterat', '{"iteration": 1}\n'),
        ('{"iteration": 1}\n{"iteration": 1}', '{"iteration": 1}\n'),  # no end of line
        ('{"iteration": 1}\n\n{"iteration": 1}\n', '{"iteration": 1}\n'),
        ("", ""),
    ],
)
def test_metrics_that_will_be_written_again_go(tmp_path, text, left):
    path = tmp_path / "metrics.json"
    path.write_text(text)
    with path.open("a") as writer:
        cut_metrics(path, start_iter=2)
        writer.write("next\n")
    assert path.read_text() == left + "next\n"


def test_without_metrics_there_is_nothing_to_cut(tmp_path):
    cut_metrics(tmp_path / "metrics.json", 5)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, "bbox/AP"),
        ({"MODEL.KEYPOINT_ON": True}, "bbox/AP"),
        ({"MODEL.MATCH_ON": True}, "retrieval/top20"),
        # boxes stay as they are: their AP is as good at first as ever
        ({"MODEL.MATCH_ON": True, "MODEL.ROI_MATCH_HEAD.TRAIN_ALONE": True}, "retrieval/top20"),
        ({"MODEL.MATCH_ON": True, "TEST.BEST_METRIC": "bbox/AP"}, "bbox/AP"),
        ({"MODEL.MATCH_ON": True, "TEST.BEST_METRIC": ""}, ""),
    ],
)
def test_the_best_metric_is_that_of_what_is_learned(config, expected):
    cfg = get_match_rcnn_cfg()
    cfg.merge_from_list([part for item in config.items() for part in item])
    assert best_metric(cfg) == expected
