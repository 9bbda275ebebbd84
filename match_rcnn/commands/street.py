"""Train the model for street photos that comes with the package, from nothing.

Needs a clone of github.com/bearpaw/clothing-co-parsing (1,004 photos) and two processor cores for
about two hours. Drawings come first, which the package makes; then photos and drawings mixed; then
photos of which only a word is known, with --clothing; then matching alone. An interrupted run goes
on when it is started again. docs/street_model.md says what to expect of the model.
"""

import argparse
from pathlib import Path

from match_rcnn.commands import Answer, new_parser
from match_rcnn.experiments.demo import DemoSize, summary_table
from match_rcnn.experiments.street import Street


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    default = DemoSize()
    parser = new_parser(__doc__, prog)
    parser.add_argument("--ccp", type=Path, required=True, metavar="CLONE")
    parser.add_argument(
        "--clothing",
        type=Path,
        metavar="CLONE",
        help="a clone of github.com/alexeygrigorev/clothing-dataset: garments that nobody wears",
    )
    parser.add_argument("--output", type=Path, default=Path("output/street"))
    parser.add_argument("--train", type=int, default=default.train, help="drawings to learn from")
    parser.add_argument("--validation", type=int, default=default.validation)
    parser.add_argument(
        "--iterations",
        type=int,
        nargs=4,
        default=(None, None, None, None),
        metavar=("DRAWINGS", "PHOTOS", "WORDS", "MATCHING"),
        help="instead of the configs'",
    )
    return parser


def run(args: argparse.Namespace) -> Answer:
    drawings = DemoSize(train=args.train, validation=args.validation)
    iterations = tuple(args.iterations)
    street = Street(args.output, args.ccp, args.clothing, drawings, iterations)
    summary = street.run()
    lines = (
        _table(summary["metrics"]),
        f"model:   {street.file}",
        f"figures: {street.output / 'summary.json'}",
    )
    return Answer("\n\n".join(lines), summary)


def _table(metrics: dict[str, float]) -> str:
    """AP of the photos, which have masks, and of the drawings, which have landmarks too."""
    parts = []
    for data_set, origin in (
        ("ccp_validation", "photographs of Clothing Co-Parsing"),
        ("deepfashion2_validation", "generated data"),
    ):
        own = {k.removeprefix(f"{data_set}/"): v for k, v in metrics.items() if data_set in k}
        parts.append(summary_table(own, f"measured on {origin}"))
    return "\n\n".join(parts)
