import argparse

import pytest

from match_rcnn.experiments.benchmarks import loader


@pytest.fixture
def result():
    parser = argparse.ArgumentParser()
    loader.add_arguments(parser)
    flags = ["--images", "2", "--size", "220", "150", "--runs", "1", "--step-seconds", "0.5"]
    return loader.run(parser.parse_args(flags))


def test_a_small_run(result):
    assert result.correct, result.checks
    assert [row["part"] for row in result.rows] == [
        "decode (opencv)",
        "decode (pil)",
        "resize, flip, targets",
        "whole mapper",
    ]
    assert all(
        row["images/s a core"] * row["ms an image"] == pytest.approx(1000) for row in result.rows
    )


def test_what_eight_gpus_need(result):
    rate = result.rows[-1]["images/s a core"]
    assert f"need {16 / 0.5 / rate:.1f} cores" in result.notes[-1]
    assert loader.mapper_module.read_image is loader.read_image  # put back
