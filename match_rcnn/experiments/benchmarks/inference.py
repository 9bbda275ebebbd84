"""Inference with the whole model, beside stock heads and torchvision's Mask R-CNN.

R-50-FPN, 13 categories, 294 landmarks; weights from a seed and one made image of 800 x 1067. Each
model is in a process of its own; runs are taken in turn. Backbone, proposal network and box stream
do their whole work; then every model gets the same proposals (behind the proposal network) and the
same 100 garment-size detections (behind the box stream's NMS), so that the streams that follow
have the same boxes. Ours also computes the embeddings of the match network.

"memory" is what a run needs beyond the model and its inputs.
"""

import argparse

from match_rcnn.experiments.benchmarks.harness import Result
from match_rcnn.experiments.benchmarks.rcnn import comparison
from match_rcnn.experiments.benchmarks.rcnn.driver import Measured, measure_in_turn
from match_rcnn.experiments.benchmarks.rcnn.workload import Workload, add_common_arguments

#: By device type.
GOALS = {"cpu": {"time": 10.0, "memory": 5.0}, "cuda": {"time": 3.0, "memory": 5.0}}
#: Two pixels that are equal within rounding may change places.
EQUAL_PLACES = 0.999
SCORE_TOLERANCE = 1e-3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser)
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1067), help="height and width")
    parser.add_argument("--images", type=int, default=1, help="of a batch")
    parser.add_argument("--detections", type=int, default=100, help="of an image")


def run(args: argparse.Namespace) -> Result:
    workload = Workload(
        "ours",
        "inference",
        height=args.size[0],
        width=args.size[1],
        images=args.images,
        detections=args.detections,
        device=args.device,
        precision=args.precision,
        seed=args.seed,
    )
    measured = measure_in_turn(comparison.runners(args, workload), args.runs, args.warmup)
    result = Result("inference", comparison.rows(measured, args.images))
    comparison.add_ratios(result, measured, GOALS[args.device.split(":")[0]])
    for name in comparison.stock_names(measured):
        _check(result, measured, name)
    result.notes += [comparison.workload_note(workload), *comparison.host_notes(measured)]
    return result


def _check(result: Result, measured: dict[str, Measured], name: str) -> None:
    places, score = comparison.landmark_differences(
        measured["ours"].outputs, measured[name].outputs
    )
    result.notes.append(
        f"landmarks as of {name}: {places:.4%} in the same place, "
        f"scores within {score:.1e} (relative)"
    )
    options = measured["ours"].about["workload"]
    if options["precision"] or options["options"]:
        return  # another number format, or a config that may compute otherwise
    result.checks[f"landmark places as of {name}"] = places >= EQUAL_PLACES
    result.checks[f"landmark scores as of {name}"] = score < SCORE_TOLERANCE
