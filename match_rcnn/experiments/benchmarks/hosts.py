"""One plugin on two hosts: how long a training step and an inference take on each, as ratios.

R-50-FPN, 13 categories, 294 landmarks, all streams; the same weights, images, proposals and seed on
both (see ``train`` and ``inference`` for how). Each host is in a process of its own, with its own
Python; they take turns. Beside the plugin on both, detectron2's stock heads on detectron2.
"""

import argparse
from dataclasses import replace

from match_rcnn.experiments.benchmarks.harness import Result
from match_rcnn.experiments.benchmarks.rcnn import comparison
from match_rcnn.experiments.benchmarks.rcnn.driver import Measured, Runner, measure_in_turn
from match_rcnn.experiments.benchmarks.rcnn.workload import TASKS, Workload

LITE, UPSTREAM, STOCK = "plugin on lite", "plugin on detectron2", "stock heads on detectron2"
EQUAL_PLACES = 0.999


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--other-python", required=True, metavar="PATH", help="a Python in which detectron2 imports"
    )
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--task", choices=(*TASKS, "both"), default="both")
    parser.add_argument("--size", type=int, nargs=2, default=(512, 512), help="height and width")
    parser.add_argument("--rois", type=int, default=128, help="sampled for an image in training")
    parser.add_argument("--detections", type=int, default=100, help="of an image at inference")
    parser.add_argument("--runs", type=int, default=3, help="of which medians are taken")
    parser.add_argument("--warmup", type=int, default=1, help="runs that do not count")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--without-stock", action="store_true", help="leave the stock heads out")
    parser.add_argument(
        "options", nargs="*", metavar="KEY VALUE", help="config overrides, for our models"
    )


def run(args: argparse.Namespace) -> Result:
    result = Result("hosts", [])
    for task in TASKS if args.task == "both" else (args.task,):
        _compare(result, args, task)
    return result


def _compare(result: Result, args: argparse.Namespace, task: str) -> None:
    workload = Workload(
        "ours",
        task,
        height=args.size[0],
        width=args.size[1],
        images=2 if task == "train" else 1,
        rois=args.rois,
        detections=args.detections,
        device=args.device,
        seed=args.seed,
    )
    ours = workload.of("ours", *args.options)
    runners = {
        LITE: Runner(ours, "lite"),
        UPSTREAM: Runner(ours, "detectron2", args.other_python),
    }
    if not args.without_stock:
        stock = replace(workload, model="stock")
        runners[STOCK] = Runner(stock, "detectron2", args.other_python)
    measured = measure_in_turn(runners, args.runs, args.warmup)
    found = comparison.rows(measured, workload.images)
    result.rows += [{"task": task, **{k: row.get(k) for k in comparison.TOTALS}} for row in found]
    _ratios(result, task, measured)
    _check(result, task, measured)
    result.notes += [comparison.workload_note(workload), *comparison.host_notes(measured)]


def _ratios(result: Result, task: str, measured: dict[str, Measured]) -> None:
    lite, upstream = measured[LITE], measured[UPSTREAM]
    result.ratios[f"{task}: detectron2 / lite, time"] = upstream.seconds / lite.seconds
    result.ratios[f"{task}: detectron2 / lite, memory"] = upstream.work_mib / lite.work_mib
    result.goals[f"{task}: detectron2 / lite, time"] = 1.0
    if STOCK in measured:
        stock = measured[STOCK]
        for name, plugin in (("detectron2", upstream), ("lite", lite)):
            ratio = f"{task}: {STOCK} / plugin on {name}"
            result.ratios[f"{ratio}, time"] = stock.seconds / plugin.seconds
            result.ratios[f"{ratio}, memory"] = stock.work_mib / plugin.work_mib


def _check(result: Result, task: str, measured: dict[str, Measured]) -> None:
    ours = measured[LITE].outputs
    for name in measured.keys() - {LITE}:
        other = measured[name].outputs
        if task == "train":
            worst = comparison.loss_difference(ours, other)
            result.checks[f"losses: {name}"] = worst < comparison.LOSS_TOLERANCE
            result.notes.append(f"losses, {name}: largest relative difference {worst:.1e}")
        else:
            places, score = comparison.landmark_differences(ours, other)
            result.checks[f"landmarks: {name}"] = places >= EQUAL_PLACES
            result.notes.append(
                f"landmarks, {name}: {places:.4%} in the same place, scores within {score:.1e}"
            )
