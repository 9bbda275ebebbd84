"""What happens during training: figures and pictures by iteration, and those who write them."""

import datetime
import itertools
import json
import logging
import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from fvcore.common.history_buffer import HistoryBuffer
from torch import Tensor

from .file_io import PathManager

__all__ = [
    "CommonMetricPrinter",
    "EventStorage",
    "EventWriter",
    "JSONWriter",
    "TensorboardXWriter",
    "get_event_storage",
]

_storages: list["EventStorage"] = []


def get_event_storage() -> "EventStorage":
    """The storage of the innermost ``with EventStorage() as storage:``.

    Raises:
        RuntimeError: there is none.
    """
    if not _storages:
        raise RuntimeError("no event storage: call this inside of 'with EventStorage(...):'")
    return _storages[-1]


class EventStorage:
    """Scalars with their history, and the pictures that nobody wrote yet.

    Args:
        start_iter: the iteration to begin with.
    """

    def __init__(self, start_iter: int = 0) -> None:
        self._iter = start_iter
        self._prefix = ""
        self._history: dict[str, HistoryBuffer] = defaultdict(HistoryBuffer)
        self._smoothing_hints: dict[str, bool] = {}
        self._latest: dict[str, tuple[float, int]] = {}
        self._vis_data: list[tuple[str, Any, int]] = []

    def put_image(self, img_name: str, img_tensor: Any) -> None:
        """Keep a picture until a writer has taken it.

        Args:
            img_name: for the writer; the name scope goes before it.
            img_tensor: (C, H, W), RGB; uint8, or float in [0, 1].
        """
        self._vis_data.append((self._prefix + img_name, img_tensor, self._iter))

    def put_scalar(
        self,
        name: str,
        value: float | Tensor,
        smoothing_hint: bool = True,
        cur_iter: int | None = None,
    ) -> None:
        """Add a figure.

        Args:
            name: the name scope goes before it.
            value: a number or a tensor of one.
            smoothing_hint: whether its readers should see it smoothed; the same in all calls.
            cur_iter: the iteration that it belongs to, if not the current one.
        """
        name = self._prefix + name
        known = self._smoothing_hints.setdefault(name, smoothing_hint)
        if known != smoothing_hint:
            raise ValueError(f"{name!r} was put with smoothing_hint={known} before")
        iteration = self._iter if cur_iter is None else cur_iter
        number = float(value)
        self._history[name].update(number, iteration)
        self._latest[name] = (number, iteration)

    def history(self, name: str) -> HistoryBuffer:
        """All values of a scalar.

        Raises:
            KeyError: nobody has put it.
        """
        if name not in self._history:
            raise KeyError(f"no scalar {name!r} was put")
        return self._history[name]

    def histories(self) -> Mapping[str, HistoryBuffer]:
        """All scalars' values."""
        return self._history

    def latest(self) -> dict[str, tuple[float, int]]:
        """Each scalar's last value and its iteration."""
        return self._latest

    def latest_with_smoothing_hint(self, window_size: int = 20) -> dict[str, tuple[float, int]]:
        """As ``latest``, but the median of the last ``window_size`` iterations' values for those
        scalars that ask for smoothing."""
        return {
            name: (self._smoothed(name, window_size, value), iteration)
            for name, (value, iteration) in self._latest.items()
        }

    def _smoothed(self, name: str, window_size: int, value: float) -> float:
        if not self._smoothing_hints[name]:
            return value
        return float(self._history[name].median(self.count_samples(name, window_size)))

    def count_samples(self, name: str, window_size: int = 20) -> int:
        """How many values a scalar got in the last ``window_size`` iterations that it has any of:
        less than that where it is not put in each, more where several are put in one."""
        values = self._history[name].values()
        first = values[-1][1] - window_size + 1
        return sum(1 for _ in itertools.takewhile(lambda v: v[1] >= first, reversed(values)))

    def step(self) -> None:
        """On to the next iteration; the trainer calls it after each."""
        self._iter += 1

    @property
    def iter(self) -> int:
        """The current iteration."""
        return self._iter

    @iter.setter
    def iter(self, value: int) -> None:
        self._iter = int(value)

    @property
    def iteration(self) -> int:
        return self._iter

    @contextmanager
    def name_scope(self, name: str) -> Iterator[None]:
        """Put ``name/`` before the names of all that is put inside of the ``with``."""
        outer = self._prefix
        self._prefix = name.rstrip("/") + "/"
        try:
            yield
        finally:
            self._prefix = outer

    def clear_images(self) -> None:
        """Forget the pictures; writers call it when they have written them."""
        self._vis_data = []

    def __enter__(self) -> "EventStorage":
        _storages.append(self)
        return self

    def __exit__(self, *exception: object) -> None:
        assert _storages[-1] is self
        _storages.pop()


class EventWriter:
    """Takes the events of the current storage somewhere."""

    def write(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Called once, after the last ``write``."""


class _ScalarWriter(EventWriter):
    """Gives each scalar out once, smoothed as it asks for."""

    def __init__(self, window_size: int) -> None:
        self._window_size = window_size
        self._last_write = -1

    def _new_scalars(self, storage: EventStorage) -> list[tuple[int, str, float]]:
        """(iteration, name, value) of all scalars newer than those given out before."""
        scalars = storage.latest_with_smoothing_hint(self._window_size)
        new = [(i, k, float(v)) for k, (v, i) in scalars.items() if i > self._last_write]
        self._last_write = max([self._last_write, *(i for i, _, _ in new)])
        return new


class JSONWriter(_ScalarWriter):
    """Appends scalars to a file, one JSON object an iteration and line.

    Args:
        json_file: the file's name; an existing file is continued.
        window_size: of the median for scalars that ask for smoothing.
    """

    def __init__(self, json_file: str, window_size: int = 20) -> None:
        super().__init__(window_size)
        self._file = PathManager.open(os.fspath(json_file), "a")

    def write(self) -> None:
        rows: dict[int, dict[str, float]] = defaultdict(dict)
        for iteration, name, value in self._new_scalars(get_event_storage()):
            rows[iteration][name] = value
        for iteration in sorted(rows):
            row = {**rows[iteration], "iteration": iteration}
            self._file.write(json.dumps(row, sort_keys=True) + "\n")
        self._file.flush()
        if self._file.seekable():
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


class TensorboardXWriter(_ScalarWriter):
    """Writes scalars and pictures for TensorBoard.

    Args:
        log_dir: folder of the event files, made at the first ``write``.
        window_size: of the median for scalars that ask for smoothing.
        **kwargs: for :class:`torch.utils.tensorboard.SummaryWriter`.
    """

    def __init__(self, log_dir: str, window_size: int = 20, **kwargs: Any) -> None:
        super().__init__(window_size)
        self._arguments = {"log_dir": log_dir, **kwargs}

    @cached_property
    def _writer(self) -> Any:
        # Imported here: nobody should need TensorBoard, or wait for it, who writes nothing.
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(**self._arguments)

    def write(self) -> None:
        storage = get_event_storage()
        for iteration, name, value in self._new_scalars(storage):
            self._writer.add_scalar(name, value, iteration)
        for name, image, iteration in storage._vis_data:
            self._writer.add_image(name, image, iteration)
        storage.clear_images()

    def close(self) -> None:
        if "_writer" in self.__dict__:
            self._writer.close()


class CommonMetricPrinter(EventWriter):
    """Logs the losses, scalars named ``[metric]...``, times, learning rate and memory of training
    in a line.

    Args:
        max_iter: the last iteration, for the time that is left; None leaves that out.
        window_size: losses are medians, times are means over so many iterations.
    """

    def __init__(self, max_iter: int | None = None, window_size: int = 20) -> None:
        self.logger = logging.getLogger(__name__)
        self._max_iter = max_iter
        self._window_size = window_size

    def write(self) -> None:
        storage = get_event_storage()
        iteration = storage.iter
        if iteration == self._max_iter:
            # The hook that writes after the last iteration has nothing new to say.
            return
        parts = [
            self._eta(storage),
            f"iter: {iteration}",
            *self._medians(storage, "loss"),
            *self._medians(storage, "[metric]"),
            *self._times(storage),
            f"lr: {storage.latest()['lr'][0]:.5g}" if "lr" in storage.latest() else "lr: N/A",
            _peak_memory(),
        ]
        self.logger.info("  ".join(part for part in parts if part))

    def _medians(self, storage: EventStorage, part: str) -> list[str]:
        """The scalars with ``part`` in their names."""
        return [
            f"{name}: {buffer.median(storage.count_samples(name, self._window_size)):.4g}"
            for name, buffer in storage.histories().items()
            if part in name
        ]

    def _times(self, storage: EventStorage) -> list[str]:
        parts = []
        for name in ("time", "data_time"):
            if name in storage.histories():
                buffer = storage.history(name)
                mean = buffer.avg(storage.count_samples(name, self._window_size))
                parts += [f"{name}: {mean:.4f}", f"last_{name}: {buffer.latest():.4f}"]
        return parts

    def _eta(self, storage: EventStorage) -> str:
        """The time that is left, as soon as an iteration's is known."""
        if self._max_iter is None or "time" not in storage.histories():
            return ""
        left = self._max_iter - storage.iter - 1
        seconds = float(storage.history("time").median(1000)) * left
        storage.put_scalar("eta_seconds", seconds, smoothing_hint=False)
        return f"eta: {datetime.timedelta(seconds=int(seconds))}"


def _peak_memory() -> str:
    """The most that tensors took on the GPU; without one, the most that the process took, where
    the system tells."""
    if torch.cuda.is_available():
        return f"max_mem: {torch.cuda.max_memory_allocated() / 1024**2:.0f}M"
    try:
        import resource
    except ImportError:  # Windows
        return ""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, but bytes on macOS
    return f"max_mem: {peak / (1024**2 if sys.platform == 'darwin' else 1024):.0f}M"
