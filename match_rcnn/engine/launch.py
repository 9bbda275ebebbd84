"""Starting the processes of a tool: what detectron2 lacks and lite has."""

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import distributed as dist

from match_rcnn.d2 import HOST, comm
from match_rcnn.d2 import launch as host_launch


def launch(
    main_func: Callable[..., Any],
    num_gpus: int,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str | None = None,
    args: tuple[Any, ...] = (),
) -> None:
    """The host's ``launch``; under torchrun, on either host, this process joins torchrun's group.

    Raises:
        ValueError: torchrun with detectron2 0.6, whose processes only its own launch can join.
    """
    if HOST != "detectron2" or int(os.environ.get("WORLD_SIZE", 1)) == 1:
        host_launch(main_func, num_gpus, num_machines, machine_rank, dist_url, args)
        return
    # detectron2 would take each of torchrun's processes for the only one.
    if not hasattr(comm, "create_local_process_group"):
        raise ValueError("detectron2 0.6 does not run under torchrun; use --num-gpus")
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    comm.create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))
    comm.synchronize()
    main_func(*args)
    # Not after an error: others may wait in an operation that will never end.
    dist.destroy_process_group()


def check_processes(device: str, host: str = HOST) -> None:
    """Whether ``host`` can train on ``device`` in as many processes as there are.

    Raises:
        ValueError: it cannot; detectron2 gives DistributedDataParallel the number of a GPU.
    """
    if host == "detectron2" and device == "cpu" and comm.get_world_size() > 1:
        raise ValueError(
            f"detectron2 trains in {comm.get_world_size()} processes on GPUs only, and "
            "MODEL.DEVICE is cpu; MATCH_RCNN_HOST=lite does it on the CPU, too"
        )
