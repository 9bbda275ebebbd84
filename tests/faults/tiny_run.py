"""A run of tools/train_net.py that takes less than a second: our trainer, loader, mapper and hooks
around a model of some hundred weights, with faults put where a test wants them.

Faults are ``name=value`` strings; ``at`` counts iterations from 0.
"""

import argparse
import contextlib
import errno
import json
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import torch
from torch import nn

from match_rcnn.d2 import HOST, comm
from match_rcnn.engine import checkpoints, trainer
from match_rcnn.engine import run as run_module

if HOST == "lite":
    from match_rcnn.lite.modeling import META_ARCH_REGISTRY
else:
    from detectron2.modeling import META_ARCH_REGISTRY


@META_ARCH_REGISTRY.register()
class TinyModel(nn.Module):
    """Two losses of a convolution, with chance (dropout) and running statistics (BatchNorm)."""

    def __init__(self, cfg):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.5))
        self.head = nn.Linear(8, 2)

    def forward(self, batch):
        if self.training and "check_pairs" in FAULTS.wanted:
            # Half of the images come as pairs: here the first two.
            user, shop = batch[:2]
            assert (user["source"], shop["source"]) == ("user", "shop"), batch
            assert user["pair_id"] == shop["pair_id"], batch
        images = torch.stack([s["image"][:, :16, :16].float() / 255 for s in batch])
        features = self.layers(images).relu().mean((2, 3))
        if not self.training:
            return [{"score": float(row.sum())} for row in self.head(features)]
        wanted = torch.tensor([len(s["instances"]) for s in batch]) % 2
        out = self.head(features)
        losses = {
            "loss_class": nn.functional.cross_entropy(out, wanted),
            "loss_size": out.square().mean(),
        }
        return FAULTS.change_losses(losses)


class Faults:
    """What a test asked for, and the iteration that the run is in."""

    def __init__(self):
        # By the environment, since processes that a run starts have faults too.
        wanted = os.environ.get("TINY_FAULTS", "").split()
        self.wanted = dict(fault.split("=", 1) for fault in wanted)
        self.iteration = -1

    def at(self, name):
        is_here = comm.get_rank() == int(self.wanted.get("rank", comm.get_rank()))
        return is_here and self.wanted.get(name) == str(self.iteration)

    def change_losses(self, losses):
        if self.at("nan_loss"):
            losses["loss_size"] = losses["loss_size"] * float("nan")
        return losses


FAULTS = Faults()


def do_harm(trainer):
    """Before an iteration."""
    if FAULTS.at("sigterm"):
        os.kill(os.getpid(), signal.SIGTERM)
    if FAULTS.at("sigusr1"):
        os.kill(os.getpid(), signal.SIGUSR1)
    if FAULTS.at("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    if FAULTS.at("kill_worker"):
        time.sleep(0.2)
        os.kill(trainer._trainer._data_loader_iter._workers[0].pid, signal.SIGKILL)


class FaultyTrainer(trainer.MatchRCNNTrainer):
    """Does to itself what a test asks for."""

    def before_step(self):
        FAULTS.iteration = self.iter
        super().before_step()
        with self._faults():
            do_harm(self)

    def run_step(self):
        super().run_step()
        if FAULTS.at("nan_weights_after"):
            with torch.no_grad():
                self.checkpointer.model.head.weight[0, 0] = float("inf")

    @classmethod
    def test(cls, cfg, model, evaluators=None):
        """A metric that is a function of the weights."""
        with open(Path(cfg.OUTPUT_DIR) / "evaluated.txt", "a") as file:
            file.write(f"{FAULTS.iteration}\n")
        if FAULTS.at("sigterm_in_evaluation"):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        if FAULTS.at("kill_in_evaluation"):
            os.kill(os.getpid(), signal.SIGKILL)
        values = FAULTS.wanted.get("metrics")
        if values:
            done = (FAULTS.iteration + 1) // cfg.TEST.EVAL_PERIOD
            return {"bbox": {"AP": float(values.split(",")[done - 1])}}
        weights = torch.cat([w.flatten() for w in model.state_dict().values()])
        return {"bbox": {"AP": float(weights.double().abs().sum())}}


run_module.MatchRCNNTrainer = FaultyTrainer


def break_writing(what, name, after):
    """Let the ``after``-th writing of a file whose name begins with ``name`` end half way: with
    no space left, or by a kill."""
    whole = checkpoints.atomic_write
    seen = 0

    @contextlib.contextmanager
    def broken(path):
        nonlocal seen
        with whole(path) as file:
            seen += Path(path).name.startswith(name)
            yield Half(file, what) if seen == after else file

    checkpoints.atomic_write = broken


class Half:
    """A file of which only the first half of what comes first is written."""

    def __init__(self, file, what):
        self.file = file
        self.what = what

    def write(self, data):
        self.file.write(bytes(data)[: len(data) // 2])
        self.file.flush()
        if self.what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def run(output, opts=(), resume=False, num_gpus=1):
    """The exit code of a run."""
    if "break" in FAULTS.wanted:
        what, name, after = FAULTS.wanted["break"].split(":")
        break_writing(what, name, int(after))
    args = argparse.Namespace(
        config_file=str(Path(__file__).with_name("tiny.yaml")),
        opts=["OUTPUT_DIR", str(output), *map(str, opts)],
        resume=resume,
        eval_only=False,
        num_gpus=num_gpus,
        num_machines=1,
        machine_rank=0,
        dist_url="auto",
    )
    return run_module.run_program(args)


def child(log, environment, arguments):
    """A run in a process that was forked; it logs to a file."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.update(environment)
    FAULTS.__init__()
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # as where the tool is a program
    sys.exit(run(**arguments))


if __name__ == "__main__":
    sys.exit(run(**json.loads(sys.argv[1])))
