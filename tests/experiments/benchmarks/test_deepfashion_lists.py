"""The benchmark of DeepFashion's lists runs in small and compares what it says it compares."""

import argparse
import functools

import numpy as np

from match_rcnn.experiments.benchmarks import deepfashion_lists


def arguments(*words):
    parser = argparse.ArgumentParser()
    deepfashion_lists.add_arguments(parser)
    return parser.parse_args(words)


def test_a_small_run(tmp_path, monkeypatch):
    once = functools.cache(deepfashion_lists._open)  # a process of its own, which takes seconds
    monkeypatch.setattr(deepfashion_lists, "_open", once)
    words = ("--images", "40", "--attributes", "7", "--reference-images", "30")
    result = deepfashion_lists.run(arguments(*words, "--folder", str(tmp_path)))
    assert result.checks == {"records equal the lists, 30 images": True}
    assert [row["what"] for row in result.rows] == [
        "lists, line by line (30 images)",
        "lists, checked (40 images)",
        "cache (40 images)",
    ]
    assert "the cache has" in result.table()
    assert not list(tmp_path.iterdir())


def test_a_difference_is_seen(tmp_path):
    deepfashion_lists._write(tmp_path, 12, 5)
    plain = deepfashion_lists._plain(tmp_path, 12)
    assert deepfashion_lists._agree(tmp_path, [dict(entry) for entry in plain])
    plain[3]["attributes"] = np.roll(plain[3]["attributes"], 1) + np.int8(1)
    assert not deepfashion_lists._agree(tmp_path, plain)
