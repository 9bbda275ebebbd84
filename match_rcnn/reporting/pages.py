"""Sections of tables and figures to one HTML page, with everything in it, and to Markdown.

The page is ``templates/page.html``, filled with every text escaped: names of files, runs, data
sets and categories are other people's.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from match_rcnn.utils.files import atomic_write


@dataclass
class Table:
    """Text in rows and columns.

    Attributes:
        title: such as ``"Table 3: boxes by subset"``.
        groups: (name, number of columns) over the header, after the columns ``heads``.
        headers: of all columns.
        rows: cells, as many as headers.
        heads: how many of the first columns name the row.
        quiet: indices of rows that are not ours (published).
        note: a sentence below.
    """

    title: str
    headers: list[str]
    rows: list[list[str]] = field(default_factory=list)
    groups: list[tuple[str, int]] = field(default_factory=list)
    heads: int = 1
    quiet: set[int] = field(default_factory=set)
    note: str = ""

    def add(self, *cells: str, quiet: bool = False) -> None:
        assert len(cells) == len(self.headers)
        if quiet:
            self.quiet.add(len(self.rows))
        self.rows.append(list(cells))

    @property
    def ungrouped(self) -> int:
        """The columns at the end that no group is over."""
        return len(self.headers) - self.heads - sum(span for _, span in self.groups)

    def to_markdown(self) -> str:
        names = [""] * self.heads + [n for n, span in self.groups for _ in range(span)]
        names += [""] * self.ungrouped
        headers = [f"{n}: {h}" if n else h for n, h in zip(names, self.headers, strict=True)]
        lines = [headers, ["---"] * self.heads + ["---:"] * (len(headers) - self.heads), *self.rows]
        table = "\n".join("| " + " | ".join(map(_plain, cells)) + " |" for cells in lines)
        return f"### {self.title}\n\n{table}\n" + (f"\n{self.note}\n" if self.note else "")


def _plain(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")


@dataclass(frozen=True)
class Figure:
    """A chart, or a picture by its address, and what stands below.

    Attributes:
        words: what the picture shows, for who does not see it.
        value: of the caption, its number.
        kind: a class of the style sheet.
    """

    chart: Markup | str = ""
    address: str = ""
    words: str = ""
    caption: str = ""
    value: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Group:
    """Figures laid out together, one after the other or in rows.

    Attributes:
        layout: classes of the style sheet.
        key: a chart above all figures.
    """

    figures: Sequence[Figure] = ()
    layout: str = "grid"
    title: str = ""
    note: str = ""
    key: Markup | str = ""
    rows: Sequence[Sequence[Figure]] = ()


@dataclass(frozen=True)
class Section:
    """Attributes:
    title: of the section; lead: what it shows and how it was measured.
    tables: in both files; groups: figures, in the page only, beside or below the tables.
    numbers: what the figures show, as tables: folded away in the page.
    """

    title: str
    lead: str = ""
    tables: Sequence[Table] = ()
    groups: Sequence[Group] = ()
    numbers: Sequence[Table] = ()

    @property
    def anchor(self) -> str:
        return "".join(c if c.isalnum() else "-" for c in self.title.lower())

    def to_markdown(self) -> str:
        tables = (table.to_markdown() for table in (*self.tables, *self.numbers))
        return _joined([f"## {self.title}", self.lead, *tables])


@dataclass(frozen=True)
class Facts:
    """What is known of a run, in words; ``link``: to its own page."""

    name: str
    terms: Mapping[str, str]
    link: str = ""

    def to_markdown(self) -> str:
        terms = "\n".join(f"- {key}: {value}" for key, value in self.terms.items())
        return _joined([f"**{self.name}**" if self.link else "", terms])


@dataclass(frozen=True)
class Page:
    """Attributes: intro: a sentence below the heading; facts: below that."""

    heading: str
    sections: Sequence[Section]
    intro: str = ""
    facts: Sequence[Facts] = ()

    def to_html(self) -> str:
        return _environment().get_template("page.html").render(page=self)

    def to_markdown(self) -> str:
        parts = [*(facts.to_markdown() for facts in self.facts)]
        parts += [section.to_markdown() for section in self.sections]
        return _joined([f"# {self.heading}", self.intro, *parts]) + "\n"

    def write(self, stem: Path) -> Path:
        """Write ``stem`` + ``.html`` and ``.md``; returns the first."""
        html, markdown = (stem.with_name(stem.name + suffix) for suffix in (".html", ".md"))
        for path, text in ((html, self.to_html()), (markdown, self.to_markdown())):
            with atomic_write(path) as file:
                file.write(text.encode("utf-8"))
        return html


def _joined(parts: Iterable[str]) -> str:
    return "\n\n".join(part.strip() for part in parts if part)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("match_rcnn.reporting"), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["breakable"] = _breakable
    return environment


def _breakable(name: str) -> Markup:
    """Names of runs are long and may break after an underscore."""
    return Markup(escape(name).replace("_", Markup("_<wbr>")))
