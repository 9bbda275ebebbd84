import argparse

import pytest

from match_rcnn.experiments.benchmarks import gallery


def test_a_small_run_has_all_figures(tmp_path):
    pytest.importorskip("faiss")
    parser = argparse.ArgumentParser()
    gallery.add_arguments(parser)
    flags = ["--items", "2000", "--dim", "16", "--queries", "20", "--folder", str(tmp_path)]
    result = gallery.run(parser.parse_args([*flags, "--kinds", "ivf", "flat"]))
    assert result.correct
    assert [row["search"].split(",")[0] for row in result.rows] == ["exact"] * 2 + [
        *["ivf"] * 3,
        *["flat"] * 3,
    ]
    assert all(0.9 <= row["recall"] <= 1 and row["ms a search"] > 0 for row in result.rows)
    assert list(result.ratios) == ["exact in memory / index"]
    assert not list(tmp_path.iterdir())
