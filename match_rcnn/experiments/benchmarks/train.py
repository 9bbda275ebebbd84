"""A training step of the whole model, beside stock heads and torchvision's Mask R-CNN.

R-50-FPN, 13 categories, 294 landmarks, all five losses; weights from a seed, made images, boxes of
garment size. Each model is in a process of its own; steps are taken in turn. The proposal network
works and learns as always, then every model gets the same 1000 proposals, most of them around an
item, so that all sample the same number of positives. Stages: normalising and padding, backbone,
RPN, sampling, each stream's forward pass, backward, optimizer (reading of data: ``loader``).

"memory" is what a step needs beyond the model and its inputs (gradients and momentum included).
"""

import argparse
from typing import Any

from match_rcnn.experiments.benchmarks.harness import Result
from match_rcnn.experiments.benchmarks.rcnn import comparison
from match_rcnn.experiments.benchmarks.rcnn.driver import Measured, measure_in_turn
from match_rcnn.experiments.benchmarks.rcnn.workload import Workload, add_common_arguments

#: By device type.
GOALS = {"cpu": {"time": 1.0}, "cuda": {"time": 1.5, "memory": 2.0}}
#: Height, width, RoIs of an image.
SIZES = {"cpu": (512, 512, 128), "cuda": (800, 1333, 512)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser)
    parser.add_argument(
        "--size", type=int, nargs=2, help="height and width; 800 1333 on a GPU, 512 512 on the CPU"
    )
    parser.add_argument("--images", type=int, default=2, help="of a batch")
    parser.add_argument(
        "--rois", type=int, help="sampled for an image; 512 on a GPU, 128 on the CPU"
    )


def run(args: argparse.Namespace) -> Result:
    device = args.device.split(":")[0]
    height, width, rois = SIZES[device]
    if args.size:
        height, width = args.size
    workload = Workload(
        "ours",
        "train",
        height=height,
        width=width,
        images=args.images,
        rois=args.rois or rois,
        device=args.device,
        precision=args.precision,
        seed=args.seed,
    )
    measured = measure_in_turn(comparison.runners(args, workload), args.runs, args.warmup)
    result = Result("train", comparison.rows(measured, args.images))
    comparison.add_ratios(result, measured, GOALS[device])
    _check(result, measured, bool(args.precision))
    result.notes += [comparison.workload_note(workload), *comparison.host_notes(measured)]
    return result


def _check(result: Result, measured: dict[str, Measured], is_mixed: bool) -> None:
    """Losses on the same weights, images and samples; random draws of two devices or of mixed
    precision differ, so they are compared in float32 only."""
    losses: dict[str, Any] = {name: m.outputs for name, m in measured.items()}
    result.checks["all five losses (and the RPN's two)"] = len(losses["ours"]) == 7
    if is_mixed:
        return
    for name in ("ours without matching", *comparison.stock_names(measured)):
        worst = comparison.loss_difference(losses["ours"], losses[name])
        result.checks[f"losses as of {name}"] = worst < comparison.LOSS_TOLERANCE
        result.notes.append(f"losses of {name}: largest relative difference {worst:.1e}")
