"""Measuring, and the result that every benchmark returns."""

import ctypes
import gc
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tabulate import tabulate

MIB = 1024 * 1024


@dataclass(frozen=True)
class Measurement:
    """Median seconds of ``runs`` runs, and the memory in MiB that the work needed at its peak
    beyond what the process held before."""

    seconds: float
    peak_mib: float
    runs: int


@dataclass
class Result:
    """What a benchmark found.

    Attributes:
        name: of the benchmark.
        rows: the table, a dict a row, equal keys in all.
        ratios: reference / ours by name, measured in this run; more is better.
        goals: for some of ``ratios``, the least that was asked for.
        checks: by name, whether fast path and reference agree.
        notes: what a reader of the figures must know.
    """

    name: str
    rows: list[dict[str, Any]]
    ratios: dict[str, float] = field(default_factory=dict)
    goals: dict[str, float] = field(default_factory=dict)
    checks: dict[str, bool] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def correct(self) -> bool:
        return all(self.checks.values())

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "machine": machine()}

    def table(self) -> str:
        """The console's view."""
        parts = [tabulate(self.rows, headers="keys", floatfmt=".4g")]
        parts += [f"ratio  {k}: {v:.2f}{self._goal(k)}" for k, v in self.ratios.items()]
        parts += [f"check  {k}: {'ok' if v else 'FAILED'}" for k, v in self.checks.items()]
        parts += [f"note   {n}" for n in self.notes]
        return "\n".join(parts)

    def _goal(self, ratio: str) -> str:
        return f" (goal: at least {self.goals[ratio]:g})" if ratio in self.goals else ""


def measure(function: Callable[[], Any], runs: int = 3, warmup: int = 1) -> Measurement:
    """Time ``function`` and find its peak memory (process memory; Linux, elsewhere 0)."""
    return alternate([function], runs, warmup)[0]


def alternate(
    functions: Sequence[Callable[[], Any]], runs: int = 3, warmup: int = 1
) -> list[Measurement]:
    """Measure several functions in turn (A B A B ...), so that a machine whose speed drifts
    treats them alike."""
    seconds: list[list[float]] = [[] for _ in functions]
    peaks: list[list[float]] = [[] for _ in functions]
    for run in range(warmup + runs):
        for index, function in enumerate(functions):
            before = reset_peak()
            start = time.perf_counter()
            function()
            elapsed = time.perf_counter() - start
            if run >= warmup:
                seconds[index].append(elapsed)
                peaks[index].append(max(0.0, peak_mib() - before))
    return [
        Measurement(statistics.median(s), statistics.median(p), runs)
        for s, p in zip(seconds, peaks, strict=True)
    ]


def reset_peak() -> float:
    """Start a new peak at the process's present resident size and return that size in MiB."""
    gc.collect()
    if not sys.platform.startswith("linux"):
        return 0.0
    ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        import resource  # which Windows does not have

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return _status_mib("VmRSS")


def peak_mib() -> float:
    """The largest resident size since :func:`reset_peak`, MiB (Linux; elsewhere 0)."""
    if not sys.platform.startswith("linux"):
        return 0.0
    return _status_mib("VmHWM")


def _status_mib(key: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024
    return 0.0


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import numpy
    import torch
    import torchvision

    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": numpy.__version__,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
