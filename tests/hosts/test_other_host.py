"""Both hosts on one machine, in a process each: single precision, and each other's checkpoints.

``MATCH_RCNN_OTHER_PYTHON`` names an interpreter with the other host: one where detectron2 imports
if this process runs on lite, and the other way round.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch

from match_rcnn.d2 import HOST

ROOT = Path(__file__).parents[2]
OTHER = "lite" if HOST == "detectron2" else "detectron2"
PYTHON = os.environ.get("MATCH_RCNN_OTHER_PYTHON")

pytestmark = pytest.mark.skipif(
    PYTHON is None,
    reason=f"MATCH_RCNN_OTHER_PYTHON names no interpreter that runs on {OTHER}",
)


@pytest.fixture(scope="module")
def run_other():
    def run(*arguments, **environment):
        done = subprocess.run(
            [PYTHON, *map(str, arguments)],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "MATCH_RCNN_HOST": OTHER,
                "OMP_NUM_THREADS": "1",
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def test_single_precision(observations, run_other, tmp_path):
    """Same machine, same kernels, same order of sums: decisions are equal here too."""
    run_other(Path(__file__).with_name("host_observations.py"), tmp_path / "other.json", "float32")
    other = json.loads((tmp_path / "other.json").read_text())
    assert other.pop("host").split()[0] == OTHER
    for subject, found in observations.observe(torch.float32).items():
        assert found["exact"] == other[subject]["exact"], subject
        observations.assert_close(found["close"], other[subject]["close"], subject)


def arguments(output, tiny_overrides, iterations, *flags, evaluate=False):
    schedule = ("SOLVER.MAX_ITER", iterations, "SOLVER.CHECKPOINT_PERIOD", 2, "OUTPUT_DIR", output)
    tests = () if evaluate else ("DATASETS.TEST", "()")
    settings = (*tiny_overrides, *schedule, "SOLVER.LOG_PERIOD", 1, "DATALOADER.NUM_WORKERS", 0)
    return ("--config-file", ROOT / "configs/quickstart.yaml", *flags, *settings, *tests)


def test_a_checkpoint_goes_on_under_the_other_host(
    run_tool, run_other, generated_datasets, tiny_overrides, tmp_path
):
    """Two iterations here, then two here and two there: the same weights; both are evaluated."""
    data = {"DETECTRON2_DATASETS": str(generated_datasets)}
    here, shared = tmp_path / "here", tmp_path / "shared"
    # The schedule depends on the last iteration: the first half is the whole run's, cut off.
    run_tool("train_net", *arguments(here, tiny_overrides, 4), **data)
    shared.mkdir()
    (shared / "model_0000001.pth").write_bytes((here / "model_0000001.pth").read_bytes())
    for folder in (here, shared):
        (folder / "last_checkpoint").write_text("model_0000001.pth")
    run_tool("train_net", *arguments(here, tiny_overrides, 4, "--resume"), **data)

    tool = ROOT / "tools" / "train_net.py"
    log = run_other(tool, *arguments(shared, tiny_overrides, 4, "--resume"), **data)
    assert f"host: {OTHER}" in log
    assert "Starting training from iteration 2" in log
    one, other = (
        torch.load(folder / "model_final.pth", weights_only=True) for folder in (here, shared)
    )
    assert one["iteration"] == other["iteration"] == 3
    assert one["model"].keys() == other["model"].keys()
    assert all(torch.equal(one["model"][name], other["model"][name]) for name in one["model"])
    one, other = (found["trainer"]["_trainer"]["optimizer"]["state"] for found in (one, other))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[i]["exp_avg"], other[i]["exp_avg"]) for i in one)

    flags = ("--eval-only", "--resume")
    log = run_other(tool, *arguments(shared, tiny_overrides, 4, *flags, evaluate=True), **data)
    assert "AP" in log
    run_tool("train_net", *arguments(shared, tiny_overrides, 4, *flags, evaluate=True), **data)
