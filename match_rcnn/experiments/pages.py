"""Pages of ``docs/`` of which a command writes the tables, and people the rest."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from match_rcnn.utils.files import atomic_write


@dataclass(frozen=True)
class TablePage:
    """Where a command's tables lie in a page: between two lines.

    Attributes:
        command: the file of ``tools/`` that writes them, without its ending.
        title: of a page that is not there yet.
    """

    command: str
    title: str

    @property
    def marks(self) -> tuple[str, str]:
        return f"<!-- tables by tools/{self.command}.py -->", "<!-- end of the tables -->"

    def around(self, page: Path) -> tuple[str, str]:
        """What people wrote before and after the tables, with the marks; a heading and nothing
        where there is no page yet. Commands ask before their hours of work.

        Raises:
            ValueError: the page has no marks.
        """
        begin, end = self.marks
        text = page.read_text("utf-8") if page.is_file() else f"# {self.title}\n\n{begin}\n{end}\n"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise ValueError(
                f"{page} does not say where its tables are: put the lines {begin!r} and {end!r} "
                "there"
            )
        return before + begin, end + after

    def write(self, page: Path, tables: str) -> None:
        """Put tables between the marks.

        Raises:
            ValueError: the page has no marks.
        """
        before, after = self.around(page)
        with atomic_write(page) as file:
            file.write(f"{before}\n\n{tables}\n{after}".encode())


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(values: Iterable[float], digits: int = 1) -> str:
    """Mean and sample standard deviation: ``"31.4 ± 0.8"``, the mean alone of one value, ``"-"`` of
    none."""
    known = list(values)
    if not known:
        return "-"
    mean = f"{statistics.fmean(known):.{digits}f}"
    return mean if len(known) == 1 else f"{mean} ± {statistics.stdev(known):.{digits}f}"
