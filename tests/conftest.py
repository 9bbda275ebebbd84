import logging
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import build_model, setup_logger
from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.inference.model_file import write_model

# Two cores run two pytest workers: one thread each, and sums come out in one order.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _loggers_as_before():
    """Setting up a logger would keep its messages from the tests that come after."""
    before = [
        (logger, list(logger.handlers), logger.propagate, logger.level)
        for logger in map(logging.getLogger, ("fvcore", "match_rcnn", "match_rcnn.lite"))
    ]
    yield
    for logger, handlers, propagate, level in before:
        logger.handlers[:] = handlers
        logger.propagate = propagate
        logger.setLevel(level)
    if hasattr(setup_logger, "cache_clear"):  # or what was set up once would not be again
        setup_logger.cache_clear()


@pytest.fixture(scope="session")
def run_tool():
    """Run tools/NAME.py with arguments as a user would; returns the finished process."""

    def run(name, *arguments, check=True, **environment):
        done = subprocess.run(
            [sys.executable, str(ROOT / "tools" / f"{name}.py"), *map(str, arguments)],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def assert_gradients_close():
    """``check(found, expected)`` of gradients by name, each on the scale of its own largest value
    and, for what rounding leaves, of the largest of all: where the true one is 0 (a bias in front
    of batch norm or softmax), another number comes out on every processor."""

    def check(found, expected, relative=1e-5, rounding=1e-6):
        assert found.keys() == expected.keys()
        sizes = {k: float(v.abs().max()) if v.numel() else 0.0 for k, v in expected.items()}
        for name, gradient in expected.items():
            assert found[name].shape == gradient.shape, name
            allowed = relative * sizes[name] + rounding * max(sizes.values())
            assert ((found[name] - gradient).abs() <= allowed).all(), name

    return check


@pytest.fixture(scope="session")
def generated_datasets(tmp_path_factory, run_tool):
    """A folder for DETECTRON2_DATASETS: 20 + 10 generated images of 128 pixels, converted; with
    this seed every image has items."""
    datasets = tmp_path_factory.mktemp("datasets")
    root = datasets / "deepfashion2"
    flags = ("--train", 20, "--validation", 10, "--seed", 4, "--size", 128, "--workers", 1)
    run_tool("make_synthetic_df2", "--output", root, *flags)
    for split in ("train", "validation"):
        output = root / "annotations" / f"{split}.json"
        run_tool("convert_df2", "--root", root, "--split", split, "--output", output, "--compact")
    return datasets


@pytest.fixture(scope="session")
def tiny_overrides():
    """KEY VALUE pairs that make configs/quickstart.yaml take a second a step on one core."""
    return [
        *("INPUT.MIN_SIZE_TRAIN", "(96,)", "INPUT.MAX_SIZE_TRAIN", "128"),
        *("INPUT.MIN_SIZE_TEST", "96", "INPUT.MAX_SIZE_TEST", "128"),
        *("MODEL.FPN.OUT_CHANNELS", "32", "MODEL.ROI_BOX_HEAD.FC_DIM", "64"),
        *("MODEL.ROI_MASK_HEAD.CONV_DIM", "16", "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", "(32,)"),
        *("MODEL.RPN.POST_NMS_TOPK_TRAIN", "50", "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "32"),
        *("SOLVER.IMS_PER_BATCH", "2", "SOLVER.WARMUP_ITERS", "2"),
    ]


@pytest.fixture(scope="session")
def model_file(tmp_path_factory, tiny_overrides):
    """A model file of random weights that finds five garments in any photo."""
    cfg = get_match_rcnn_cfg()
    cfg.merge_from_file(str(ROOT / "configs/quickstart.yaml"))
    cfg.merge_from_list([*tiny_overrides, "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""])
    cfg.merge_from_list(["TEST.DETECTIONS_PER_IMAGE", 5, "TEST.AGNOSTIC_NMS_THRESH", 1.0])
    cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST = 1.0
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("model") / "random.safetensors"
    write_model(file, cfg, build_model(cfg).state_dict(), DEEPFASHION2)
    return file


@pytest.fixture(scope="session")
def write_photos():
    """Write pictures of noise: ``write(folder, {name: (height, width)})``."""

    def write(folder, sizes, seed=0):
        rng = np.random.default_rng(seed)
        for name, size in sizes.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            noise = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            cv2.imwrite(str(folder / name), cv2.GaussianBlur(noise, (9, 9), 0))
        return folder

    return write
