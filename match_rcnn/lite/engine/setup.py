"""Before a training: the command line, the process, several processes, who writes."""

import argparse
import logging
import os
import sys
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ...utils.files import atomic_write
from ..config import CfgNode
from ..utils import comm
from ..utils.collect_env import collect_env_info
from ..utils.env import seed_all_rng
from ..utils.events import CommonMetricPrinter, EventWriter, JSONWriter, TensorboardXWriter
from ..utils.logger import setup_logger

logger = logging.getLogger(__name__)

_PACKAGE = __name__.rsplit(".", 2)[0]


def create_ddp_model(model: nn.Module, **kwargs: Any) -> nn.Module:
    """The model for one of several processes; as it is where there is only one.

    Args:
        kwargs: of ``DistributedDataParallel``.
    """
    if comm.get_world_size() == 1:
        return model
    on_gpu = next(model.parameters()).is_cuda
    return DistributedDataParallel(
        model, device_ids=[comm.get_local_rank()] if on_gpu else None, **kwargs
    )


def default_argument_parser(epilog: str | None = None) -> argparse.ArgumentParser:
    """What the command line of a training takes.

    Args:
        epilog: the end of its help; some examples by default.
    """
    parser = argparse.ArgumentParser(
        epilog=epilog or _examples(os.path.basename(sys.argv[0])),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--config-file", default="", metavar="FILE", help="yaml file over the default config")
    add("--resume", action="store_true", help="go on from the last checkpoint of OUTPUT_DIR")
    add("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS, do not train")
    add("--num-gpus", type=int, default=1, help="processes on each machine; on the CPU as well")
    add("--num-machines", type=int, default=1, help="how many machines train together")
    add("--machine-rank", type=int, default=0, help="which of the machines this is, from 0")
    add(
        "--dist-url",
        default="auto",
        help="where the processes meet: tcp://HOST:PORT of machine 0, or 'auto' on one machine",
    )
    add("opts", nargs=argparse.REMAINDER, help="changes of the config: KEY VALUE KEY VALUE ...")
    return parser


def _examples(script: str) -> str:
    start = f"{script} --config-file FILE"
    return f"""for example
  on one GPU:                  {start}
  four GPUs, or processes:     {start} --num-gpus 4
  half the learning rate:      {start} SOLVER.BASE_LR 0.01
  two machines, on the first:  {start} --num-gpus 4 --num-machines 2 --dist-url tcp://FIRST:PORT
                on the second: the same, and --machine-rank 1
"""


def default_setup(cfg: CfgNode, args: Any) -> None:
    """Prepare a process for what ``cfg`` describes: its output folder, logs, seeds, precision.

    The folder gets the log and ``config.yaml``, the whole config.

    Args:
        args: from :func:`default_argument_parser`, or anything else worth a line in the log.

    Raises:
        ValueError: FLOAT32_PRECISION is none of its values.
    """
    rank, folder = comm.get_rank(), cfg.OUTPUT_DIR
    writes = comm.is_main_process() and folder
    if writes:
        os.makedirs(folder, exist_ok=True)
    # Loggers of all processes write into it.
    comm.synchronize()
    for name in ("fvcore", _PACKAGE):
        setup_logger(folder or None, distributed_rank=rank, name=name)
    logger.info("Process %d of %d, on\n%s", rank, comm.get_world_size(), collect_env_info())
    logger.info("Started with %s", args)
    if writes:
        path = os.path.join(folder, "config.yaml")
        with atomic_write(path) as yaml:
            yaml.write(cfg.dump().encode())
        logger.info("Settings, also in %s:\n%s", path, cfg.dump())
    # Each process its own: they must not draw the same samples.
    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED + rank)
    if not getattr(args, "eval_only", False):
        # Searching for fast convolutions pays over many batches only.
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
    if cfg.FLOAT32_PRECISION:
        set_float32_precision(cfg.FLOAT32_PRECISION)


def set_float32_precision(precision: str) -> None:
    """How GPUs multiply matrices and convolve in float32; the CPU goes on as it does.

    Args:
        precision: "highest" is float32 throughout; "high" and "medium" allow TF32.

    Raises:
        ValueError: it is none of these.
    """
    if precision not in ("highest", "high", "medium"):
        raise ValueError(
            f"FLOAT32_PRECISION must be '', 'highest', 'high' or 'medium', got {precision!r}"
        )
    # Not torch.set_float32_matmul_precision: it leaves out cuDNN and takes in the CPU.
    torch.backends.cuda.matmul.allow_tf32 = precision != "highest"
    torch.backends.cudnn.allow_tf32 = precision != "highest"


def default_writers(output_dir: str, max_iter: int | None = None) -> list[EventWriter]:
    """To the console, to ``metrics.json`` and to TensorBoard, both in ``output_dir``.

    Args:
        max_iter: where training will end; the console then shows when that will be.
    """
    os.makedirs(output_dir, exist_ok=True)
    return [
        CommonMetricPrinter(max_iter),
        JSONWriter(os.path.join(output_dir, "metrics.json")),
        TensorboardXWriter(output_dir),
    ]
