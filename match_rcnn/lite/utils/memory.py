"""When a GPU's memory does not suffice."""

import functools
import logging
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["retry_if_cuda_oom"]

logger = logging.getLogger(__name__)


def retry_if_cuda_oom(func: Callable[..., Any]) -> Callable[..., Any]:
    """``func`` with two more chances where CUDA has no memory for it: with torch's cache emptied,
    then on the CPU, which also gets the result.

    It must bear being called again. Tensors are moved where they are arguments themselves, not
    where an argument holds them.
    """

    @functools.wraps(func)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        for last_on_gpu in (False, True):
            try:
                return func(*args, **kwargs)
            except torch.cuda.OutOfMemoryError:
                if not last_on_gpu:
                    torch.cuda.empty_cache()
        logger.info("CUDA is out of memory: %s runs on the CPU", func)
        moved = {name: _on_cpu(value) for name, value in kwargs.items()}
        return func(*map(_on_cpu, args), **moved)

    return wrapped


def _on_cpu(value: Any) -> Any:
    device = getattr(value, "device", None)
    return value.to(device="cpu") if getattr(device, "type", None) == "cuda" else value
