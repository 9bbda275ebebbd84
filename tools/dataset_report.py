#!/usr/bin/env python
"""Say what is in a data set: counts by category, source, pair, style and variation, visibility of
landmarks, box sizes, problems; on the console, and as an HTML page with plots and a Markdown file.

Input are converted annotation files (tools/convert_df2.py), one a split; problems are taken from
FILE.problems.json beside each.
"""

import argparse
import sys
from pathlib import Path

from tabulate import tabulate

from match_rcnn.reporting.dataset_report import write_dataset_report


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="COCO form")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    try:
        page, tables = write_dataset_report(args.files, args.output)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for table in tables:
        aligned = ["left"] * table.heads + ["right"] * (len(table.headers) - table.heads)
        shown = tabulate(
            table.rows,
            table.headers,
            colalign=aligned if table.rows else None,
            disable_numparse=True,
        )
        groups = "; ".join(name for name, _ in table.groups)
        print(f"{table.title}{f' ({groups})' * bool(groups)}\n{shown}\n")
    print(f"report: {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
