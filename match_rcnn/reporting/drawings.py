"""The 13 drawn garments with a number at each landmark, shown as colour and size."""

from collections.abc import Iterable, Mapping

import numpy as np

from match_rcnn.data.synthetic.templates import TEMPLATES
from match_rcnn.data.taxonomy import CATEGORIES, Category
from match_rcnn.reporting import svg
from match_rcnn.utils.arrays import FloatArray, IntArray

_TALL, _MARGIN = 150.0, 16.0


def landmark_drawing(
    category: Category, values: FloatArray, counts: IntArray, highest: float
) -> str:
    """Args:
    values: (n,) drawn from pale (0) to strong (``highest``), hollow where NaN.
    counts: (n,) how often each was measured.
    """
    wide = _TALL * TEMPLATES[category.id].aspect
    points = _MARGIN + TEMPLATES[category.id].xy * [wide, _TALL]
    parts = [svg.path([tuple(points[i]) for i in outline], "outline") for outline in category.paths]
    for i, (x, y) in enumerate(points.tolist()):
        if not np.isfinite(values[i]):
            words = f"landmark {i + 1}: not measured"
            tip = svg.title(words)
            parts.append(svg.element("circle", tip, cx=x, cy=y, r=3.0, class_="hollow"))
            continue
        share = min(1.0, float(values[i]) / highest) if highest else 0.0
        words = f"landmark {i + 1}: {values[i]:.1%}, measured {counts[i]} times"
        parts.append(svg.element("circle", cx=x, cy=y, r=3 + 4 * share, class_="paper"))
        parts.append(
            svg.element(
                "circle",
                svg.title(words),
                cx=x,
                cy=y,
                r=3 + 4 * share,
                class_="heat",
                fill_opacity=0.15 + 0.85 * share,
            )
        )
    size = (wide + 2 * _MARGIN, _TALL + 2 * _MARGIN)
    return svg.canvas(*size, "".join(parts), f"Landmarks of {category.name}")


def strongest(values: Iterable[FloatArray]) -> float:
    """The end of a scale for all of these: what two in a hundred exceed; 0 if there are none."""
    every = np.concatenate([np.zeros(0), *(v[np.isfinite(v)] for v in values)])
    return float(np.quantile(every, 0.98)) if len(every) else 0.0


def landmark_drawings(
    values: Mapping[int, FloatArray],
    counts: Mapping[int, IntArray],
    highest: float,
    open_ended: bool = True,
) -> str:
    """HTML: all 13, and the scale.

    Args:
        values, counts: (n,) by category id.
        open_ended: whether there may be values above ``highest``.
    """
    figures = "".join(
        f"<figure>{landmark_drawing(c, values[c.id], counts[c.id], highest)}"
        f"<figcaption>{c.name}{_mean(values[c.id])}</figcaption></figure>"
        for c in CATEGORIES
    )
    return f'{_key(highest, open_ended)}<div class="drawings">{figures}</div>'


def _mean(values: FloatArray) -> str:
    seen = values[np.isfinite(values)]
    return f" <b>{seen.mean():.1%}</b>" if len(seen) else " (none measured)"


def _key(highest: float, open_ended: bool) -> str:
    parts = []
    for i in range(5):
        share, x = i / 4, 20.0 + 70 * i
        shade = 0.15 + 0.85 * share
        parts.append(
            svg.element("circle", cx=x, cy=12, r=3 + 4 * share, class_="heat", fill_opacity=shade)
        )
        more = " or more" if i == 4 and open_ended else ""
        parts.append(svg.text(x, 36, f"{share * highest:.1%}{more}", "middle"))
    return svg.canvas(350, 42, "".join(parts), "Scale")
