"""Drawn garments with a number at each landmark, shown as colour and size."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from markupsafe import Markup

from match_rcnn.data.synthetic.templates import TEMPLATES
from match_rcnn.data.taxonomy import DEEPFASHION2, Category
from match_rcnn.reporting.charts import svg
from match_rcnn.reporting.pages import Figure, Group
from match_rcnn.utils.arrays import FloatArray, IntArray

_TALL, _MARGIN = 150.0, 16.0


def landmark_drawing(
    category: Category, values: FloatArray, counts: IntArray, highest: float
) -> Markup:
    """Args:
    values: (n,) drawn from pale (0) to strong (``highest``), hollow where NaN.
    counts: (n,) how often each was measured.
    """
    aspect, places = _shape(category)
    wide = _TALL * aspect
    points = _MARGIN + places * [wide, _TALL]
    names = [f"landmark {name}" if name.isdigit() else name for name in category.landmark_names]
    parts = [svg.path([tuple(points[i]) for i in outline], "outline") for outline in category.paths]
    for i, (x, y) in enumerate(points.tolist()):
        if not np.isfinite(values[i]):
            tip = svg.title(f"{names[i]}: not measured")
            parts.append(svg.element("circle", tip, cx=x, cy=y, r=3.0, class_="hollow"))
            continue
        share = min(1.0, float(values[i]) / highest) if highest else 0.0
        tip = svg.title(f"{names[i]}: {values[i]:.1%}, measured {counts[i]} times")
        parts.append(svg.element("circle", cx=x, cy=y, r=3 + 4 * share, class_="paper"))
        parts.append(_mark(x, y, share, tip))
    size = (wide + 2 * _MARGIN, _TALL + 2 * _MARGIN)
    return svg.canvas(*size, parts, f"Landmarks of {category.name}")


def _shape(category: Category) -> tuple[float, FloatArray]:
    """Width / height of the drawing, and where its landmarks lie in the unit square, (n, 2): a
    drawn garment for DeepFashion2's categories, a ring in their order for all others."""
    for known in DEEPFASHION2.categories:
        if (known.id, known.landmark_names) == (category.id, category.landmark_names):
            return TEMPLATES[known.id].aspect, TEMPLATES[known.id].xy
    angles = 2 * np.pi * np.arange(category.num_landmarks) / category.num_landmarks
    return 1.0, 0.5 + 0.5 * np.stack([np.sin(angles), -np.cos(angles)], axis=1)


def _mark(x: float, y: float, share: float, *tip: Markup) -> Markup:
    shade = {"class_": "heat", "fill_opacity": 0.15 + 0.85 * share}
    return svg.element("circle", *tip, cx=x, cy=y, r=3 + 4 * share, **shade)


def strongest(values: Iterable[FloatArray]) -> float:
    """The end of a scale for all of these: what two in a hundred exceed; 0 if there are none."""
    every = np.concatenate([np.zeros(0), *(v[np.isfinite(v)] for v in values)])
    return float(np.quantile(every, 0.98)) if len(every) else 0.0


def landmark_drawings(
    title: str,
    categories: Sequence[Category],
    values: Mapping[int, FloatArray],
    counts: Mapping[int, IntArray],
    highest: float,
    open_ended: bool = True,
) -> Group:
    """One drawing a category that has landmarks, and the scale.

    Args:
        values, counts: (n,) by category id.
        open_ended: whether there may be values above ``highest``.
    """
    figures = [
        Figure(
            landmark_drawing(c, values[c.id], counts[c.id], highest),
            caption=c.name if np.isfinite(values[c.id]).any() else f"{c.name} (none measured)",
            value=_mean(values[c.id]),
        )
        for c in categories
        if c.num_landmarks
    ]
    return Group(figures, "drawings", title, key=_key(highest, open_ended))


def _mean(values: FloatArray) -> str:
    seen = values[np.isfinite(values)]
    return f"{seen.mean():.1%}" if len(seen) else ""


def _key(highest: float, open_ended: bool) -> Markup:
    parts = []
    for i in range(5):
        share, x = i / 4, 20.0 + 70 * i
        parts.append(_mark(x, 12.0, share))
        more = " or more" if i == 4 and open_ended else ""
        parts.append(svg.text(x, 36, f"{share * highest:.1%}{more}", "middle"))
    return svg.canvas(350, 42, parts, "Scale")
