import xml.etree.ElementTree as ElementTree

import pytest

from match_rcnn.reporting.charts import svg


def test_element_escapes_and_shortens():
    made = svg.element("text", "a < b", x=1.0, y=2.345678, text_anchor="end", class_="c")
    assert made == '<text x="1" y="2.35" text-anchor="end" class="c">a &lt; b</text>'
    assert svg.element("rect", fill=None, title='"&') == '<rect title="&#34;&amp;"/>'


@pytest.mark.parametrize(
    ("value", "written"), [(0.0, "0"), (-0.001, "0"), (1.5, "1.5"), (100.0, "100"), (0.126, "0.13")]
)
def test_number(value, written):
    assert svg.number(value) == written


@pytest.mark.parametrize(
    ("high", "ticks"),
    [
        (1, [0, 0.5, 1]),
        (10, [0, 5, 10]),
        (7, [0, 2, 4, 6, 8]),
        (1234, [0, 500, 1000, 1500]),
        (0.03, [0, 0.01, 0.02, 0.03]),
    ],
)
def test_nice_ticks(high, ticks):
    assert svg.nice_ticks(high) == pytest.approx(ticks)


def test_scale_and_path():
    up = svg.Scale(0, 2, 100, 0)
    assert [up(0), up(1), up(2)] == [100, 50, 0]
    assert svg.path([(0, 1), (2.5, 3)], "line") == '<path d="M0 1L2.5 3" class="line"/>'
    assert svg.path([], "line") == ""


def test_canvas_is_xml():
    made = svg.canvas(10, 20, [svg.text(1, 2, "x & y")], "a <picture>")
    root = ElementTree.fromstring(made)
    assert root.attrib["viewBox"] == "0 0 10 20"
    assert root.attrib["aria-label"] == "a <picture>"
