"""Processes that train together: who am I, and exchanging small objects.

Everything works without ``torch.distributed`` too, as one process that is alone.
"""

import functools
import os
from typing import Any

import numpy as np
import torch
from torch import distributed as dist

_local_size: int | None = None


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def get_world_size() -> int:
    """How many processes there are, on all machines."""
    return dist.get_world_size() if _distributed() else 1


def get_rank() -> int:
    """Which of them this is."""
    return dist.get_rank() if _distributed() else 0


def create_local_process_group(num_workers_per_machine: int) -> None:
    """Say how many processes each machine has; ranks count machine by machine.

    Raises:
        ValueError: that number does not divide the number of processes.
    """
    global _local_size
    if num_workers_per_machine < 1 or get_world_size() % num_workers_per_machine:
        raise ValueError(
            f"{get_world_size()} processes cannot be {num_workers_per_machine} on each machine"
        )
    _local_size = num_workers_per_machine


def get_local_rank() -> int:
    """Which of this machine's processes this is.

    Raises:
        RuntimeError: neither ``create_local_process_group`` nor torchrun has told.
    """
    if not _distributed():
        return 0
    if _local_size is not None:
        return get_rank() % _local_size
    if "LOCAL_RANK" not in os.environ:
        raise RuntimeError("the processes of this machine are not known: start with launch()")
    return int(os.environ["LOCAL_RANK"])


def is_main_process() -> bool:
    return get_rank() == 0


def synchronize() -> None:
    """Wait until every process is here."""
    if get_world_size() > 1:
        nccl = dist.get_backend() == dist.Backend.NCCL
        # Without a device, NCCL would guess one.
        dist.barrier(device_ids=[torch.cuda.current_device()] if nccl else None)


def _cpu_group() -> Any:
    """All processes, over a backend that takes objects on the CPU."""
    return _gloo_group() if dist.get_backend() == dist.Backend.NCCL else dist.group.WORLD


@functools.lru_cache
def _gloo_group() -> Any:
    return dist.new_group(backend="gloo")


def all_gather(data: Any) -> list[Any]:
    """The ``data`` (picklable) of every process, by rank."""
    found: list[Any] = [data] * get_world_size()
    if len(found) > 1:
        dist.all_gather_object(found, data, group=_cpu_group())
    return found


def gather(data: Any, dst: int = 0) -> list[Any]:
    """The ``data`` (picklable) of every process by rank, at rank ``dst``; ``[]`` elsewhere."""
    found = [data] * get_world_size() if get_rank() == dst else []
    if get_world_size() > 1:
        dist.gather_object(data, found or None, dst=dst, group=_cpu_group())
    return found


def shared_random_seed() -> int:
    """A seed that all processes agree on, drawn from numpy's generator of rank 0."""
    return int(all_gather(int(np.random.randint(2**31)))[0])  # noqa: NPY002
