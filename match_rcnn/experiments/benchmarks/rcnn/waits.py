"""Counting, without a GPU, the operations of a training step that would wait for one.

A wait lets the processor's lead run out: it cannot prepare work while the device is busy. What
waits: a number that the processor reads (``item``, ``bool``, ``tolist``, ``cpu``), and a result
whose size only the device knows (``nonzero``, indexing by a mask, non-maximum suppression).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

#: Names of dispatched operations, without overloads.
_OPERATIONS = {
    "aten::_local_scalar_dense",
    "aten::bincount",
    "aten::equal",
    "aten::masked_select",
    "aten::nonzero",
    "aten::unique_consecutive",
    "aten::unique_dim",
    "aten::_unique2",
    "torchvision::nms",
}
_INDEXING = {"aten::index", "aten::index_put_", "aten::index_put", "aten::_index_put_impl_"}
_REPEATING = "aten::repeat_interleave"
#: Seen as Python calls only; ``numpy`` on a GPU needs ``cpu`` in front of it.
_METHODS = {torch.Tensor.tolist, torch.Tensor.cpu}


class WaitCounter:
    """Counts by what ``label`` says at the time of each wait.

    What is sampled or read for data that never were on the device is counted, too, where the code
    could not know; the count is an upper bound in that respect.

    Attributes:
        counts: waits by label.
    """

    def __init__(self, label: Callable[[], str]) -> None:
        self.counts: Counter[str] = Counter()
        self._label = label

    @contextmanager
    def counting(self) -> Iterator[None]:
        with _Calls(self._add), _Operations(self._add):
            yield

    def _add(self) -> None:
        self.counts[self._label()] += 1


class _Operations(TorchDispatchMode):
    def __init__(self, add: Callable[[], None]) -> None:
        super().__init__()
        self._add = add

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if _waits(func.name().split(".")[0], args, kwargs or {}):
            self._add()
        return func(*args, **(kwargs or {}))


class _Calls(TorchFunctionMode):
    def __init__(self, add: Callable[[], None]) -> None:
        super().__init__()
        self._add = add

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _METHODS:
            self._add()
        return func(*args, **(kwargs or {}))


def _waits(name: str, args: Any, kwargs: dict[str, Any]) -> bool:
    if name in _INDEXING:
        return _has_mask(args[1])
    return name in _OPERATIONS or (name == _REPEATING and not kwargs.get("output_size"))


def _has_mask(indices: Sequence[torch.Tensor | None]) -> bool:
    return any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in indices)
