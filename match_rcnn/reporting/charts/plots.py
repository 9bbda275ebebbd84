"""Charts as SVG. Every one is about 450 wide, so that its letters stay readable on a phone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from markupsafe import Markup

from match_rcnn.reporting.charts import svg
from match_rcnn.reporting.charts.svg import Scale
from match_rcnn.utils.arrays import FloatArray, IntArray

WIDTH = 450.0
_LABELS = 154.0  # room for category names
_ROW = 22.0
_UNIT = [i / 5 for i in range(6)]
#: Of a plot of lines: left, right, top and bottom of the axes.
_BOX = (44.0, WIDTH - 12, 12.0, 254.0)


@dataclass(frozen=True)
class Series:
    """A named row of numbers; NaN is not drawn."""

    name: str
    values: FloatArray


def legend(names: Sequence[str], kind: Literal["lines", "dots", "bars"]) -> Markup:
    """HTML: the names beside their marks, as the chart below has them."""
    if len(names) < 2:
        return Markup()
    draw: dict[str, Callable[[int], Markup]] = {
        "lines": lambda i: svg.line(0, 5, 22, 5, f"line s{i}"),
        "dots": lambda i: _dot(11, 5, i),
        "bars": lambda i: svg.rectangle(0, 0, 22, 10, f"s{i}"),
    }
    marks = (
        svg.element(
            "li", svg.element("svg", draw[kind](i), viewBox="0 0 22 10", aria_hidden="true"), name
        )
        for i, name in enumerate(names, 1)
    )
    return svg.element("ul", *marks, class_="legend")


def line_chart(x: FloatArray, lines: Sequence[Series], x_label: str, y_label: str) -> Markup:
    """Lines over the unit square."""
    across, up = _scales(_UNIT, _UNIT)
    parts = _axes(across, up, _UNIT, _UNIT, x_label, y_label)
    parts += [_line(across, up, x, one.values, i) for i, one in enumerate(lines, 1)]
    names = ", ".join(one.name for one in lines)
    return svg.canvas(WIDTH, 300, parts, f"{y_label} over {x_label}: {names}")


def loss_chart(name: str, lines: Sequence[tuple[FloatArray, FloatArray]]) -> Markup:
    """Lines over iterations from 0 on, each with iterations of its own.

    Args:
        lines: iterations (n,) and values (n,); what is not finite is not drawn.
    """
    seen = np.concatenate([np.zeros(1), *(y[np.isfinite(y)] for _, y in lines)])
    last = max((float(x.max(initial=0)) for x, _ in lines), default=0.0)
    x_ticks, y_ticks = (svg.nice_ticks(max(high, 1e-6)) for high in (last, float(seen.max())))
    across, up = _scales(x_ticks, y_ticks)
    parts = _axes(across, up, x_ticks, y_ticks, "iteration", name)
    parts += [_line(across, up, x, y, i) for i, (x, y) in enumerate(lines, 1)]
    return svg.canvas(WIDTH, 300, parts, f"{name} by iteration")


def _line(across: Scale, up: Scale, x: FloatArray, y: FloatArray, series: int) -> Markup:
    shown = np.isfinite(y)
    points = zip(x[shown].tolist(), y[shown].tolist(), strict=True)
    return svg.path([(across(a), up(b)) for a, b in points], f"line s{(series - 1) % 4 + 1}")


def _scales(x_ticks: Sequence[float], y_ticks: Sequence[float]) -> tuple[Scale, Scale]:
    left, right, top, bottom = _BOX
    across = Scale(x_ticks[0], x_ticks[-1], left, right)
    return across, Scale(y_ticks[0], y_ticks[-1], bottom, top)


def _axes(
    across: Scale,
    up: Scale,
    x_ticks: Sequence[float],
    y_ticks: Sequence[float],
    x_label: str,
    y_label: str,
) -> list[Markup]:
    """Lines at the ticks of y, the ticks in numbers, the labels."""
    parts = []
    for tick in y_ticks:
        parts.append(svg.line(across.start, up(tick), across.stop, up(tick), "grid"))
        parts.append(svg.text(across.start - 6, up(tick) + 4, _number(tick, y_ticks), "end"))
    for tick in x_ticks:
        words = _number(tick, x_ticks)
        parts.append(svg.text(across(tick), up.start + 17, words, "middle"))
    middle = (across.start + across.stop) / 2, (up.start + up.stop) / 2
    parts.append(svg.text(middle[0], up.start + 38, x_label, "middle", "axis"))
    turned = {"text_anchor": "middle", "transform": f"rotate(-90 12 {svg.number(middle[1])})"}
    return [*parts, svg.element("text", y_label, x=12, y=middle[1], **turned, class_="axis")]


def _number(tick: float, ticks: Sequence[float]) -> str:
    return f"{tick:.1f}" if list(ticks) == _UNIT else f"{tick:,g}"


def calibration_chart(centers: FloatArray, right: FloatArray, counts: Sequence[int]) -> Markup:
    """Share of right detections by score, against the diagonal; the number of each bin below.

    Args:
        centers: (B,) mean score of each bin; right: (B,) share, NaN where the bin is empty.
    """
    height, (across, up) = 360.0, _scales(_UNIT, _UNIT)
    parts = _axes(across, up, _UNIT, _UNIT, "score", "share that is right")
    parts.append(svg.line(across(0), up(0), across(1), up(1), "diagonal"))
    shown = [i for i in range(len(counts)) if counts[i]]
    points = [(across(float(centers[i])), up(float(right[i]))) for i in shown]
    parts.append(svg.path(points, "line s1"))
    most = max([1, *counts])
    for i, (x, y) in zip(shown, points, strict=True):
        words = f"score {centers[i]:.2f}: {right[i]:.0%} of {counts[i]} are right"
        parts.append(svg.element("circle", svg.title(words), cx=x, cy=y, r=4.5, class_="dot s1"))
    wide = (across(1) - across(0)) / len(counts)
    for i, count in enumerate(counts):
        tall = 44 * count / most
        place = (across(0) + i * wide + 2, height - 14 - tall, wide - 4, tall)
        parts.append(svg.rectangle(*place, "quiet", f"{count} detections"))
    parts.append(svg.text(44, height - 2, f"detections by score (highest bar: {most})"))
    return svg.canvas(WIDTH, height, parts, "Calibration of scores")


def _rows(names: Sequence[str], ticks: Sequence[float], across: Scale, label: str) -> list[Markup]:
    """A name a row, lines at the ticks, and what is counted."""
    bottom = 8 + _ROW * len(names)
    parts = []
    for tick in ticks:
        parts.append(svg.line(across(tick), 4, across(tick), bottom, "grid"))
        parts.append(svg.text(across(tick), bottom + 16, _number(tick, ticks), "middle"))
    for row, name in enumerate(names):
        parts.append(svg.text(_LABELS - 8, 8 + _ROW * (row + 0.5) + 4, name, "end"))
    middle = (across.start + across.stop) / 2
    return [*parts, svg.text(middle, bottom + 34, label, "middle", "axis")]


def _rows_canvas(names: Sequence[str], parts: Sequence[Markup], label: str) -> Markup:
    return svg.canvas(WIDTH, 50 + _ROW * len(names), parts, label)


def dot_chart(names: Sequence[str], dots: Sequence[Series], label: str) -> Markup:
    """A row a name, on it a dot a series, over 0 to 1."""
    across = Scale(0, 1, _LABELS, WIDTH - 12)
    parts = _rows(names, _UNIT, across, label)
    for row, name in enumerate(names):
        y = 8 + _ROW * (row + 0.5)
        values = [float(one.values[row]) for one in dots]
        seen = [v for v in values if np.isfinite(v)]
        if seen:
            parts.append(svg.line(across(min(seen)), y, across(max(seen)), y, "span"))
        for i, (one, value) in enumerate(zip(dots, values, strict=True), 1):
            if np.isfinite(value):
                parts.append(_dot(across(value), y, i, f"{name}, {one.name}: {value:.3f}"))
    return _rows_canvas(names, parts, f"{label} by category")


def _dot(x: float, y: float, series: int, words: str = "") -> Markup:
    """A mark of its own shape for each series, so that colour is not all that tells them apart."""
    shapes = {
        1: "M-5 0A5 5 0 1 1 5 0A5 5 0 1 1 -5 0",
        2: "M-4.5 -4.5H4.5V4.5H-4.5Z",
        3: "M0 -6L6 4.5H-6Z",
        4: "M0 -6L6 0L0 6L-6 0Z",
    }
    tip = [svg.title(words)] if words else []
    shape, place = shapes[(series - 1) % 4 + 1], f"translate({svg.number(x)} {svg.number(y)})"
    return svg.element("path", *tip, d=shape, transform=place, class_=f"dot s{series}")


def bar_chart(names: Sequence[str], bars: Sequence[Series], label: str) -> Markup:
    """Horizontal bars, the series one after the other in each; totals at their ends."""
    values = np.array([one.values for one in bars]).reshape(len(bars), len(names))
    totals = np.nansum(values, axis=0)
    ticks = svg.nice_ticks(max(float(totals.max(initial=0)), 1.0))
    across = Scale(0, ticks[-1], _LABELS, WIDTH - 48)
    parts = _rows(names, ticks, across, label)
    for row, name in enumerate(names):
        y = 8 + _ROW * row
        ends = across(0) + np.append(0, values[:, row].cumsum()) * (across(1) - across(0))
        for i, (start, end) in enumerate(pairwise(ends.tolist())):
            words = f"{name}, {bars[i].name}: {values[i, row]:,g}"
            if end > start:
                place = (start, y + 3, max(end - start - 1, 0.5), _ROW - 6)
                parts.append(svg.rectangle(*place, f"s{i + 1}", words))
        total = f"{totals[row]:,g}"
        parts.append(svg.text(float(ends[-1]) + 5, y + _ROW / 2 + 4, total, class_="value"))
    return _rows_canvas(names, parts, label)


def heat_map(
    rows: Sequence[str], columns: Sequence[str], shares: FloatArray, counts: IntArray, label: str
) -> Markup:
    """A table of cells, the darker the larger their share of the row.

    Args:
        shares: (rows, columns) from 0 to 1; counts: what stands in the cells.
    """
    left, top, side = _LABELS, 132.0, 24.0
    parts = []
    for c, name in enumerate(columns):
        x = left + side * (c + 0.5) + 4
        place = f"translate({svg.number(x)} {top - 6:g}) rotate(-60)"
        parts.append(svg.element("text", name, transform=place))
    for r, name in enumerate(rows):
        y = top + side * r
        parts.append(svg.text(left - 8, y + side / 2 + 4, name, "end"))
        for c, column in enumerate(columns):
            share, count = float(shares[r, c]), int(counts[r, c])
            words = f"{name} taken for {column}: {count} ({share:.0%})"
            parts += _cell(left + side * c, y, side, share, str(count or ""), words)
    wide, tall = left + side * len(columns) + 44, top + side * len(rows) + 6
    return svg.canvas(wide, tall, parts, label)


def _cell(x: float, y: float, side: float, share: float, words: str, tip: str) -> list[Markup]:
    x, y, wide = x + 1, y + 1, side - 2
    parts = [svg.rectangle(x, y, wide, wide, "empty", tip)]
    if share > 0:
        shade = {"class_": "heat", "fill_opacity": 0.12 + 0.88 * share, "pointer_events": "none"}
        parts.append(svg.element("rect", x=x, y=y, width=wide, height=wide, **shade))
    strong = "cell strong" if share > 0.45 else "cell"
    if words:
        parts.append(svg.text(x + wide / 2, y + wide / 2 + 4, words, "middle", strong))
    return parts
