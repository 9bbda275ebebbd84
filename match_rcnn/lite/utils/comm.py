"""Processes that train together: who am I, and exchanging small objects.

Everything works without ``torch.distributed`` too, as one process that is alone.
"""

import functools
import os
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch import distributed as dist

_local_group: Any = None


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def get_world_size() -> int:
    """How many processes there are, on all machines."""
    return dist.get_world_size() if _distributed() else 1


def get_rank() -> int:
    """Which of them this is."""
    return dist.get_rank() if _distributed() else 0


def create_local_process_group(num_workers_per_machine: int) -> None:
    """Find the processes of this machine; every process must call it, after
    ``init_process_group``.

    Args:
        num_workers_per_machine: the same on all machines; ranks count machine by machine.

    Raises:
        ValueError: that number does not divide the number of processes.
    """
    global _local_group
    world, size = get_world_size(), num_workers_per_machine
    if size < 1 or world % size:
        raise ValueError(f"{world} processes cannot be {size} on each machine")
    # Everyone makes every group: new_group is collective.
    groups = [dist.new_group(list(range(i, i + size))) for i in range(0, world, size)]
    _local_group = groups[get_rank() // size]


def get_local_process_group() -> Any:
    """The process group of this machine.

    Raises:
        RuntimeError: ``create_local_process_group`` was not called.
    """
    if _local_group is None:
        raise RuntimeError("the processes of this machine are not known: start with launch()")
    return _local_group


def get_local_rank() -> int:
    """Which of this machine's processes this is; under torchrun known without a group."""
    if not _distributed():
        return 0
    if _local_group is None and "LOCAL_RANK" in os.environ:
        return int(os.environ["LOCAL_RANK"])
    return dist.get_rank(group=get_local_process_group())


def get_local_size() -> int:
    """How many processes this machine has; under torchrun known without a group."""
    if not _distributed():
        return 1
    if _local_group is None and "LOCAL_WORLD_SIZE" in os.environ:
        return int(os.environ["LOCAL_WORLD_SIZE"])
    return dist.get_world_size(group=get_local_process_group())


def is_main_process() -> bool:
    return get_rank() == 0


def synchronize() -> None:
    """Wait until every process is here."""
    if get_world_size() == 1:
        return
    if dist.get_backend() == dist.Backend.NCCL:
        # Without a device, NCCL would guess one.
        dist.barrier(device_ids=[torch.cuda.current_device()])
    else:
        dist.barrier()


def _cpu_group() -> Any:
    """All processes, over a backend that takes objects on the CPU."""
    return _gloo_group() if dist.get_backend() == dist.Backend.NCCL else dist.group.WORLD


@functools.lru_cache
def _gloo_group() -> Any:
    return dist.new_group(backend="gloo")


def all_gather(data: Any, group: Any = None) -> list[Any]:
    """The ``data`` (picklable) of every process, by rank."""
    if get_world_size() == 1:
        return [data]
    group = group or _cpu_group()
    world = dist.get_world_size(group)
    if world == 1:
        return [data]
    output: list[Any] = [None] * world
    dist.all_gather_object(output, data, group=group)
    return output


def gather(data: Any, dst: int = 0, group: Any = None) -> list[Any]:
    """The ``data`` (picklable) of every process by rank, at rank ``dst``; ``[]`` elsewhere."""
    if get_world_size() == 1:
        return [data]
    group = group or _cpu_group()
    world = dist.get_world_size(group)
    if world == 1:
        return [data]
    if dist.get_rank(group) != dst:
        dist.gather_object(data, None, dst=dst, group=group)
        return []
    output: list[Any] = [None] * world
    dist.gather_object(data, output, dst=dst, group=group)
    return output


def shared_random_seed() -> int:
    """A random number that is the same in all processes; drawn from numpy's generator of rank 0."""
    return int(all_gather(int(np.random.randint(2**31)))[0])  # noqa: NPY002


def reduce_dict(input_dict: dict[str, Tensor], average: bool = True) -> dict[str, Tensor]:
    """Sum or average scalars over all processes.

    Args:
        input_dict: scalar tensors, the same names in every process.
        average: or else the sum.

    Returns:
        the result at rank 0; elsewhere the values mean nothing.
    """
    world = get_world_size()
    if world == 1:
        return input_dict
    with torch.no_grad():
        names = sorted(input_dict)
        values = torch.stack([input_dict[name] for name in names])
        dist.reduce(values, dst=0)
        if average and get_rank() == 0:
            values /= world
    return dict(zip(names, values, strict=True))
