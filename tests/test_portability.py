"""Importing, predicting, reading a gallery and evaluating need nothing that only Unix has."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What other packages import at once is theirs; then this system becomes one without.
PROGRAM = """
import os, signal, sys
import cv2, fvcore.nn, iopath.common.file_io, lance, pycocotools.mask, torch, torchvision, tqdm
for name in [n for n in dir(signal) if n in ("SIGUSR1", "SIGUSR2", "SIGHUP", "SIGKILL")]:
    delattr(signal, name)
for name in ("fork", "sched_getaffinity", "mkfifo", "getuid", "geteuid"):
    delattr(os, name)
for name in [n for n in sys.modules if n.startswith("match_rcnn")]:
    del sys.modules[name]
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
"""
PREDICTION = """
import numpy as np
from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.predictor import MatchRCNNPredictor
cfg = get_match_rcnn_cfg()
cfg.merge_from_file("configs/quickstart.yaml")
cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", ""
for garment in MatchRCNNPredictor(cfg, 0.0)(np.full((60, 80, 3), 100, np.uint8)):
    assert garment.embedding is not None
"""

MODULES = (
    "match_rcnn.predictor",
    "match_rcnn.retrieval.gallery.gallery",
    "match_rcnn.catalogue.cluster",
    "match_rcnn.catalogue.query",
    "match_rcnn.evaluation",
    "match_rcnn.evaluation.submission",
    "match_rcnn.engine",
)


@pytest.mark.parametrize("module", MODULES)
def test_imports_without_what_only_unix_has(module):
    run(f"import {module}")


def test_predicts_without_what_only_unix_has():
    run(PREDICTION)


def run(program):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + program], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr[-2000:]
