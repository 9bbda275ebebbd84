"""What commands write between the marks of a page, and what they leave."""

from pathlib import Path

import pytest

from match_rcnn.experiments import ablation, accuracy, fashionnet, survey_page
from match_rcnn.experiments.pages import TablePage, markdown_table, spread

PAGE = TablePage("weigh", "Weights")
BEGIN, END = "<!-- tables by tools/weigh.py -->", "<!-- end of the tables -->"
DOCS = Path(__file__).parents[2] / "docs"


def test_what_people_wrote_stays(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"# Own\n\nwords\n\n{BEGIN}\nold\n{END}\n\nmore words\n")
    PAGE.write(page, "new")
    expected = f"# Own\n\nwords\n\n{BEGIN}\n\nnew\n{END}\n\nmore words\n"
    assert page.read_text() == expected
    PAGE.write(page, "new")
    assert page.read_text() == expected


def test_a_page_that_is_not_there_gets_its_title(tmp_path):
    PAGE.write(tmp_path / "page.md", "new")
    assert (tmp_path / "page.md").read_text() == f"# Weights\n\n{BEGIN}\n\nnew\n{END}\n"


@pytest.mark.parametrize("text", ["", BEGIN, f"{END}\n{BEGIN}"])
def test_a_page_without_marks_is_left_as_it_is(tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(f"# A page of one's own\n{text}")
    with pytest.raises(ValueError, match=r"page\.md does not say where its tables are"):
        PAGE.around(page)
    with pytest.raises(ValueError, match="put the lines '<!-- tables by"):
        PAGE.write(page, "new")
    assert page.read_text() == f"# A page of one's own\n{text}"


@pytest.mark.parametrize("module", [ablation, accuracy, fashionnet, survey_page])
def test_the_repository_s_pages_have_their_marks(module):
    page = DOCS / f"{module.PAGE.command}.md"
    before, _ = module.PAGE.around(page)
    assert page.is_file()
    assert before.startswith("# ")


def test_a_table():
    table = markdown_table(["", "top-1"], [["DARN", "0.36"]])
    assert table == "|  | top-1 |\n| --- | --- |\n| DARN | 0.36 |"


@pytest.mark.parametrize(
    ("values", "digits", "text"),
    [([], 1, "-"), ([31.44], 1, "31.4"), ([30, 32], 2, "31.00 ± 1.41"), (iter([1]), 0, "1")],
)
def test_spread(values, digits, text):
    assert spread(values, digits) == text
