"""How often a training step would wait for a GPU: ours beside stock heads. Needs no GPU.

R-50-FPN, 13 categories, 294 landmarks, all five losses, as in ``train``; the operations are counted
while one step runs on the CPU, by stage (``benchmarks/rcnn/waits.py`` says which count).
"""

import argparse

from match_rcnn.d2 import HOST
from match_rcnn.experiments.benchmarks.harness import Result
from match_rcnn.experiments.benchmarks.rcnn import comparison
from match_rcnn.experiments.benchmarks.rcnn.driver import Runner, Worker
from match_rcnn.experiments.benchmarks.rcnn.workload import Workload


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=int, nargs=2, default=(256, 256), help="height and width")
    parser.add_argument("--images", type=int, default=2, help="of a batch: a GPU's share of it")
    parser.add_argument("--rois", type=int, default=128, help="sampled for an image")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--other-python",
        metavar="PATH",
        help="also count on detectron2, with this Python, in which detectron2 imports",
    )
    parser.add_argument("options", nargs="*", metavar="KEY VALUE", help="config overrides")


def run(args: argparse.Namespace) -> Result:
    height, width = args.size
    ours = Workload(
        "ours",
        "train",
        height=height,
        width=width,
        images=args.images,
        rois=args.rois,
        seed=args.seed,
        options=tuple(args.options),
    )
    counts = {}
    for name, runner in _runners(ours, args.other_python).items():
        with Worker(runner) as worker:
            counts[name] = worker.waits()
    stages = dict.fromkeys(stage for found in counts.values() for stage in found)
    rows = [
        {"model": name, "waits": sum(found.values()), **{s: found.get(s, 0) for s in stages}}
        for name, found in counts.items()
    ]
    result = Result("waits", rows, notes=[comparison.workload_note(ours)])
    first, *others = counts
    for name in others:
        result.ratios[f"{name} / {first}"] = sum(counts[name].values()) / sum(
            counts[first].values()
        )
    result.checks["every stage of ours ran"] = {"sampling", "match stream"} <= set(stages)
    return result


def _runners(ours: Workload, other_python: str | None) -> dict[str, Runner]:
    made = {
        f"ours ({HOST})": Runner(ours),
        f"stock heads ({HOST})": Runner(ours.of("stock")),
    }
    if other_python:
        made["ours (detectron2)"] = Runner(ours, "detectron2", other_python)
        made["stock heads (detectron2)"] = Runner(ours.of("stock"), "detectron2", other_python)
    return made
