"""Runners, tables and checks that the benchmarks of whole detectors share."""

import argparse
import sys
from typing import Any

import numpy as np

from match_rcnn.d2 import HOST
from match_rcnn.experiments.benchmarks.harness import Result
from match_rcnn.experiments.benchmarks.rcnn.driver import Arrays, Measured, Runner
from match_rcnn.experiments.benchmarks.rcnn.workload import Workload

#: Relative difference of two losses on one host, in float32.
LOSS_TOLERANCE = 1e-4
#: The columns of :func:`rows` that are no stages.
TOTALS = ("model", "seconds", "images/s", "peak MiB", "work MiB")


def runners(args: argparse.Namespace, workload: Workload) -> dict[str, Runner]:
    """Ours with and without matching, the stock model, torchvision's; and detectron2's stock
    model where ``--other-python`` names a Python that has it."""
    options = tuple(args.options)
    made = {
        "ours": Runner(workload.of("ours", *options)),
        "ours without matching": Runner(workload.of("unmatched", *options)),
        f"stock heads ({HOST})": Runner(workload.of("stock")),
        "torchvision Mask R-CNN": Runner(workload.of("torchvision")),
    }
    if args.other_python:
        made["stock heads (detectron2)"] = Runner(
            workload.of("stock"), "detectron2", args.other_python
        )
    return made


def stock_names(measured: dict[str, Measured]) -> list[str]:
    return [name for name in measured if name.startswith("stock")]


def rows(measured: dict[str, Measured], images: int) -> list[dict[str, Any]]:
    """A row a model; a column a stage, in seconds."""
    stages = dict.fromkeys(stage for m in measured.values() for stage in m.stages)
    return [
        {
            "model": name,
            "seconds": m.seconds,
            "images/s": images / m.seconds,
            "peak MiB": m.peak_mib,
            "work MiB": m.work_mib,
            **{stage: m.stages.get(stage) for stage in stages},
        }
        for name, m in measured.items()
    ]


def add_ratios(result: Result, measured: dict[str, Measured], goals: dict[str, float]) -> None:
    """Stock over ours: time, the memory of the work, and the whole process's (or GPU's)."""
    ours = measured["ours"]
    for name in stock_names(measured):
        other = measured[name]
        found = {
            "time": other.seconds / ours.seconds,
            "memory": other.work_mib / max(ours.work_mib, 1.0),
            "whole memory": other.peak_mib / max(ours.peak_mib, 1.0),
        }
        for what, ratio in found.items():
            result.ratios[f"{name}: {what}"] = ratio
            if what in goals:
                result.goals[f"{name}: {what}"] = goals[what]


def loss_difference(ours: Arrays, other: Arrays) -> float:
    """The largest relative difference of the losses that both have."""
    shared = {name: other[name].item() for name in ours if name in other}
    assert shared, (list(ours), list(other))
    return max(abs(ours[n].item() - b) / max(abs(b), 1e-6) for n, b in shared.items())


def landmark_differences(ours: Arrays, other: Arrays) -> tuple[float, float]:
    """The share of landmarks that lie within 0.01 pixels, and the largest relative difference of
    scores."""
    a, b = ours["pred_keypoints"], other["pred_keypoints"]
    own = b[..., 2] > 0
    place = np.abs(a - b)[..., :2].max(-1) < 1e-2
    score = np.abs(a - b)[..., 2] / np.maximum(b[..., 2], 1e-12)
    return float(place[own].mean()), float(score[own].max())


def workload_note(workload: Workload) -> str:
    """The work in words, with the command's Python."""
    size = f"{workload.images} image(s) of {workload.height} x {workload.width}"
    kind = (
        f"{workload.items} garments and {workload.rois} RoIs an image, a quarter positive"
        if workload.task == "train"
        else f"{workload.detections} garment-size detections an image"
    )
    precision = workload.precision or "float32"
    return f"{size}, {kind}; {precision}, {workload.device}, Python {sys.version.split()[0]}"


def host_notes(measured: dict[str, Measured]) -> list[str]:
    """Which host and torch each model ran on."""
    found = {
        f"{m.about['host']} {m.about['host_version']}, torch {m.about['machine']['torch']}, "
        f"{m.about['machine']['torch_threads']} thread(s)"
        for m in measured.values()
    }
    return sorted(found)
