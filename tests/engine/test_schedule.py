"""Schedules by hand. N = 191,961 images in batches of 16 are 11,997.5625 iterations an epoch."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import DatasetCatalog
from match_rcnn.data.loader import count_training_images
from match_rcnn.engine.schedule import (
    epochs_to_iterations,
    iterations,
    let_overrides_decide,
    plan_schedule,
    scale_to_processes,
)

CONFIGS = Path(__file__).parents[2] / "configs"
IMAGES = 191_961


def load(name):
    cfg = get_match_rcnn_cfg()
    cfg.merge_from_file(str(CONFIGS / f"{name}.yaml"))
    return cfg


@pytest.mark.parametrize(
    ("epochs", "images", "batch", "expected"),
    [
        (1, IMAGES, 16, 11_998),  # 11,997.5625
        (8, IMAGES, 16, 95_981),  # 95,980.5
        (11, IMAGES, 16, 131_974),  # 131,973.1875
        (12, IMAGES, 16, 143_971),  # 143,970.75
        (17.28, IMAGES, 16, 207_318),  # 207,317.88
        (2, 32, 16, 4),  # nothing left over
        (1, 33, 16, 3),  # the last image needs another batch
        (0.5, 20, 2, 5),
        (0.07, 100, 1, 7),  # as decimals: in floats 0.07 * 100 is 7.000000000000001
        (1, 1, 16, 1),  # fewer images than a batch
    ],
)
def test_iterations_of_epochs(epochs, images, batch, expected):
    assert iterations(epochs, images, batch) == expected


@settings(deadline=None)
@given(st.integers(1, 50), st.integers(1, 10**6), st.integers(1, 64))
def test_an_epoch_ends_with_the_first_batch_by_which_its_images_were_drawn(epochs, images, batch):
    found = iterations(epochs, images, batch)
    assert (found - 1) * batch < epochs * images <= found * batch


@pytest.mark.parametrize("wrong", [0, -1, "12", True, float("nan"), float("inf")])
def test_epochs_must_be_a_number_above_zero(wrong):
    with pytest.raises(ValueError, match=r"SOLVER\.EPOCHS must be a number of epochs above 0"):
        iterations(wrong, 10, 2, "SOLVER.EPOCHS")


# By hand from 11,997.5625: (MAX_ITER, STEPS).
PAPER = {
    "match_rcnn_R_50_FPN_1x": (143_971, (95_981, 131_974)),
    "mask_rcnn_R_50_FPN_2x": (287_942, (191_961, 263_947)),  # 287,941.5; 191,961; 263,946.375
    "landmark_rcnn_R_50_FPN_1.44x": (207_318, (138_212, 190_042)),  # .88; 138,211.92; 190,041.39
}


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_schedules(name, caplog):
    with caplog.at_level("INFO", logger="match_rcnn"):
        cfg = epochs_to_iterations(load(name), IMAGES)
    assert PAPER[name] == (cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS)
    assert (cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR) == (16, 0.02)
    assert cfg.SOLVER.WARMUP_ITERS == 1000
    assert (cfg.SOLVER.CHECKPOINT_PERIOD, cfg.TEST.EVAL_PERIOD) == (5_999, 23_996)
    (line,) = caplog.messages
    assert "191961 training images in batches of 16 are 11997.6 an epoch" in line
    assert f"end after {cfg.SOLVER.MAX_ITER} (epoch {cfg.SOLVER.EPOCHS})" in line


# processes: batch, rate, warm-up (1000 * 8 / processes), end (12 * IMAGES / batch, rounded up)
SCALED = {
    1: (2, 0.0025, 8000, 1_151_766),
    4: (8, 0.01, 2000, 287_942),  # 287,941.5
    8: (16, 0.02, 1000, 143_971),
    16: (32, 0.04, 500, 71_986),  # 71,985.375
}


@pytest.mark.parametrize("processes", SCALED)
def test_other_numbers_of_processes(processes):
    cfg = load("match_rcnn_R_50_FPN_1x")
    cfg.freeze()
    scaled = epochs_to_iterations(scale_to_processes(cfg, processes), IMAGES)
    solver = scaled.SOLVER
    found = (solver.IMS_PER_BATCH, solver.BASE_LR, solver.WARMUP_ITERS, solver.MAX_ITER)
    assert found == SCALED[processes]
    assert processes == solver.REFERENCE_WORLD_SIZE
    assert scaled.is_frozen()
    assert cfg.SOLVER.IMS_PER_BATCH == 16, "the given config must stay as it is"


def test_iterations_scale_as_the_host_scales_them():
    """20 iterations of 4 images by 2 processes: 40 of 2 images by one."""
    cfg = get_match_rcnn_cfg()
    solver = {"REFERENCE_WORLD_SIZE": 2, "IMS_PER_BATCH": 4, "MAX_ITER": 20, "STEPS": (10, 15)}
    for key, value in (solver | {"WARMUP_ITERS": 5, "BASE_LR": 0.01}).items():
        cfg.SOLVER[key] = value
    scaled = plan_schedule(cfg, 1).SOLVER
    found = (scaled.IMS_PER_BATCH, scaled.MAX_ITER, scaled.STEPS, scaled.WARMUP_ITERS)
    assert found == (2, 40, (20, 30), 10)
    assert scaled.BASE_LR == 0.005


def test_a_batch_that_the_reference_cannot_share_is_refused_with_the_way_out():
    cfg = load("match_rcnn_R_50_FPN_1x")
    cfg.SOLVER.IMS_PER_BATCH = 2
    with pytest.raises(ValueError, match=r"REFERENCE_WORLD_SIZE.*meant for 8.*WORLD_SIZE 0"):
        scale_to_processes(cfg, 1)


def test_without_epochs_iterations_stay_and_no_data_is_read():
    cfg = get_match_rcnn_cfg()
    cfg.DATASETS.TRAIN = ("nobody registered this",)
    assert plan_schedule(cfg, 1) is cfg


def test_all_keys_in_epochs():
    cfg = get_match_rcnn_cfg()
    solver = {"EPOCHS": 10, "EPOCH_STEPS": [4, 8], "WARMUP_EPOCHS": 0.5, "CHECKPOINT_EPOCHS": 2}
    for key, value in (solver | {"IMS_PER_BATCH": 4}).items():
        cfg.SOLVER[key] = value
    cfg.TEST.EVAL_EPOCHS = 3
    planned = epochs_to_iterations(cfg, 10)  # 2.5 iterations an epoch
    found = {k: planned.SOLVER[k] for k in ("MAX_ITER", "STEPS", "WARMUP_ITERS")}
    assert found == {"MAX_ITER": 25, "STEPS": (10, 20), "WARMUP_ITERS": 2}
    assert (planned.SOLVER.CHECKPOINT_PERIOD, planned.TEST.EVAL_PERIOD) == (5, 8)
    assert epochs_to_iterations(planned, 10) == planned, "planning twice"


def test_steps_must_grow():
    cfg = get_match_rcnn_cfg()
    cfg.SOLVER.EPOCH_STEPS = (11, 8)
    with pytest.raises(ValueError, match=r"EPOCH_STEPS must grow"):
        epochs_to_iterations(cfg, 10)


@pytest.mark.parametrize(
    ("overrides", "epochs", "steps"),
    [
        (["SOLVER.MAX_ITER", "100"], None, (8, 11)),
        (["SOLVER.STEPS", "(5,)"], 12, ()),
        (["SOLVER.MAX_ITER", "100", "SOLVER.EPOCHS", "3"], 3, (8, 11)),  # both: epochs decide
        (["OUTPUT_DIR", "SOLVER.MAX_ITER"], 12, (8, 11)),  # a value, not a key
    ],
)
def test_iterations_on_the_command_line_win_over_the_files_epochs(overrides, epochs, steps):
    cfg = load("Base-RCNN-FPN")
    cfg.merge_from_list(overrides)
    let_overrides_decide(cfg, overrides)
    assert (epochs, steps) == (cfg.SOLVER.EPOCHS, cfg.SOLVER.EPOCH_STEPS)


@pytest.fixture
def data_set():
    def image(crowds):
        return {"annotations": [{"iscrowd": crowd, "category_id": 0} for crowd in crowds]}

    name = "schedule_test"
    reads = []

    def read():
        reads.append(1)
        return [image([0]), image([0, 1]), image([1]), image([]), image([0])]

    DatasetCatalog.register(name, read)
    yield name, reads
    DatasetCatalog.remove(name)


@pytest.mark.parametrize(("filtered", "images", "end"), [(True, 3, 6), (False, 5, 10)])
def test_images_are_counted_as_the_loader_filters_them(data_set, filtered, images, end):
    name, reads = data_set
    cfg = get_match_rcnn_cfg()
    cfg.DATASETS.TRAIN, cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = (name,), filtered
    cfg.SOLVER.EPOCHS, cfg.SOLVER.IMS_PER_BATCH = 4, 2
    assert count_training_images(cfg) == images
    assert end == plan_schedule(cfg, 1).SOLVER.MAX_ITER
    assert len(reads) == 1, "counted data wait for the loader"


def test_a_trained_runs_config_states_the_iterations(generated_datasets, tiny_overrides, run_tool):
    """20 images in batches of 2, a third of an epoch: 10 / 3 iterations, rounded up to 4."""
    output = generated_datasets / "run"
    done = run_tool(
        *("train_net", "--config-file", CONFIGS / "quickstart.yaml", "OUTPUT_DIR", output),
        *(*tiny_overrides, "SOLVER.EPOCHS", "0.34", "DATASETS.TEST", "()"),
        *("DATALOADER.NUM_WORKERS", 0),
        DETECTRON2_DATASETS=str(generated_datasets),
    )
    assert "20 training images in batches of 2 are 10.0 an epoch" in done.stdout + done.stderr
    saved = yaml.safe_load((output / "config.yaml").read_text())
    assert (saved["SOLVER"]["MAX_ITER"], saved["SOLVER"]["EPOCHS"]) == (4, 0.34)
    assert (output / "metrics.json").is_file()
