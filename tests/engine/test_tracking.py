"""Weights & Biases without it: a module of the same name that notes what it is told."""

import json
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
import yaml

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import EventStorage
from match_rcnn.engine.tracking import RUN_FILE_NAME, WandbWriter, build_wandb_writer


class Run:
    def __init__(self, arguments):
        self.arguments = arguments
        self.rows, self.metrics, self.finished = [], [], False

    def define_metric(self, name, step_metric=None):
        self.metrics.append((name, step_metric))

    def log(self, row):
        assert not self.finished
        self.rows.append(row)

    def finish(self):
        self.finished = True


@pytest.fixture
def runs(monkeypatch):
    """The runs that were started."""
    started = []
    module = ModuleType("wandb")

    def init(**arguments):
        started.append(Run(arguments))
        return started[-1]

    module.init, module.Image = init, lambda pixels: ("image", pixels)
    monkeypatch.setitem(sys.modules, "wandb", module)
    return started


@pytest.fixture
def make_writer(tmp_path):
    def make(resumed=False):
        return WandbWriter(
            "shop", "first", tmp_path, config={"SEED": 1}, resumed=lambda: resumed, window_size=3
        )

    return make


def test_each_scalar_goes_once_by_its_iteration(runs, make_writer):
    writer = make_writer()
    with EventStorage(5) as storage:
        storage.put_scalar("loss", 2.0)
        storage.put_scalar("lr", 0.5, smoothing_hint=False)
        writer.write()
        storage.iter = 6
        storage.put_scalar("loss", 4.0)
        writer.write()
        writer.write()
        writer.close()
    (run,) = runs
    # The loss of iteration 6 is the median of 2 and 4.
    assert run.rows == [
        {"loss": 2.0, "lr": 0.5, "iteration": 5},
        {"loss": 3.0, "iteration": 6},
    ]
    assert run.metrics == [("iteration", None), ("*", "iteration")]
    assert run.finished


def test_pictures_become_images_of_height_width_and_channels(runs, make_writer):
    pixels = torch.arange(24, dtype=torch.uint8).reshape(3, 2, 4)
    with EventStorage(7) as storage:
        storage.put_image("predictions/1", pixels)
        make_writer().write()
    (row,) = runs[0].rows
    kind, image = row["predictions/1"]
    assert (kind, image.shape, row["iteration"]) == ("image", (2, 4, 3), 7)
    assert np.array_equal(image[1, 3], pixels[:, 1, 3])


def test_nothing_is_started_before_there_is_something_to_say(runs, make_writer, tmp_path):
    make_writer().close()
    assert runs == []
    assert list(tmp_path.iterdir()) == []


def test_a_resumed_training_goes_on_with_its_run(runs, make_writer, tmp_path):
    for resumed in (False, True, False):
        with EventStorage():
            make_writer(resumed).write()
    first, same, new = (run.arguments["id"] for run in runs)
    assert first == same != new
    assert json.loads((tmp_path / RUN_FILE_NAME).read_text())["id"] == new
    assert all(run.arguments["resume"] == "allow" for run in runs)


def test_resumed_without_a_run_begins_one(runs, make_writer):
    """wandb was turned on only now."""
    with EventStorage():
        make_writer(resumed=True).write()
    assert len(runs[0].arguments["id"]) == 8


def test_the_config_names_the_run_and_is_shown(runs, tmp_path):
    cfg = get_match_rcnn_cfg()
    cfg.OUTPUT_DIR = str(tmp_path / "tops")
    with EventStorage():
        build_wandb_writer(cfg, lambda: False).write()
    arguments = runs[0].arguments
    assert (arguments["project"], arguments["name"]) == ("match_rcnn", "tops")
    assert arguments["config"] == yaml.safe_load(cfg.dump())


def test_without_wandb_the_message_says_how_to_get_it(monkeypatch, make_writer):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match=r"pip install 'match_rcnn\[wandb\]'.*ENABLED False"):
        make_writer()
