"""Charts as SVG. Every one is about 450 wide, so that its letters stay readable on a phone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from match_rcnn.reporting import svg
from match_rcnn.reporting.svg import Scale
from match_rcnn.utils.arrays import FloatArray, IntArray

WIDTH = 450.0
_LABELS = 154.0  # room for category names
_ROW = 22.0


@dataclass(frozen=True)
class Series:
    """A named row of numbers; NaN is not drawn."""

    name: str
    values: FloatArray


def legend(names: Sequence[str], kind: Literal["lines", "dots", "bars"]) -> str:
    """HTML: the names beside their marks, as the chart below has them."""
    if len(names) < 2:
        return ""
    draw: dict[str, Callable[[int], str]] = {
        "lines": lambda i: svg.line(0, 5, 22, 5, f"line s{i}"),
        "dots": lambda i: _dot(11, 5, i),
        "bars": lambda i: svg.rectangle(0, 0, 22, 10, f"s{i}"),
    }
    marks = "".join(
        f'<li><svg viewBox="0 0 22 10" aria-hidden="true">{draw[kind](i)}</svg>'
        f"{svg.escape(name)}</li>"
        for i, name in enumerate(names, 1)
    )
    return f'<ul class="legend">{marks}</ul>'


def line_chart(x: FloatArray, lines: Sequence[Series], x_label: str, y_label: str) -> str:
    """Lines over the unit square."""
    height, across, up = 300.0, Scale(0, 1, 44, WIDTH - 12), Scale(0, 1, 300 - 46, 12)
    parts = [_unit_grid(across, up, x_label, y_label, height)]
    for i, one in enumerate(lines, 1):
        shown = np.isfinite(one.values)
        points = zip(x[shown].tolist(), one.values[shown].tolist(), strict=True)
        parts.append(svg.path([(across(a), up(b)) for a, b in points], f"line s{i}"))
    names = ", ".join(one.name for one in lines)
    return svg.canvas(WIDTH, height, "".join(parts), f"{y_label} over {x_label}: {names}")


def calibration_chart(centers: FloatArray, right: FloatArray, counts: Sequence[int]) -> str:
    """Share of right detections by score, against the diagonal; the number of each bin below.

    Args:
        centers: (B,) mean score of each bin; right: (B,) share, NaN where the bin is empty.
    """
    height, across, up = 360.0, Scale(0, 1, 44, WIDTH - 12), Scale(0, 1, 254, 12)
    parts = [_unit_grid(across, up, "score", "share that is right", 300.0)]
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
    return svg.canvas(WIDTH, height, "".join(parts), "Calibration of scores")


def _unit_grid(across: Scale, up: Scale, x_label: str, y_label: str, height: float) -> str:
    parts = []
    for tick in np.linspace(0, 1, 6):
        parts.append(svg.line(across(0), up(tick), across(1), up(tick), "grid"))
        parts.append(svg.text(across(0) - 6, up(tick) + 4, f"{tick:.1f}", "end"))
        parts.append(svg.text(across(tick), up(0) + 17, f"{tick:.1f}", "middle"))
    parts.append(svg.text((across(0) + across(1)) / 2, height - 8, x_label, "middle", "axis"))
    rotate = f"rotate(-90 12 {svg.number((up(0) + up(1)) / 2)})"
    parts.append(
        svg.element(
            "text",
            svg.escape(y_label),
            x=12,
            y=(up(0) + up(1)) / 2,
            text_anchor="middle",
            transform=rotate,
            class_="axis",
        )
    )
    return "".join(parts)


def dot_chart(names: Sequence[str], dots: Sequence[Series], label: str) -> str:
    """A row a name, on it a dot a series, over 0 to 1."""
    across = Scale(0, 1, _LABELS, WIDTH - 12)
    bottom = 8 + _ROW * len(names)
    parts = []
    for tick in np.linspace(0, 1, 6):
        parts.append(svg.line(across(tick), 4, across(tick), bottom, "grid"))
        parts.append(svg.text(across(tick), bottom + 16, f"{tick:.1f}", "middle"))
    for row, name in enumerate(names):
        y = 8 + _ROW * (row + 0.5)
        parts.append(svg.text(_LABELS - 8, y + 4, name, "end"))
        values = [float(one.values[row]) for one in dots]
        seen = [v for v in values if np.isfinite(v)]
        if seen:
            parts.append(svg.line(across(min(seen)), y, across(max(seen)), y, "span"))
        for i, (one, value) in enumerate(zip(dots, values, strict=True), 1):
            if np.isfinite(value):
                words = f"{name}, {one.name}: {value:.3f}"
                parts.append(_dot(across(value), y, i, words))
    parts.append(svg.text(across(0.5), bottom + 34, label, "middle", "axis"))
    return svg.canvas(WIDTH, bottom + 42, "".join(parts), f"{label} by category")


def _dot(x: float, y: float, series: int, words: str = "") -> str:
    """A mark of its own shape for each series, so that colour is not all that tells them apart."""
    shapes = {
        1: "M-5 0A5 5 0 1 1 5 0A5 5 0 1 1 -5 0",
        2: "M-4.5 -4.5H4.5V4.5H-4.5Z",
        3: "M0 -6L6 4.5H-6Z",
        4: "M0 -6L6 0L0 6L-6 0Z",
    }
    return svg.element(
        "path",
        svg.title(words) if words else "",
        d=shapes[(series - 1) % 4 + 1],
        transform=f"translate({svg.number(x)} {svg.number(y)})",
        class_=f"dot s{series}",
    )


def bar_chart(names: Sequence[str], bars: Sequence[Series], label: str) -> str:
    """Horizontal bars, the series one after the other in each; totals at their ends."""
    totals = np.nansum([one.values for one in bars], axis=0)
    ticks = svg.nice_ticks(max(float(totals.max(initial=0)), 1.0))
    across = Scale(0, ticks[-1], _LABELS, WIDTH - 48)
    bottom = 8 + _ROW * len(names)
    parts = []
    for tick in ticks:
        parts.append(svg.line(across(tick), 4, across(tick), bottom, "grid"))
        parts.append(svg.text(across(tick), bottom + 16, f"{tick:,g}", "middle"))
    for row, name in enumerate(names):
        y, x = 8 + _ROW * row, across(0)
        parts.append(svg.text(_LABELS - 8, y + _ROW / 2 + 4, name, "end"))
        for i, one in enumerate(bars, 1):
            wide = across(float(one.values[row])) - across(0)
            words = f"{name}, {one.name}: {one.values[row]:,g}"
            if wide > 0:
                parts.append(svg.rectangle(x, y + 3, max(wide - 1, 0.5), _ROW - 6, f"s{i}", words))
            x += wide
        parts.append(svg.text(x + 5, y + _ROW / 2 + 4, f"{totals[row]:,g}", class_="value"))
    parts.append(svg.text(across(ticks[-1] / 2), bottom + 34, label, "middle", "axis"))
    return svg.canvas(WIDTH, bottom + 42, "".join(parts), label)


def heat_map(
    rows: Sequence[str], columns: Sequence[str], shares: FloatArray, counts: IntArray, label: str
) -> str:
    """A table of cells, the darker the larger their share of the row.

    Args:
        shares: (rows, columns) from 0 to 1; counts: what stands in the cells.
    """
    left, top, side = _LABELS, 132.0, 24.0
    parts = []
    for c, name in enumerate(columns):
        x = left + side * (c + 0.5) + 4
        place = f"translate({svg.number(x)} {top - 6:g}) rotate(-60)"
        parts.append(svg.element("text", svg.escape(name), transform=place))
    for r, name in enumerate(rows):
        y = top + side * r
        parts.append(svg.text(left - 8, y + side / 2 + 4, name, "end"))
        for c, column in enumerate(columns):
            share, count = float(shares[r, c]), int(counts[r, c])
            words = f"{name} taken for {column}: {count} ({share:.0%})"
            parts.append(_cell(left + side * c, y, side, share, str(count or ""), words))
    wide, tall = left + side * len(columns) + 44, top + side * len(rows) + 6
    return svg.canvas(wide, tall, "".join(parts), label)


def _cell(x: float, y: float, side: float, share: float, words: str, tip: str) -> str:
    x, y, wide = x + 1, y + 1, side - 2
    parts = [svg.rectangle(x, y, wide, wide, "empty", tip)]
    if share > 0:
        shade = {"class_": "heat", "fill_opacity": 0.12 + 0.88 * share, "pointer_events": "none"}
        parts.append(svg.element("rect", "", x=x, y=y, width=wide, height=wide, **shade))
    strong = "cell strong" if share > 0.45 else "cell"
    if words:
        parts.append(svg.text(x + wide / 2, y + wide / 2 + 4, words, "middle", strong))
    return "".join(parts)
