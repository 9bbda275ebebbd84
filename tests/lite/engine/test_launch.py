import json
import os
import subprocess
import sys

import pytest
import torch
from torch.multiprocessing import ProcessRaisedException

from match_rcnn.lite.engine import launch
from match_rcnn.lite.utils import comm

# What every process runs. A file of its own, since spawned processes import it by name.
WORKER = '''
import atexit, json, sys, time
from pathlib import Path

import torch
from torch import distributed as dist, nn

from match_rcnn.lite.engine import SimpleTrainer, launch
from match_rcnn.lite.engine.setup import create_ddp_model
from match_rcnn.lite.utils import comm


def train(rank, world):
    """SGD on y = 3x; the processes share every batch of four."""
    torch.manual_seed(0)
    data = torch.rand(5, 4, 1).chunk(world, dim=1)[rank]
    model = nn.Linear(1, 1)
    nn.init.constant_(model.weight, 0.5)
    nn.init.constant_(model.bias, 0.0)

    class Loss(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = model

        def forward(self, x):
            return {"loss": (self.layer(x) - 3 * x).square().mean()}

    wrapped = create_ddp_model(Loss())
    trainer = SimpleTrainer(wrapped, data, torch.optim.SGD(model.parameters(), lr=0.5))
    trainer.train(0, 5)
    losses = trainer.storage.histories().get("total_loss")
    return {
        "wrapped": type(wrapped).__name__,
        "weights": [model.weight.item(), model.bias.item()],
        "losses": [v for v, _ in losses.values()] if losses else [],
    }


def work(folder, fail=False):
    rank, world = comm.get_rank(), comm.get_world_size()
    found = {
        "world": world,
        "local": comm.get_local_rank(),
        "gathered": comm.all_gather(rank),
        **train(rank, world),
    }
    Path(folder, f"{world}-{rank}.json").write_text(json.dumps(found))
    comm.synchronize()
    if fail and rank == 1:
        # Its connections close (last in, first out) well before this process ends: the error
        # that this causes in the other one must not be taken for the first.
        atexit.register(time.sleep, 1)
        atexit.register(dist.destroy_process_group)
        raise KeyError("process one gave up")
    comm.synchronize()


if __name__ == "__main__":
    launch(work, 1, args=(sys.argv[1],))
    launch(work, 1, args=(sys.argv[1],))
'''


@pytest.fixture
def worker(tmp_path, monkeypatch):
    (tmp_path / "launch_worker.py").write_text(WORKER)
    monkeypatch.syspath_prepend(tmp_path)
    import launch_worker

    yield launch_worker
    del sys.modules["launch_worker"]


def results(folder, world):
    return [json.loads((folder / f"{world}-{rank}.json").read_text()) for rank in range(world)]


def check_two_processes(folder, worker):
    """Two processes that share the batches train as one does."""
    one = worker.train(0, 1)
    first, second = results(folder, 2)
    assert [first["local"], second["local"]] == [0, 1]
    assert first["gathered"] == second["gathered"] == [0, 1]
    assert first["wrapped"] == "DistributedDataParallel"
    assert one["wrapped"] == "Loss"
    assert first["weights"] == second["weights"] == pytest.approx(one["weights"], abs=1e-6)
    # The main process has the mean over both halves of each batch.
    assert first["losses"] == pytest.approx(one["losses"], abs=1e-6)
    assert second["losses"] == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="these processes are for a CPU machine")
def test_two_spawned_processes_train_as_one_and_fail_as_one(tmp_path, worker):
    with pytest.raises(ProcessRaisedException, match="KeyError: 'process one gave up'"):
        launch(worker.work, 2, dist_url="auto", args=(str(tmp_path), True))
    check_two_processes(tmp_path, worker)


@pytest.mark.skipif(torch.cuda.is_available(), reason="these processes are for a CPU machine")
def test_processes_of_torchrun_join(tmp_path, worker):
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    processes = [
        subprocess.Popen(
            [sys.executable, worker.__file__, str(tmp_path)],
            env=os.environ
            | common
            | {"MASTER_PORT": str(port), "RANK": str(rank), "LOCAL_RANK": str(rank)}
            | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for rank in range(2)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    check_two_processes(tmp_path, worker)


def test_one_process_is_this_one():
    seen = []
    launch(lambda *args: seen.append((os.getpid(), args)), 1, args=(1, 2))
    launch(lambda *args: seen.append((os.getpid(), args)), 0)
    assert seen == [(os.getpid(), (1, 2)), (os.getpid(), ())]


def test_torchrun_with_one_process(monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    seen = []
    # The number of processes is torchrun's, not ours.
    launch(lambda: seen.append(comm.get_world_size()), 8)
    assert seen == [1]


def test_several_machines_need_an_address():
    with pytest.raises(ValueError, match="tcp://host:port"):
        launch(print, 1, num_machines=2, dist_url="auto")


def test_more_processes_than_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="2 processes were asked for, but there are 1 GPUs"):
        launch(print, 2)
