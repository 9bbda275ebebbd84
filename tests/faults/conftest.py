import json
import multiprocessing
import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from match_rcnn.data.conversion import convert
from match_rcnn.data.synthetic import generate

HERE = Path(__file__).parent


@dataclass
class Ended:
    """A run that is over."""

    code: int
    log: str

    @property
    def message(self):
        """The one line that says why it ended."""
        lines = [line for line in self.log.splitlines() if "(exit code " in line]
        assert len(lines) == 1, self.log
        assert "Traceback" not in self.log, self.log
        return lines[0]

    @property
    def start(self):
        """The iteration that it began with."""
        return int(re.search(r"Starting training from iteration (\d+)", self.log)[1])


@pytest.fixture(scope="session")
def forkserver(monkeypatch_session):
    """Starts processes that have torch and the project imported already."""
    monkeypatch_session.syspath_prepend(str(HERE))
    path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    monkeypatch_session.setenv("PYTHONPATH", path)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tiny_run"])
    return context


@pytest.fixture(scope="session")
def monkeypatch_session():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="session")
def tiny_datasets(tmp_path_factory):
    """A folder for DETECTRON2_DATASETS: 20 training images of 64 pixels and 2 others."""
    datasets = tmp_path_factory.mktemp("tiny_datasets")
    root = datasets / "deepfashion2"
    generate(root, 20, 2, seed=4, size=64, workers=1)  # every image has items
    for split in ("train", "validation"):
        convert(root, split, root / "annotations" / f"{split}.json", compact=True, workers=1)
    return datasets


@pytest.fixture
def run(run_tiny):
    return run_tiny


@pytest.fixture(scope="session")
def run_tiny(forkserver, tiny_datasets):
    """Run tiny_run.py in a process of its own: ``run(output, *opts, faults=..., resume=...)``."""
    import tiny_run

    def run(output, *opts, faults="", resume=False, datasets=tiny_datasets):
        log = output.with_suffix(".log")
        log.unlink(missing_ok=True)
        environment = {"DETECTRON2_DATASETS": str(datasets), "TINY_FAULTS": faults}
        arguments = {"output": str(output), "opts": opts, "resume": resume}
        process = forkserver.Process(target=tiny_run.child, args=(log, environment, arguments))
        process.start()
        process.join(300)
        if process.is_alive():
            process.kill()
            raise TimeoutError(log.read_text())
        return Ended(process.exitcode, log.read_text())

    return run


@pytest.fixture(scope="session")
def load():
    """A checkpoint of an output folder."""

    def load(folder, name="model_final"):
        return torch.load(folder / f"{name}.pth", weights_only=True)

    return load


@pytest.fixture(scope="session")
def evaluations():
    def read(folder):
        return json.loads((folder / "evaluations.json").read_text())

    return read


@pytest.fixture(scope="session")
def assert_equal():
    """Checkpoints, or parts of them, are the same bit for bit."""

    def check(a, b, where=""):
        assert type(a) is type(b), where
        if isinstance(a, dict):
            assert a.keys() == b.keys(), where
            for key in a:
                check(a[key], b[key], f"{where}/{key}")
        elif isinstance(a, list | tuple):
            assert len(a) == len(b), where
            for i, (x, y) in enumerate(zip(a, b, strict=True)):
                check(x, y, f"{where}/{i}")
        elif isinstance(a, torch.Tensor):
            assert torch.equal(a, b), where
        else:
            assert a == b, where

    return check
