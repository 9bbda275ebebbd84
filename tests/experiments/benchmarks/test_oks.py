import argparse

import pytest

from match_rcnn.experiments.benchmarks import oks


@pytest.fixture
def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    oks.add_arguments(parser)
    return parser.parse_args(["--images", "20", "--unlabelled", "0.3", "--runs", "1"])


def test_a_small_run_agrees_and_has_all_figures(arguments):
    result = oks.run(arguments)
    assert result.correct
    assert result.ratios["similarity"] > 1
    assert result.goals == {"similarity": 10.0}
    assert result.rows[0]["pairs"] == result.rows[1]["pairs"] >= 20 * 2 * 20


def test_the_check_finds_a_difference(arguments, monkeypatch):
    def wrong(task, truth, found, compute=oks.compute_similarities):
        similarities = compute(task, truth, found)
        similarities.values[7] += 1e-9
        return similarities

    monkeypatch.setattr(oks, "compute_similarities", wrong)
    assert not oks.run(arguments).correct
