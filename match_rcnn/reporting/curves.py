"""The losses of several runs laid over each other: a picture, and a table of how far they differ.

A run is a folder with ``metrics.json``, as the trainer writes it: one JSON object a line, with
``iteration``, ``total_loss`` and the ``loss_*``.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tabulate import tabulate

from match_rcnn.reporting.svg import Scale, nice_ticks
from match_rcnn.utils.arrays import FloatArray, Image

#: Values by iteration.
Curve = dict[int, float]

_WIDE, _TALL, _LEGEND = 300, 190, 26  # pixels of a panel, and of the legend above all
_COLUMNS = 4
_EDGES = (44, 12, 24, 22)  # left, right, top, bottom of a panel's axes
#: BGR; earlier runs are drawn wider, so that a later one on top of them does not hide them.
_COLOURS = ((200, 130, 40), (40, 60, 220), (60, 150, 60), (160, 60, 160), (60, 60, 60))
_BLACK, _GREY = (40, 40, 40), (215, 215, 215)


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


def comparison_table(runs: Mapping[str, dict[str, Curve]]) -> str:
    """Markdown: each loss over the first and the last tenth of its iterations (means), and how far
    the later runs are from the first, iteration by iteration, relative to its mean."""
    first, *others = runs
    rows = []
    for loss, curve in runs[first].items():
        row = {"loss": loss}
        for name, curves in runs.items():
            values = np.array(list(curves.get(loss, {}).values()))
            tenth = max(1, len(values) // 10)
            row[f"{name}: start"] = _figure(values[:tenth])
            row[f"{name}: end"] = _figure(values[-tenth:])
        for name in others:
            row[f"{name}: mean difference"] = _difference(curve, runs[name].get(loss, {}))
        rows.append(row)
    return tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)


def _figure(values: FloatArray) -> str:
    return f"{values.mean():.3f}" if len(values) else ""


def _difference(first: Curve, other: Curve) -> str:
    both = sorted(first.keys() & other.keys())
    a, b = (np.array([curve[i] for i in both]) for curve in (first, other))
    if not len(a) or not a.mean():
        return ""
    return f"{np.abs(a - b).mean() / abs(a.mean()):.1%}"


def draw_curves(runs: Mapping[str, dict[str, Curve]], window: int = 1) -> Image:
    """A picture, (h, w, 3) BGR, with a panel for each loss and a line in it for each run.

    Args:
        runs: losses by run.
        window: iterations that each point is the mean of.
    """
    losses = list(dict.fromkeys(loss for curves in runs.values() for loss in curves))
    columns = min(_COLUMNS, len(losses))
    height = _LEGEND + _TALL * math.ceil(len(losses) / columns)
    picture = np.full((height, _WIDE * columns, 3), 255, np.uint8)
    _draw_legend(picture, list(runs))
    for place, loss in enumerate(losses):
        y, x = _LEGEND + _TALL * (place // columns), _WIDE * (place % columns)
        panel = picture[y : y + _TALL, x : x + _WIDE]
        _draw_panel(panel, loss, [curves.get(loss, {}) for curves in runs.values()], window)
    return picture


def _draw_legend(picture: Image, names: Sequence[str]) -> None:
    x = _EDGES[0]
    for i, name in enumerate(names):
        cv2.line(picture, (x, 14), (x + 24, 14), *_style(i, len(names)))
        _write(picture, name, x + 30, 18)
        x += 60 + 8 * len(name)


def _draw_panel(panel: Image, title: str, curves: Sequence[Curve], window: int) -> None:
    left, right, top, bottom = _EDGES
    points = [_points(curve, window) for curve in curves]
    seen = np.concatenate([values for _, values in points])
    last = max((int(x[-1]) for x, _ in points if len(x)), default=1)
    across = Scale(0, max(last, 1), left, panel.shape[1] - right)
    ticks = nice_ticks(max(float(seen.max(initial=0)), 1e-6))
    up = Scale(0, ticks[-1], panel.shape[0] - bottom, top)
    _write(panel, title, left, 16)
    for tick in ticks:
        y = round(up(tick))
        cv2.line(panel, (left, y), (panel.shape[1] - right, y), _GREY, 1)
        _write(panel, f"{tick:g}", left - 4, y + 4, from_right=True)
    _write(panel, "0", left, panel.shape[0] - 6)
    _write(panel, str(last), panel.shape[1] - right, panel.shape[0] - 6, from_right=True)
    for i, (x, values) in enumerate(points):
        corners = [
            (round(16 * across(a)), round(16 * up(b))) for a, b in zip(x, values, strict=True)
        ]
        drawn = np.array(corners, np.int32).reshape(-1, 1, 2)
        colour, width, kind = _style(i, len(points))
        cv2.polylines(panel, [drawn], False, colour, width, kind, shift=4)


def _points(curve: Curve, window: int) -> tuple[FloatArray, FloatArray]:
    """Iterations and smoothed values; what is not finite is left out."""
    kept = {i: curve[i] for i in sorted(curve) if math.isfinite(curve[i])}
    x, values = np.array(list(kept), float), np.array(list(kept.values()), float)
    return x, smooth(values, window)


def _style(index: int, count: int) -> tuple[tuple[int, int, int], int, int]:
    """Colour, width and kind of a run's line."""
    return _COLOURS[index % len(_COLOURS)], 1 + 2 * min(count - 1 - index, 2), cv2.LINE_AA


def _write(picture: Image, text: str, x: int, y: int, from_right: bool = False) -> None:
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.4
    if from_right:
        x -= cv2.getTextSize(text, font, size, 1)[0][0]
    cv2.putText(picture, text, (x, y), font, size, _BLACK, 1, cv2.LINE_AA)
