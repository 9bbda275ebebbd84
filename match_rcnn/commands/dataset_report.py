"""Say what is in a data set: counts by category, source, pair, style and variation, visibility of
landmarks, box sizes, problems; on the console, and as an HTML page with plots and a Markdown file.

Input are converted annotation files (tools/convert_df2.py), one a split; problems are taken from
FILE.problems.json beside each.
"""

import argparse
from pathlib import Path

from tabulate import tabulate

from match_rcnn.commands import Answer, new_parser
from match_rcnn.reporting.dataset_report import write_dataset_report


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = new_parser(__doc__, prog)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="COCO form")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    return parser


def run(args: argparse.Namespace) -> Answer:
    page, tables = write_dataset_report(args.files, args.output)
    parts = []
    for table in tables:
        aligned = ["left"] * table.heads + ["right"] * (len(table.headers) - table.heads)
        shown = tabulate(
            table.rows,
            table.headers,
            colalign=aligned if table.rows else None,
            disable_numparse=True,
        )
        groups = "; ".join(name for name, _ in table.groups)
        parts.append(f"{table.title}{f' ({groups})' * bool(groups)}\n{shown}\n")
    values = [{"title": t.title, "headers": t.headers, "rows": t.rows} for t in tables]
    text = "\n".join([*parts, f"report: {page}"])
    return Answer(text, {"report": str(page), "tables": values})
