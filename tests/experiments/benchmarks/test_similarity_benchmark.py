import argparse

import pytest

from match_rcnn.experiments.benchmarks import similarity


@pytest.fixture
def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    similarity.add_arguments(parser)
    words = "--candidates 5 --reference 2 --scales 1 2 --dim 8 --runs 1"
    return parser.parse_args(words.split())


def test_a_small_run_agrees_and_has_all_figures(arguments):
    result = similarity.run(arguments)
    assert result.correct
    assert [row["candidates"] for row in result.rows] == [2, 5]
    assert set(result.ratios) == {"plain loops", "100 ms for 100 candidates"}


def test_the_check_finds_a_difference(arguments, monkeypatch):
    plain = similarity.plain_scores
    monkeypatch.setattr(similarity, "plain_scores", lambda *given: plain(*given) + 1e-4)
    assert not similarity.run(arguments).correct
