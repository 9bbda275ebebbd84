import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.reporting.charts import landmarks, plots
from match_rcnn.reporting.charts.plots import Series
from match_rcnn.reporting.pages import Page, Section

SVG = "{http://www.w3.org/2000/svg}"


def parse(chart):
    return ElementTree.fromstring(chart)


def tips(chart):
    return [node.text for node in parse(chart).iter(SVG + "title")]


def test_line_chart_spans_the_unit_square():
    lines = [Series("a", np.array([1.0, 0.0])), Series("b", np.array([np.nan, 0.5]))]
    root = parse(plots.line_chart(np.array([0.0, 1.0]), lines, "recall", "precision"))
    paths = [node.attrib["d"] for node in root.iter(SVG + "path")]
    right = int(plots.WIDTH) - 12
    assert paths == [f"M44 12L{right} 254", f"M{right} 133"]


def test_dot_chart_has_a_dot_a_value():
    dots = [Series("boxes", np.array([0.25, np.nan])), Series("masks", np.array([0.5, 1.0]))]
    found = tips(plots.dot_chart(["top & skirt", "vest"], dots, "AP"))
    assert found == [
        "top & skirt, boxes: 0.250",
        "top & skirt, masks: 0.500",
        "vest, masks: 1.000",
    ]


def test_bars_lie_one_after_the_other():
    bars = [Series("user", np.array([30.0, 0])), Series("shop", np.array([20.0, 10]))]
    root = parse(plots.bar_chart(["a", "b"], bars, "items"))
    found = [(float(r.attrib["x"]), float(r.attrib["width"])) for r in root.iter(SVG + "rect")]
    assert len(found) == 3  # nothing for 0
    (x, wide), (after, _), (start, _) = found
    assert after == pytest.approx(x + wide + 1, abs=0.05)
    assert start == x
    labels = [t.text for t in root.iter(SVG + "text") if t.attrib.get("class") == "value"]
    assert labels == ["50", "10"]


def test_no_bars():
    assert parse(plots.bar_chart([], [Series("user", np.zeros(0))], "items")) is not None


def test_heat_map_shades_by_share_and_shows_counts():
    shares = np.array([[1.0, 0.0], [0.25, 0.75]])
    counts = np.array([[4, 0], [1, 3]])
    chart = plots.heat_map(["a", "b"], ["a", "b"], shares, counts, "confusion")
    assert tips(chart)[3] == "b taken for b: 3 (75%)"
    shades = re.findall(r'fill-opacity="([0-9.]+)"', chart)
    assert shades == ["1", "0.34", "0.78"]


def test_calibration_chart_skips_empty_bins():
    right = np.array([0.5, np.nan])
    chart = plots.calibration_chart(np.array([0.25, np.nan]), right, [8, 0])
    assert "score 0.25: 50% of 8 are right" in tips(chart)
    assert chart.count("<circle") == 1


@pytest.mark.parametrize("kind", ["lines", "dots", "bars"])
def test_legend_only_for_several(kind):
    assert plots.legend(["one"], "lines") == ""
    assert plots.legend(["a<b", "c"], kind).count("<li>") == 2
    assert "a&lt;b" in plots.legend(["a<b", "c"], kind)


def test_landmark_drawing_marks_every_landmark():
    skirt = DEEPFASHION2.category(9)
    values = np.linspace(0, 0.1, skirt.num_landmarks)
    values[3] = np.nan
    counts = np.arange(skirt.num_landmarks)
    chart = landmarks.landmark_drawing(skirt, values, counts, highest=0.05)
    assert "landmark 4: not measured" in tips(chart)
    assert "landmark 8: 10.0%, measured 7 times" in tips(chart)
    assert len(tips(chart)) == skirt.num_landmarks
    assert chart.count('class="outline"') == len(skirt.paths)


def drawn(values, counts, highest):
    group = landmarks.landmark_drawings("a run", DEEPFASHION2.categories, values, counts, highest)
    return group, Page("heading", [Section("title", groups=[group])]).to_html()


def test_thirteen_drawings_with_one_scale():
    values = {c.id: np.full(c.num_landmarks, c.id / 100) for c in DEEPFASHION2.categories}
    counts = {c.id: np.ones(c.num_landmarks, int) for c in DEEPFASHION2.categories}
    highest = landmarks.strongest(values.values())
    assert highest == pytest.approx(0.13)
    group, html = drawn(values, counts, highest)
    assert len(group.figures) == html.count("<figure>") == 13
    assert "13.0% or more" in html
    assert "<figcaption>skirt <b>9.0%</b>" in html


def test_nothing_measured():
    values = {c.id: np.full(c.num_landmarks, np.nan) for c in DEEPFASHION2.categories}
    counts = {c.id: np.zeros(c.num_landmarks, int) for c in DEEPFASHION2.categories}
    assert landmarks.strongest(values.values()) == 0
    assert "none measured" in drawn(values, counts, 0.0)[1]


def test_losses_lie_where_their_values_are():
    """Iterations 0 to 10 and values 0 to 2: the ticks' ends are the box's corners."""
    line = (np.array([0.0, 5, 10]), np.array([2.0, 1, 0]))
    other = (np.array([10.0, 11]), np.array([np.nan, np.inf]))
    root = parse(plots.loss_chart("loss_mask", [line, other]))
    (path,) = [node.attrib["d"] for node in root.iter(SVG + "path")]
    left, right = 44, int(plots.WIDTH) - 12
    # Ticks of iterations end at 15, of values at 2.
    ten, five = (plots.svg.number(left + share * (right - left)) for share in (2 / 3, 1 / 3))
    assert path == f"M44 12L{five} 133L{ten} 254"
