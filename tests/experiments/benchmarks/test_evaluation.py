import argparse

import numpy as np
import pytest

from match_rcnn.evaluation.coco.subsets import LEVELS
from match_rcnn.experiments.benchmarks import evaluation
from match_rcnn.experiments.benchmarks.evaluation import files
from match_rcnn.experiments.benchmarks.harness import Result


@pytest.fixture(scope="module")
def world():
    return evaluation.make_world(6, 1.6, (5, 12), seed=3)


def test_the_made_up_data_is_what_was_asked_for(world):
    truth = world.truth
    assert truth.image_ids.tolist() == [1, 2, 3, 4, 5, 6]
    assert sorted(np.unique(truth.image)) == list(range(6))  # an item at least
    assert all(5 <= len(p.scores) <= 12 for p in world.predictions)
    assert all((np.diff(p.scores) <= 0).all() for p in world.predictions)
    assert (np.diff(truth.groups) >= 0).all()
    for name in LEVELS:
        assert set(truth.attributes[name]) <= {1, 2, 3}


def test_the_first_images_are_a_data_set_of_their_own(world):
    part = world.first(2)
    ids = part.truth.ids
    np.testing.assert_array_equal(ids, world.truth.ids[world.truth.image < 2])
    assert len(part.predictions) == len(part.truth.image_sizes) == 2
    assert len(part.truth.masks) == len(ids)
    assert (part.truth.labelled() <= 39).all()


def test_both_ways_give_equal_tables():
    parser = argparse.ArgumentParser()
    evaluation.add_arguments(parser)
    args = parser.parse_args(
        [
            *("--images", "12"),
            *("--reference-images", "5"),
            *("--detections", "5", "12"),
            *("--file-images", "0"),
        ]
    )
    result = evaluation.run(args)
    assert result.correct
    assert [row["images"] for row in result.rows] == [5, 5, 12]
    assert result.ratios["time"] > 0


def test_a_missing_or_wrong_table_is_seen(world):
    ours = evaluation.evaluate(world.first(2))
    theirs = evaluation.Reference(world.first(2)).tables()
    assert evaluation._difference(theirs, ours) < 1e-9
    assert evaluation._difference({**theirs, "bbox": theirs["bbox"] + 0.25}, ours) == pytest.approx(
        0.25
    )
    del ours["segm"]
    assert evaluation._difference(theirs, ours) == float("inf")


def test_from_files_both_commands_give_equal_numbers():
    pytest.importorskip("hotcoco")
    result = Result("evaluation", [])
    files.compare(result, images=8, runs=1)
    assert len(result.checks) == 3
    assert result.correct
    assert len(result.rows) == 9
    assert all(row["seconds"] > 0 and row["peak MiB"] > 1 for row in result.rows)


def test_without_hotcoco_it_is_said(monkeypatch):
    monkeypatch.setattr(files.importlib.util, "find_spec", lambda name: None)
    result = Result("evaluation", [])
    files.compare(result, images=8, runs=1)
    assert not result.rows
    assert "hotcoco" in result.notes[0]
