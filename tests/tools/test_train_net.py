"""Training as a user runs it: interrupted and resumed, and in two processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from match_rcnn.d2 import HOST

ROOT = Path(__file__).parent.parent.parent
CONFIG = ROOT / "configs" / "quickstart.yaml"


@pytest.fixture
def train(generated_datasets, tiny_overrides):
    """Start tools/train_net.py on the generated data; returns the running process."""

    def start(output, *opts, flags=()):
        command = [
            *(sys.executable, str(ROOT / "tools" / "train_net.py"), "--config-file", str(CONFIG)),
            *(*flags, "OUTPUT_DIR", str(output), *tiny_overrides, *map(str, opts)),
        ]
        environment = {**os.environ, "DETECTRON2_DATASETS": str(generated_datasets)}
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    return start


def finish(process):
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    return output


def weights(folder):
    return torch.load(folder / "model_final.pth", weights_only=True)["model"]


def losses(folder):
    lines = (folder / "metrics.json").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return {r["iteration"]: r["total_loss"] for r in records if "total_loss" in r}


def test_killed_and_resumed_training_ends_in_the_uninterrupted_weights(train, tmp_path):
    schedule = ("SOLVER.MAX_ITER", 8, "SOLVER.CHECKPOINT_PERIOD", 3, "DATASETS.TEST", "()")
    finish(train(tmp_path / "whole", *schedule))

    process = train(tmp_path / "killed", *schedule)
    checkpoint = tmp_path / "killed" / "last_checkpoint"
    deadline = time.monotonic() + 100
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "killed" / "model_final.pth").exists(), "it ended before the kill"

    output = finish(train(tmp_path / "killed", *schedule, flags=("--resume",)))
    assert "Starting training from iteration 0" not in output
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.skipif(HOST == "detectron2", reason="it trains in several processes on GPUs only")
def test_two_processes_follow_the_loss_curve_of_one_with_twice_the_batch(train, tmp_path):
    """The same global batches, so the same mean gradients but for effects that are made small here:
    proposals are sampled by each process (sample sizes that take all), RoIs are paired within a
    process (one pair a batch), and box, mask and landmark losses are normalised by the counts of a
    process, not of the whole batch."""
    common = [
        *("SOLVER.MAX_ITER", 6, "SOLVER.IMS_PER_BATCH", 4, "SOLVER.LOG_PERIOD", 1),
        *("MODEL.RESNETS.NORM", "GN", "DATASETS.TEST", "()", "DATALOADER.PAIR_SHARE", 0.5),
        *("MODEL.RPN.BATCH_SIZE_PER_IMAGE", 100_000, "MODEL.RPN.POSITIVE_FRACTION", 1.0),
        *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 1000, "MODEL.ROI_HEADS.POSITIVE_FRACTION", 1.0),
    ]
    finish(train(tmp_path / "one", *common))
    finish(train(tmp_path / "two", *common, flags=("--num-gpus", "2")))
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert list(one) == list(two) == list(range(6))
    assert all(abs(one[i] - two[i]) < 0.05 * one[i] for i in one), (one, two)


def test_evaluation_scores_all_tasks_and_writes_the_official_files(train, tmp_path):
    finish(train(tmp_path, "SOLVER.MAX_ITER", 2))
    output = finish(train(tmp_path, flags=("--eval-only", "--resume")))
    assert "host: " in output
    folder = tmp_path / "inference" / "deepfashion2_validation"
    for task in ("bbox", "segm", "keypoints", "retrieval"):
        assert isinstance(json.loads((folder / f"{task}_results.json").read_text()), list)
    record = json.loads((tmp_path / "metrics.json").read_text().splitlines()[-1])
    expected = {"bbox/AP", "segm/AP50", "keypoints/AP", "keypoints_visible/AP50"}
    expected |= {"retrieval/top1", "retrieval/top20", "retrieval_gt_boxes/top1"}
    assert expected <= record.keys()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--config-file is needed"),
        (["--config-file", "nowhere.yaml"], "there is no config file nowhere.yaml"),
    ],
)
def test_a_run_without_a_config_takes_one_line(run_tool, flags, message):
    done = run_tool("train_net", *flags, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
