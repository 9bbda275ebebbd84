"""Compare the feature variants and losses of the match network, over seeds.

    match-rcnn ablation --output output/ablation --markdown docs/ablation.md
    match-rcnn ablation --output output/ablation --grid --iterations 600
    match-rcnn ablation --output output/tiny --train 60 --validation 40 --seeds 1 \\
        --detector-iterations 4 --iterations 4

Generates data below --output, or takes --datasets; trains one detector, then a match head a run.
What is finished is passed over; interrupted, the same command goes on; what was made with other
settings, weights or data is refused. --markdown writes the tables between two marks of the page.
KEY VALUE pairs at the end override the config in every run.
"""

import argparse
from pathlib import Path

from match_rcnn.commands import Answer, new_parser
from match_rcnn.experiments.ablation import (
    LOSSES,
    PAGE,
    VARIANTS,
    Ablation,
    AblationPlan,
    markdown,
)
from match_rcnn.experiments.demo import DemoSize
from match_rcnn.utils.shipped import config_file


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    size, plan = DemoSize(), AblationPlan()
    parser = new_parser(__doc__, prog)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--config-file", "--config", type=Path, default=Path("quickstart"))
    parser.add_argument("--datasets", type=Path, metavar="DIR", help="holds deepfashion2/, ready")
    parser.add_argument("--train", type=int, default=size.train, help="images to generate")
    parser.add_argument("--validation", type=int, default=size.validation)
    parser.add_argument("--size", type=int, default=size.pixels, help="longer side in pixels")
    parser.add_argument("--data-seed", type=int, default=1)
    parser.add_argument("--grid", action="store_true", help="all variants with all losses")
    parser.add_argument("--features", choices=VARIANTS, default=plan.features, help="of all losses")
    parser.add_argument("--loss", choices=LOSSES, default=plan.loss, help="of all variants")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(plan.seeds))
    parser.add_argument("--detector", type=Path, metavar="PTH", help="instead of training one")
    parser.add_argument("--detector-iterations", type=int, metavar="N", help="or the config's")
    parser.add_argument("--iterations", type=int, metavar="N", help="of a run, or the config's")
    parser.add_argument("--joint", action="store_true", help="train everything in every run")
    parser.add_argument("--markdown", type=Path, metavar="PAGE", help="write the table there")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE config overrides")
    return parser


def run(args: argparse.Namespace) -> Answer:
    plan = AblationPlan(
        grid=args.grid,
        features=args.features,
        loss=args.loss,
        seeds=tuple(args.seeds),
        detector=args.detector,
        detector_iterations=args.detector_iterations,
        iterations=args.iterations,
        joint=args.joint,
        opts=tuple(args.opts),
    )
    datasets = args.datasets or args.output / "datasets"
    ablation = Ablation(args.output, config_file(args.config_file), plan, datasets)
    if args.markdown:
        PAGE.around(args.markdown)  # not only after hours
    if args.datasets is None:
        ablation.steps.generate(args.train, args.validation, args.size, args.data_seed)
    summary = ablation.run()
    tables = markdown(summary)
    if args.markdown:
        PAGE.write(args.markdown, tables)
    figures = ablation.output / "ablation.json"
    return Answer(f"\n{tables}\nfigures: {figures}", summary)
