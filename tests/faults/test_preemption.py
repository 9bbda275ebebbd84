"""SIGTERM and SIGUSR1 end a run after its step, with a checkpoint and exit code 75."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from match_rcnn.d2 import HOST

PREEMPTED = 75
OPTS = ("SOLVER.CHECKPOINT_PERIOD", 4, "TEST.EVAL_PERIOD", 5, "DATALOADER.NUM_WORKERS", 1)
PROGRAM = Path(__file__).with_name("tiny_run.py")


@pytest.fixture(scope="module")
def whole(run_tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert run_tiny(folder, *OPTS).code == 0
    return folder


@pytest.mark.parametrize(
    ("faults", "name", "last"),
    [
        pytest.param("sigterm=2", "SIGTERM", 2, id="SIGTERM in a step"),
        pytest.param("sigusr1=5", "SIGUSR1", 5, id="SIGUSR1 in a step"),
        pytest.param("sigterm=4", "SIGTERM", 4, id="in a step before an evaluation"),
        pytest.param("sigterm=9", "SIGTERM", 9, id="in the last step"),
        pytest.param("sigterm_in_evaluation=4", "SIGTERM", 4, id="in an evaluation"),
        pytest.param("sigterm_in_evaluation=9", "SIGTERM", 9, id="in the last evaluation"),
    ],
)
def test_nothing_is_lost(run, whole, load, evaluations, assert_equal, tmp_path, faults, name, last):
    folder = tmp_path / "run"
    ended = run(folder, *OPTS, faults=faults)
    assert ended.code == PREEMPTED, ended.log
    assert name in ended.message
    assert "--resume" in ended.message
    newest = (folder / "last_checkpoint").read_text().removesuffix(".pth")
    assert load(folder, newest)["iteration"] == last
    resumed = run(folder, *OPTS, resume=True)
    assert (resumed.code, resumed.start) == (0, last + 1), resumed.log
    assert_equal(load(folder), load(whole))
    assert evaluations(folder) == evaluations(whole)


def start(output, datasets, *opts, faults="", num_gpus=1):
    arguments = {"output": str(output), "opts": opts, "num_gpus": num_gpus}
    environment = {"DETECTRON2_DATASETS": str(datasets), "TINY_FAULTS": faults}
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), json.dumps(arguments)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


two_processes = pytest.mark.skipif(
    HOST == "detectron2", reason="detectron2 trains in several processes on GPUs only"
)


@two_processes
@pytest.mark.slow
def test_all_processes_of_a_run_end_after_the_same_step(tiny_datasets, load, tmp_path):
    """The one that was started gets the signal; both that it started end."""
    folder = tmp_path / "run"
    process = start(folder, tiny_datasets, "SOLVER.MAX_ITER", 100_000, num_gpus=2)
    deadline = time.monotonic() + 120
    while not (folder / "last_checkpoint").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    log, _ = process.communicate(timeout=120)
    assert process.returncode == PREEMPTED, log
    assert "Traceback" not in log
    logs = [(folder / name).read_text() for name in ("log.txt", "log.txt.rank1")]
    ends = [re.search(r"ended after iteration (\d+)", text)[1] for text in logs]
    assert ends[0] == ends[1]
    newest = (folder / "last_checkpoint").read_text().removesuffix(".pth")
    assert load(folder, newest)["iteration"] == int(ends[0])


@two_processes
@pytest.mark.slow
def test_a_fault_of_one_process_ends_all_with_one_message(tiny_datasets, tmp_path):
    """The files that are named are those of the process whose loss it was."""
    folder = tmp_path / "run"
    process = start(folder, tiny_datasets, faults="nan_loss=4 rank=1", num_gpus=2)
    log, _ = process.communicate(timeout=120)
    assert process.returncode == 70, log
    assert "Traceback" not in log
    assert "loss_size = nan at iteration 4 for " in log
    named = re.findall(r"train/image/\d+\.jpg", log)
    assert len(set(named)) == 2  # of the four images of the batch
