import re
from html.parser import HTMLParser

import pytest

from match_rcnn.reporting.numbers.runs import Where
from match_rcnn.reporting.run_report import write_reports

VOID = {"meta", "img", "br", "hr", "input", "link"}


class Checker(HTMLParser):
    """Every element is closed in order; whatever is loaded lies in the page."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.anchors, self.outside, self.images = [], set(), set(), [], 0
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        self.ids.add(attributes.get("id"))
        for key in ("src", "href"):
            value = attributes.get(key, "")
            if value.startswith("#"):
                self.anchors.add(value[1:])
            elif value and not value.startswith("data:"):
                self.outside.append(value)
        self.images += tag == "img"
        assert tag not in ("script", "link", "iframe")

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def written(tmp_path_factory, data, perfect, flawed):
    output = tmp_path_factory.mktemp("report")
    where = Where(data / "gt.json", data / "image", "measured on a test")
    return write_reports([perfect, flawed], output, where, shown=2)


def test_files(written):
    folder = written[0].parent
    assert [page.name for page in written] == ["index.html", "perfect.html", "flawed.html"]
    assert sorted(file.name for file in folder.iterdir()) == sorted(
        f"{name}.{suffix}" for name in ("index", "perfect", "flawed") for suffix in ("html", "md")
    )


def test_pages_are_whole_and_load_nothing(written):
    for page in written:
        found = Checker(page.read_text())
        assert found.anchors <= found.ids
        links = ["perfect.html", "flawed.html"] if page.stem == "index" else []
        assert found.outside == links
        assert "url(" not in page.read_text()


def test_everything_is_there(written):
    for page in written:
        text = page.read_text()
        titles = re.findall("<h2>(.*?)</h2>", text)
        assert titles == [
            "At a glance",
            "By subset",
            "Retrieval",
            "By category",
            "Precision and recall",
            "Landmark errors",
            "Confusion between categories",
            "Calibration of scores",
            "Best and worst photos",
            "Retrieved items",
        ]


def test_photos_of_all_runs_stand_side_by_side(written):
    index, perfect, _ = (Checker(page.read_text()).images for page in written)
    # Two best and two worst, annotated and predicted; two queries (1: no misses) with two items.
    assert perfect == 4 * 2 + 1 * 3
    assert index == 4 * 3 + 2 * 1 * 3
    assert written[1].read_text().count('figure class="right"') == 1


def test_markdown_has_the_tables(written):
    text = written[1].with_suffix(".md").read_text()
    for title in ("Table 3: boxes", "Table 5: landmarks, visible", "Table 7", "Table 8", "Table 9"):
        assert f"### {title}" in text
    assert "measured on a test" in text
    assert "<" not in text.replace("< ", "")


def test_no_photos_are_asked_for(tmp_path, data, perfect):
    where = Where(data / "gt.json", data / "image")
    (page,) = write_reports([perfect], tmp_path, where, shown=0)
    assert "<img" not in page.read_text()


def test_missing_photos_are_left_out(tmp_path, data, perfect):
    (page,) = write_reports([perfect], tmp_path, Where(data / "gt.json", tmp_path))
    text = page.read_text()
    assert "<img" not in text
    assert "Best and worst" not in text
