"""All systems of DeepFashion (2016) on the same generated data, in one budget, over seeds.

    match-rcnn survey --output output/survey --markdown docs/survey.md
    match-rcnn survey --output output/survey --systems DARN "DARN, one tower" --seeds 1

Generates data below --output, or takes --datasets; trains and scores a system and seed after the
other, those first whose weights others start from. What is finished is passed over; interrupted,
the same command goes on; what was made with other settings, weights or data is refused. A row that
fails is named at the end, and the others run. KEY VALUE pairs at the end override every row.
"""

import argparse
import os
from pathlib import Path

from match_rcnn.commands import Answer, new_parser
from match_rcnn.experiments.survey import Survey, SurveyPlan
from match_rcnn.experiments.survey_page import around_page, markdown, write_markdown
from match_rcnn.inference.switches import bfloat16_is_fast


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    plan = SurveyPlan()
    parser = new_parser(__doc__, prog)
    parser.add_argument("--output", type=Path, default=Path("output/survey"), metavar="DIR")
    parser.add_argument("--datasets", type=Path, metavar="DIR", help="for deepfashion/")
    parser.add_argument(
        "--systems", nargs="+", metavar="NAME", default=list(plan.systems), help="default: all"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(plan.seeds))
    parser.add_argument("--steps", type=int, default=plan.steps, help="of each row")
    parser.add_argument("--train", type=int, default=plan.train, help="images to generate")
    parser.add_argument("--test", type=int, default=plan.test)
    parser.add_argument("--size", type=int, default=plan.pixels, help="longer side in pixels")
    parser.add_argument("--data-seed", type=int, default=plan.data_seed)
    fast = "bfloat16" if bfloat16_is_fast() else "float32"
    parser.add_argument(
        "--precision",
        choices=("bfloat16", "float32"),
        default=fast,
        help="default: bfloat16 where the processor computes in it",
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--markdown", type=Path, metavar="PAGE", help="write the tables there")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE config overrides")
    return parser


def run(args: argparse.Namespace) -> Answer:
    plan = SurveyPlan(
        systems=tuple(args.systems),
        seeds=tuple(args.seeds),
        steps=args.steps,
        train=args.train,
        test=args.test,
        pixels=args.size,
        data_seed=args.data_seed,
        precision=args.precision,
        opts=tuple(args.opts),
    )
    survey = Survey(args.output, plan, args.datasets or args.output / "datasets")
    if args.markdown:
        around_page(args.markdown)  # not only after hours
    survey.generate(args.workers)
    summary = survey.run()
    if args.markdown:
        write_markdown(args.markdown, summary)
    text = f"\n{markdown(summary)}\nfigures: {survey.output / 'survey.json'}"
    return Answer(text, summary, code=bool(summary["failed"]))
