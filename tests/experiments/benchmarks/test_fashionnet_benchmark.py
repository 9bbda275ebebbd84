import argparse

import pytest

from match_rcnn.experiments.benchmarks import fashionnet


@pytest.fixture
def arguments(monkeypatch) -> argparse.Namespace:
    """A small network in the place of VGG16: 100 million numbers are drawn at random."""
    parser = argparse.ArgumentParser()
    fashionnet.add_arguments(parser)
    monkeypatch.setattr(fashionnet, "CONFIG", "fashionnet_quick")
    return parser.parse_args(["--images", "3", "--side", "64", "--runs", "1"])


def test_a_small_run_agrees_and_has_all_figures(arguments):
    result = fashionnet.run(arguments)
    assert result.correct, result.checks
    assert set(result.ratios) == {"training step", "inference", "landmark pooling"}
    assert len(result.rows) == 6


def test_the_checks_find_windows_in_another_place(arguments, monkeypatch):
    inner = fashionnet.landmark_pool

    def wrong(maps, xy, gate, **options):
        return inner(maps, 1 - xy, gate, **options)

    monkeypatch.setattr(fashionnet, "landmark_pool", wrong)
    assert not fashionnet.run(arguments).correct
