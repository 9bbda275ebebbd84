"""The SLURM script with stand-ins for SLURM's programs and for the training."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from match_rcnn.d2 import default_argument_parser

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tools" / "train.sbatch"

# Runs the command once for each machine, at the same time, and ends with the highest code.
SRUN = """#!/bin/bash
for SLURM_NODEID in $(seq 0 $((SLURM_NNODES - 1))); do
    export SLURM_NODEID
    "$@" &
    started="${started:-} $!"
done
code=0
for process in $started; do
    wait "$process" || { status=$?; [ $status -gt $code ] && code=$status; }
done
exit $code
"""
SCONTROL = """#!/bin/bash
if [ "$1" = show ]; then printf 'gpu07\\ngpu08\\n'; else echo "$@" > "$NOTES/scontrol"; fi
"""
PYTHON = """#!/usr/bin/env python3
import json, os, sys
path = os.path.join(os.environ["NOTES"], "machine" + os.environ["SLURM_NODEID"])
with open(path, "w") as file:
    json.dump(sys.argv[1:], file)
sys.exit(int(os.environ["ENDS_WITH"]))
"""


@pytest.fixture
def submit(tmp_path):
    """Run the script as a job; returns the finished process and the folder of notes."""
    programs, notes = tmp_path / "bin", tmp_path / "notes"
    programs.mkdir()
    notes.mkdir()
    for name, text in {"srun": SRUN, "scontrol": SCONTROL, "python": PYTHON}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    job = {"SLURM_JOB_ID": "41007", "SLURM_JOB_NODELIST": "gpu[07-08]", "SLURM_NNODES": "2"}
    job |= {"SLURM_GPUS_ON_NODE": "8", "NOTES": str(notes)}

    def run(*arguments, code=0):
        environment = {k: v for k, v in os.environ.items() if k != "PYTHON"}
        environment["PATH"] = f"{programs}:{os.environ['PATH']}"
        return subprocess.run(
            ["bash", str(SCRIPT), *arguments],
            env={**environment, **job, "ENDS_WITH": str(code)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run, notes


def test_each_machine_gets_its_number_and_all_meet_at_the_first(submit):
    run, notes = submit
    done = run("configs/match_rcnn_R_50_FPN_1x.yaml", "output/a run", "SEED", "3")
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in notes.iterdir()) == ["machine0", "machine1"]
    for rank in (0, 1):
        tool, *arguments = json.loads((notes / f"machine{rank}").read_text())
        args = default_argument_parser().parse_args(arguments)
        assert tool == "tools/train_net.py"
        assert (args.num_machines, args.num_gpus, args.machine_rank) == (2, 8, rank)
        assert args.dist_url == "tcp://gpu07:21007"
        assert args.resume
        assert args.config_file == "configs/match_rcnn_R_50_FPN_1x.yaml"
        assert args.opts == ["OUTPUT_DIR", "output/a run", "SEED", "3"]


@pytest.mark.parametrize(("code", "queued"), [(75, True), (0, False), (70, False), (1, False)])
def test_only_a_preempted_job_goes_back_into_the_queue(submit, code, queued):
    run, notes = submit
    assert run("config.yaml", "output", code=code).returncode == code
    noted = notes / "scontrol"
    assert noted.exists() == queued
    if queued:
        assert noted.read_text() == "requeue 41007\n"


def test_missing_arguments_are_told(submit):
    done = submit[0]("config.yaml")
    assert (done.returncode, "usage: sbatch" in done.stderr) == (2, True)


def test_directives_are_bare_words():
    """SLURM reads them up to the first line that is a command."""
    head = SCRIPT.read_text().split("\nset -u")[0]
    wanted = ("--ntasks-per-node=1", "--requeue", "--signal=USR1@180", "--open-mode=append")
    assert all(f"\n#SBATCH {one}" in head for one in wanted)
