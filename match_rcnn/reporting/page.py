"""Sections to one HTML page, with everything in it, and to Markdown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from match_rcnn.reporting.style import STYLE
from match_rcnn.reporting.tables import Table
from match_rcnn.utils.files import atomic_write


@dataclass
class Section:
    """Attributes:
    title: of the section; lead: what it shows and how it was measured.
    tables: in both files; html: figures, in the page only, beside or below the tables.
    numbers: what the figures show, as tables: folded away in the page.
    """

    title: str
    lead: str = ""
    tables: list[Table] = field(default_factory=list)
    html: str = ""
    numbers: list[Table] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        return "".join(c if c.isalnum() else "-" for c in self.title.lower())

    def to_html(self) -> str:
        lead = f"<p class='lead'>{escape(self.lead)}</p>" if self.lead else ""
        tables = "".join(f"<div class='table'>{table.to_html()}</div>" for table in self.tables)
        figures = f"<div class='figures'>{self.html}</div>" if self.html else ""
        folded = "".join(
            f"<details><summary>{escape(table.title)}, in numbers</summary>{table.to_html()}"
            "</details>"
            for table in self.numbers
        )
        return (
            f"<section id='{self.anchor}'><h2>{escape(self.title)}</h2>{lead}"
            f"<div class='row'>{tables}{figures}</div>{folded}</section>"
        )

    def to_markdown(self) -> str:
        tables = (table.to_markdown() for table in (*self.tables, *self.numbers))
        parts = [f"## {self.title}", self.lead, *tables]
        return "\n\n".join(part.strip() for part in parts if part)


def figure(content: str, caption: str = "", class_: str = "") -> str:
    """Args: content: HTML; caption: text."""
    words = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure class='{class_}'>{content}{words}</figure>"


def grid(figures: Iterable[str], class_: str = "") -> str:
    return f"<div class='grid {class_}'>{''.join(figures)}</div>"


def picture(address: str, words: str) -> str:
    """Args: words: what the picture shows, for who does not see it."""
    return f"<img src='{address}' alt='{escape(words, quote=True)}' loading='lazy'>"


def write_page(path: Path, heading: str, intro: str, sections: Sequence[Section]) -> None:
    """Args: intro: HTML below the heading."""
    links = "".join(f"<li><a href='#{s.anchor}'>{escape(s.title)}</a></li>" for s in sections)
    html = (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(heading)}</title><style>\n{STYLE}</style></head>\n<body>"
        f"<header><h1>{escape(heading)}</h1>{intro}</header>"
        f"<nav aria-label='Sections'><ul>{links}</ul></nav>\n<main>"
        + "\n".join(section.to_html() for section in sections)
        + "</main></body></html>\n"
    )
    _write(path, html)


def write_markdown(path: Path, heading: str, intro: str, sections: Sequence[Section]) -> None:
    """Args: intro: Markdown below the heading."""
    parts = [f"# {heading}", intro, *(section.to_markdown() for section in sections)]
    _write(path, "\n\n".join(part.strip() for part in parts if part) + "\n")


def _write(path: Path, words: str) -> None:
    with atomic_write(path) as file:
        file.write(words.encode("utf-8"))
