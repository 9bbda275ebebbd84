"""What a training script does around its trainer."""

import argparse
import logging
import os
import sys
from typing import Any

import torch
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default as ddp_hooks
from torch.nn.parallel import DistributedDataParallel

from ..checkpoint.atomic_file import whole_file
from ..config import CfgNode
from ..utils import comm
from ..utils.collect_env import collect_env_info
from ..utils.env import seed_all_rng
from ..utils.events import CommonMetricPrinter, EventWriter, JSONWriter, TensorboardXWriter
from ..utils.logger import setup_logger

logger = logging.getLogger(__name__)


def create_ddp_model(
    model: nn.Module, *, fp16_compression: bool = False, **kwargs: Any
) -> nn.Module:
    """``model`` wrapped for training in several processes; itself when there is but one.

    Args:
        fp16_compression: halve what is exchanged by sending gradients as float16.
        kwargs: for ``DistributedDataParallel``.
    """
    if comm.get_world_size() == 1:
        return model
    if "device_ids" not in kwargs and next(model.parameters()).is_cuda:
        kwargs["device_ids"] = [comm.get_local_rank()]
    wrapped = DistributedDataParallel(model, **kwargs)
    if fp16_compression:
        wrapped.register_comm_hook(state=None, hook=ddp_hooks.fp16_compress_hook)
    return wrapped


def default_argument_parser(epilog: str | None = None) -> argparse.ArgumentParser:
    """The options of a training script.

    Args:
        epilog: shown below them; None shows examples.
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
    return f"""examples:
  train on four GPUs, or in four processes on the CPU:
    {script} --num-gpus 4 --config-file cfg.yaml
  change settings:
    {script} --config-file cfg.yaml MODEL.WEIGHTS weights.pth SOLVER.BASE_LR 0.001
  two machines, the first of which the second can reach:
    {script} --num-gpus 4 --num-machines 2 --machine-rank 0 --dist-url tcp://HOST:PORT
    {script} --num-gpus 4 --num-machines 2 --machine-rank 1 --dist-url tcp://HOST:PORT
"""


def default_setup(cfg: CfgNode, args: Any) -> None:
    """What a run does first: make OUTPUT_DIR, log to it, save the config there, seed.

    Args:
        args: the parsed command line, for the log; ``eval_only`` and ``config_file`` are used.
    """
    rank = comm.get_rank()
    if comm.is_main_process() and cfg.OUTPUT_DIR:
        os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
    comm.synchronize()
    setup_logger(cfg.OUTPUT_DIR or None, distributed_rank=rank, name="fvcore")
    setup_logger(cfg.OUTPUT_DIR or None, distributed_rank=rank)
    logger.info("Rank of current process: %d. World size: %d", rank, comm.get_world_size())
    logger.info("Environment info:\n%s", collect_env_info())
    logger.info("Command line arguments: %s", args)
    if getattr(args, "config_file", ""):
        with open(args.config_file) as file:
            logger.info("Contents of %s:\n%s", args.config_file, file.read())
    if comm.is_main_process() and cfg.OUTPUT_DIR:
        logger.info("Running with full config:\n%s", cfg.dump())
        path = os.path.join(cfg.OUTPUT_DIR, "config.yaml")
        with whole_file(path) as yaml:
            yaml.write(cfg.dump().encode())
        logger.info("Full config saved to %s", path)
    # Each process its own: they must not draw the same samples.
    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED + rank)
    if not getattr(args, "eval_only", False):
        # Searching for fast convolutions pays over many batches only.
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
    if cfg.FLOAT32_PRECISION:
        torch.set_float32_matmul_precision(cfg.FLOAT32_PRECISION)


def default_writers(output_dir: str, max_iter: int | None = None) -> list[EventWriter]:
    """Writers to the console, to ``output_dir/metrics.json`` and to TensorBoard.

    Args:
        max_iter: of the training, for the time that is left.
    """
    os.makedirs(output_dir, exist_ok=True)
    return [
        CommonMetricPrinter(max_iter),
        JSONWriter(os.path.join(output_dir, "metrics.json")),
        TensorboardXWriter(output_dir),
    ]
