"""From runs to report files; the work of ``tools/report.py``."""

import logging
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from match_rcnn.reporting.page import Section, write_markdown, write_page
from match_rcnn.reporting.runs import Run, Where, read_runs
from match_rcnn.reporting.sections import build

logger = logging.getLogger(__name__)


def write_reports(
    folders: Sequence[Path],
    output: Path,
    where: Where = Where(),  # noqa: B008
    dataset: str | None = None,
    photos: int = 6,
) -> list[Path]:
    """Write ``NAME.html`` and ``NAME.md`` for each run into ``output``, and ``index.html`` and
    ``index.md`` with all of them side by side if there are several.

    Args:
        folders: the runs' OUTPUT_DIRs.
        photos: how many of the best, of the worst, and of the queries are shown.

    Returns:
        The HTML pages; the one to open comes first.

    Raises:
        FileNotFoundError, ValueError: what is wrong with which file.
    """
    runs = read_runs(folders, where, dataset)
    pages = [_write(output / file_name(run.name), run.name, [run], photos) for run in runs]
    if len(runs) > 1:
        heading = "Runs side by side: " + ", ".join(run.name for run in runs)
        pages.insert(0, _write(output / "index", heading, runs, photos))
    return pages


def file_name(name: str) -> str:
    """A run's name without what file systems and addresses do not like."""
    clean = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("_.") or "run"
    return f"{clean}_run" if clean == "index" else clean


def _write(stem: Path, heading: str, runs: Sequence[Run], photos: int) -> Path:
    sections = build(runs, photos)
    if not sections:
        sections = [Section("Nothing to show", "There are neither result files nor metrics.")]
    page, markdown = (stem.with_name(stem.name + suffix) for suffix in (".html", ".md"))
    facts = "".join(f"<div>{_facts(run, len(runs) > 1)}</div>" for run in runs)
    write_page(page, heading, f"<div class='facts'>{facts}</div>", sections)
    write_markdown(markdown, heading, _facts_markdown(runs), sections)
    logger.info("%s, %s written", page, markdown)
    return page


def _facts(run: Run, link: bool) -> str:
    terms = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in run.facts.items())
    page = f"{file_name(run.name)}.html"
    head = f"<h3><a href='{escape(page)}'>{escape(run.name)}</a></h3>" if link else ""
    return f"{head}<dl>{terms}</dl>"


def _facts_markdown(runs: Sequence[Run]) -> str:
    lines = []
    for run in runs:
        lines += [f"**{run.name}**", ""] if len(runs) > 1 else []
        lines += [f"- {key}: {value}" for key, value in run.facts.items()] + [""]
    return "\n".join(lines)
