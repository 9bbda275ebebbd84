"""Starting the processes of a training: one a GPU, or several on the CPU."""

import atexit
import logging
import os
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
from torch import distributed as dist
from torch import multiprocessing as mp

from ..utils import comm

__all__ = ["DEFAULT_TIMEOUT", "launch"]

DEFAULT_TIMEOUT = timedelta(minutes=30)
# Seconds that a process leaves to the one that failed before it.
PATIENCE = 60

logger = logging.getLogger(__name__)


def launch(
    main_func: Callable[..., Any],
    num_gpus_per_machine: int,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str | None = None,
    args: tuple[Any, ...] = (),
    timeout: timedelta = DEFAULT_TIMEOUT,
) -> None:
    """Run ``main_func(*args)`` in every process of a training and wait for all.

    A single process is this one. More are spawned, and joined by nccl where there are GPUs and
    by gloo on the CPU; an error in one ends all of them and is raised here. Under torchrun (RANK,
    WORLD_SIZE and LOCAL_RANK are set) this process joins that group and the numbers given here
    are not used.

    Args:
        main_func: can be imported by name, so that other processes find it.
        num_gpus_per_machine: processes on each machine; on the CPU too.
        num_machines: how many machines run this call.
        machine_rank: which of them this is, from 0.
        dist_url: where the processes meet, "tcp://host:port" of machine 0; "auto" finds a free
            port when there is but one machine.
        args: for ``main_func``.
        timeout: of operations between processes.

    Raises:
        ValueError: more processes than GPUs; no address for several machines.
        torch.multiprocessing.ProcessRaisedException: with the traceback of the process that
            failed first.
    """
    if {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= os.environ.keys():
        _run_under_torchrun(main_func, args, timeout)
    elif num_machines * num_gpus_per_machine <= 1:
        main_func(*args)
    else:
        url = _meeting_point(dist_url, num_machines)
        world_size = num_machines * num_gpus_per_machine
        first_rank = machine_rank * num_gpus_per_machine
        _spawn(num_gpus_per_machine, main_func, args, world_size, first_rank, url, timeout)


def _spawn(processes: int, *args: Any) -> None:
    gpus = torch.cuda.device_count()
    if 0 < gpus < processes:
        raise ValueError(f"{processes} processes were asked for, but there are {gpus} GPUs")
    failed = mp.get_context("spawn").Event()
    # Not daemons: data loaders start processes of their own.
    mp.start_processes(
        _worker, (failed, processes, *args), nprocs=processes, daemon=False, start_method="spawn"
    )


def _meeting_point(dist_url: str | None, num_machines: int) -> str:
    if dist_url not in (None, "auto"):
        assert dist_url is not None
        return dist_url
    if num_machines > 1:
        raise ValueError("dist_url 'auto' is for one machine; give tcp://host:port of machine 0")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def _worker(local_rank: int, failed: Any, *args: Any) -> None:
    """A spawned process; ``failed`` is set by the first one that fails."""
    try:
        _work(local_rank, *args)
    except (Exception, SystemExit):
        if failed.is_set():
            # Ours only follows from the first error, such as a lost connection. The parent
            # raises the error of the process that ends first, and ends this one then.
            time.sleep(PATIENCE)
        failed.set()
        raise


def _work(
    local_rank: int,
    local_size: int,
    main_func: Callable[..., Any],
    args: tuple[Any, ...],
    world_size: int,
    first_rank: int,
    dist_url: str,
    timeout: timedelta,
) -> None:
    _init_group(
        local_rank,
        init_method=dist_url,
        world_size=world_size,
        rank=first_rank + local_rank,
        timeout=timeout,
    )
    comm.create_local_process_group(local_size)
    if not torch.cuda.is_available() and "OMP_NUM_THREADS" not in os.environ:
        # Each process would take all cores for itself.
        torch.set_num_threads(max(1, torch.get_num_threads() // local_size))
    comm.synchronize()
    main_func(*args)
    # Not after an error: others may wait in an operation that will never end.
    dist.destroy_process_group()


def _run_under_torchrun(
    main_func: Callable[..., Any], args: tuple[Any, ...], timeout: timedelta
) -> None:
    """Join the group that torchrun describes, unless this process is in it, and run."""
    if not dist.is_initialized() and int(os.environ["WORLD_SIZE"]) > 1:
        _init_group(int(os.environ["LOCAL_RANK"]), init_method="env://", timeout=timeout)
        comm.create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))
        comm.synchronize()
        # Not after main_func: a second launch() goes on in the same group.
        atexit.register(dist.destroy_process_group)
    try:
        main_func(*args)
    except BaseException:
        # As in _work: the end of this process must not wait for the others.
        atexit.unregister(dist.destroy_process_group)
        raise


def _init_group(local_rank: int, **kwargs: Any) -> None:
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(local_rank)
    try:
        dist.init_process_group("nccl" if gpu else "gloo", **kwargs)
    except Exception:
        logger.error("Process group could not be made: %s", kwargs)
        raise
