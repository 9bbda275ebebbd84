"""Rows of all processes, with gradients."""

import torch
import torch.distributed as dist
from torch.distributed.nn.functional import all_gather

from match_rcnn.d2 import comm


def gather_rows(rows: torch.Tensor) -> torch.Tensor:
    """The rows of every process, in the order of the processes.

    All processes must call it, with their own number of rows, none among them. The gradient of
    a process's rows is the sum of what all processes pass back for them; with a loss that all
    compute alike, distributed training's mean over processes then gives that loss's gradient.

    Args:
        rows: (n, ...), n differing between processes.

    Returns:
        (sum of n, ...).
    """
    world = comm.get_world_size()
    if world == 1:
        return rows
    counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(world)]
    dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
    sizes = [int(count) for count in counts]
    padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
    padded = torch.cat([rows, padded[len(rows) :]])
    if rows.requires_grad or rows.is_floating_point():
        parts = list(all_gather(padded))
    else:
        parts = [torch.empty_like(padded) for _ in range(world)]
        dist.all_gather(parts, padded)
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])
