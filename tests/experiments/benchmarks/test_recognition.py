import argparse

import pytest

from match_rcnn.experiments.benchmarks import recognition


@pytest.fixture
def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    recognition.add_arguments(parser)
    sizes = ("--images", "60", "--queries", "50", "--gallery", "300", "--dim", "8")
    return parser.parse_args([*sizes, "--reference-images", "50"])


def test_a_small_run_agrees_and_has_all_figures(arguments):
    result = recognition.run(arguments)
    assert result.correct, result.checks
    assert [row["images"] for row in result.rows] == [50, 60, 5, 50]
    assert set(result.ratios) == {"attribute recall", "consumer-to-shop ranks"}


def test_the_checks_find_a_wrong_recall(arguments, monkeypatch):
    inner = recognition.attribute_recall

    def wrong(scores, *others):
        return inner(-scores, *others)

    monkeypatch.setattr(recognition, "attribute_recall", wrong)
    assert not recognition.run(arguments).correct


def test_the_checks_find_a_wrong_rank(arguments, monkeypatch):
    inner = recognition.ranks
    monkeypatch.setattr(recognition, "ranks", lambda *given: inner(*given) + 1)
    assert not recognition.run(arguments).correct
