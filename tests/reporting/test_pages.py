"""Pages and their tables; what other people named comes out as text."""

from html.parser import HTMLParser

from markupsafe import Markup

from match_rcnn.reporting.pages import Facts, Figure, Group, Page, Section, Table

EVIL = "<img src=x onerror=alert(1)>"


def html_of(table):
    return Page("heading", [Section("title", tables=[table])]).to_html()


def test_names_may_break_after_an_underscore():
    table = Table("T", ["", "my_run"])
    table.add("a_<b", "1_2")
    assert '<th scope="col" class="head"></th><th scope="col">my_<wbr>run</th>' in html_of(table)
    assert '<th scope="row">a_<wbr>&lt;b</th><td>1_2</td>' in html_of(table)


def test_markdown_and_html():
    table = Table("T", ["", "a|b", "c"], groups=[("g", 2)], note="n < m")
    table.add("x", "1", "2", quiet=True)
    assert table.to_markdown().splitlines() == [
        "### T",
        "",
        "|  | g: a\\|b | g: c |",
        "| --- | ---: | ---: |",
        "| x | 1 | 2 |",
        "",
        "n < m",
    ]
    html = html_of(table)
    assert '<tr class="quiet"><th scope="row">x</th><td>1</td><td>2</td></tr>' in html
    assert '<th colspan="2" scope="colgroup">g</th>' in html
    assert "n &lt; m" in html


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_whatever_a_name_holds_it_stays_text():
    table = Table(EVIL, [EVIL, EVIL], groups=[(EVIL, 1)], note=EVIL)
    table.add(EVIL, EVIL)
    figure = Figure(Markup("<svg></svg>"), caption=EVIL, value=EVIL, words=EVIL, address=EVIL)
    group = Group([figure], title=EVIL, note=EVIL)
    rows = Group(rows=[[figure]], layout="photos")
    section = Section(EVIL, EVIL, [table], [group, rows], [table])
    page = Page(EVIL, [section], EVIL, [Facts(EVIL, {EVIL: EVIL}, EVIL)]).to_html()
    tags = Tags(page).found
    assert not [attributes for _, attributes in tags if "onerror" in attributes]
    assert [attributes["src"] for tag, attributes in tags if tag == "img"] == [EVIL, EVIL]
    assert page.count("<svg></svg>") == 2


def test_columns_after_the_groups_are_set_apart():
    table = Table("T", ["", "a", "b", "c", "d"], groups=[("g", 2)])
    assert table.ungrouped == 2
    assert '<td class="after"></td><td></td></tr>' in html_of(table)
