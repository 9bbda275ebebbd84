"""All systems of DeepFashion (2016) on the same generated data, in one budget, over seeds.

    match-rcnn survey --output output/survey --markdown docs/survey.md
    match-rcnn survey --output output/survey --systems DARN "DARN, one tower" --seeds 1

Generates data below --output, or takes --datasets; trains and scores a system and seed after the
other, those first whose weights others start from. What is finished is passed over; interrupted,
the same command goes on; what was made with other settings, weights or data is refused. A row that
fails is named at the end, and the others run. KEY VALUE pairs at the end override every row.
"""

import argparse
from pathlib import Path

from match_rcnn.commands import Answer, new_parser
from match_rcnn.experiments.survey import Survey, SurveyPlan
from match_rcnn.experiments.survey_page import PAGE, markdown
from match_rcnn.inference.switches import bfloat16_is_fast


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    plan = SurveyPlan()
    parser = new_parser(__doc__, prog)
    parser.add_argument("--output", type=Path, default=Path("output/survey"), metavar="DIR")
    parser.add_argument(
        "--systems", nargs="+", metavar="NAME", default=list(plan.systems), help="default: all"
    )
    parser.add_argument("--steps", type=int, default=plan.steps, help="of each row")
    fast = "bfloat16" if bfloat16_is_fast() else "float32"
    parser.add_argument(
        "--precision",
        choices=("bfloat16", "float32"),
        default=fast,
        help="default: bfloat16 where the processor computes in it",
    )
    SurveyPlan.add_arguments(parser)
    return parser


def run(args: argparse.Namespace) -> Answer:
    plan = SurveyPlan.of_arguments(
        args, systems=tuple(args.systems), steps=args.steps, precision=args.precision
    )
    survey = Survey(args.output, plan, args.datasets or args.output / "datasets")
    if args.markdown:
        PAGE.around(args.markdown)  # not only after hours
    survey.generate(args.workers)
    summary = survey.run()
    tables = markdown(summary)
    if args.markdown:
        PAGE.write(args.markdown, tables)
    text = f"\n{tables}\nfigures: {survey.output / 'survey.json'}"
    return Answer(text, summary, code=bool(summary["failed"]))
