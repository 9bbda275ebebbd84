"""The losses of several runs laid over each other, and how far they differ; the work of
``tools/compare_runs.py``.

A run is a folder with ``metrics.json``, as the trainer writes it: one JSON object a line, with
``iteration``, ``total_loss`` and the ``loss_*``.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from match_rcnn.reporting.charts import plots
from match_rcnn.reporting.pages import Figure, Group, Page, Section, Table
from match_rcnn.utils.arrays import FloatArray

#: Values by iteration.
Curve = dict[int, float]


def read_curves(folder: Path) -> dict[str, Curve]:
    """The losses of a run, ``total_loss`` first. What a resumed training wrote again counts.

    Raises:
        FileNotFoundError: the folder has no ``metrics.json``.
        ValueError: it holds no loss, or a line (not the last, cut-off one) is not JSON.
    """
    file = Path(folder) / "metrics.json"
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there; expected the OUTPUT_DIR of a training")
    curves: dict[str, Curve] = {}
    for record in _records(file):
        for name, value in record.items():
            if name == "total_loss" or name.startswith("loss_"):
                curves.setdefault(name, {})[record["iteration"]] = float(value)
    if not curves:
        raise ValueError(f"{file} holds no loss (total_loss, loss_...)")
    return dict(sorted(curves.items(), key=lambda one: (one[0] != "total_loss", one[0])))


def _records(file: Path) -> list[dict[str, Any]]:
    lines = file.read_text("utf-8").splitlines()
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number < len(lines):  # a running or killed training leaves half a line
                raise ValueError(f"{file}, line {number} is not JSON: {error}") from error
    return records


def smooth(values: FloatArray, window: int) -> FloatArray:
    """The mean of each value and up to ``window - 1`` before it."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    means: FloatArray = (sums[ends] - sums[starts]) / (ends - starts)
    return means


def loss_page(runs: Mapping[str, dict[str, Curve]], window: int = 1) -> Page:
    """A chart for each loss with a line for each run, and the table.

    Args:
        runs: losses by run.
        window: iterations that each point is the mean of.
    """
    names = list(dict.fromkeys(loss for curves in runs.values() for loss in curves))
    figures = [
        Figure(
            plots.loss_chart(
                name, [_points(curves.get(name, {}), window) for curves in runs.values()]
            ),
            caption=name,
        )
        for name in names
    ]
    charts = Group(figures, key=plots.legend(list(runs), "lines"))
    lead = f"Each point is the mean of {window} iterations." if window > 1 else ""
    section = Section("Losses by iteration", lead, [comparison_table(runs)], [charts])
    return Page("Losses: " + ", ".join(runs), [section])


def comparison_table(runs: Mapping[str, dict[str, Curve]]) -> Table:
    """Each loss over the first and the last tenth of its iterations (means), and how far the
    later runs are from the first, iteration by iteration, relative to its mean."""
    first, *others = runs
    columns = ["start", "end"]
    groups = [(name, 2) for name in runs] + [("mean difference", len(others))] * bool(others)
    table = Table("Losses", ["loss", *columns * len(runs), *others], groups=groups)
    for loss, curve in runs[first].items():
        cells = []
        for curves in runs.values():
            values = np.array(list(curves.get(loss, {}).values()))
            tenth = max(1, len(values) // 10)
            cells += [_mean(values[:tenth]), _mean(values[-tenth:])]
        cells += [_difference(curve, runs[name].get(loss, {})) for name in others]
        table.add(loss, *cells)
    return table


def _mean(values: FloatArray) -> str:
    return f"{values.mean():.3f}" if len(values) else ""


def _difference(first: Curve, other: Curve) -> str:
    both = sorted(first.keys() & other.keys())
    a, b = (np.array([curve[i] for i in both]) for curve in (first, other))
    if not len(a) or not a.mean():
        return ""
    return f"{np.abs(a - b).mean() / abs(a.mean()):.1%}"


def _points(curve: Curve, window: int) -> tuple[FloatArray, FloatArray]:
    """Iterations in order and smoothed values; what is not finite is left out."""
    kept = {i: curve[i] for i in sorted(curve) if np.isfinite(curve[i])}
    x, values = np.array(list(kept), float), np.array(list(kept.values()), float)
    return x, smooth(values, window)
