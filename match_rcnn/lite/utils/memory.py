"""Second chances when an accelerator's memory runs out."""

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch

__all__ = ["retry_if_cuda_oom"]


@contextmanager
def _out_of_memory_ignored() -> Iterator[None]:
    with suppress(torch.cuda.OutOfMemoryError):
        yield


def retry_if_cuda_oom(func: Callable[..., Any]) -> Callable[..., Any]:
    """``func``, called anew when CUDA's memory runs out: first after emptying the cache, then
    with its tensor arguments on the CPU, where the result then is too.

    ``func`` must be free of side effects; only tensors that are arguments themselves are moved,
    not those inside of other objects.
    """

    def on_cpu(value: Any) -> Any:
        moves = getattr(getattr(value, "device", None), "type", None) == "cuda"
        return value.to(device="cpu") if moves and hasattr(value, "to") else value

    @functools.wraps(func)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with _out_of_memory_ignored():
            return func(*args, **kwargs)
        torch.cuda.empty_cache()
        with _out_of_memory_ignored():
            return func(*args, **kwargs)
        logging.getLogger(__name__).info("CUDA is out of memory: %s goes to the CPU", func)
        moved = {name: on_cpu(value) for name, value in kwargs.items()}
        return func(*(on_cpu(value) for value in args), **moved)

    return wrapped
