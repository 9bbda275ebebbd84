import argparse

import pytest

from match_rcnn.experiments.benchmarks import retrieval
from match_rcnn.retrieval.scoring import MatchScorer, TopK


@pytest.fixture
def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    retrieval.add_arguments(parser)
    sizes = ("--queries", "60", "--gallery", "3000", "--dim", "24", "--pairwise-queries", "6")
    return parser.parse_args([*sizes, "--runs", "1"])


def test_a_small_run_agrees_and_has_all_figures(arguments):
    result = retrieval.run(arguments)
    assert result.correct, result.checks
    assert len(result.checks) == 2
    assert result.goals.keys() <= result.ratios.keys()
    assert {row["way"]: row["queries"] for row in result.rows}["pairwise network"] == 6
    assert "times 10" in result.notes[0]
    assert result.ratios["pairwise network"] > 1


def test_the_checks_find_a_wrong_item(arguments, monkeypatch):
    inner = MatchScorer.top_k

    def wrong(self, queries, gallery, k):
        found = inner(self, queries, gallery, k)
        return TopK(found.scores, (found.indices + (found.indices == found.indices[2, 7])))

    monkeypatch.setattr(MatchScorer, "top_k", wrong)
    assert not retrieval.run(arguments).correct


def test_the_checks_find_a_wrong_network(arguments, monkeypatch):
    inner = retrieval.pairwise_top

    def wrong(queries, gallery, classifier):
        found = inner(queries, gallery, classifier)
        return TopK(found.scores, found.indices.flip(1))

    monkeypatch.setattr(retrieval, "pairwise_top", wrong)
    assert not retrieval.run(arguments).correct
