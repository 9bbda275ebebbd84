"""A folder of photos through a model: ``match-rcnn predict`` against one photo after the other.

One photo after the other is what the README shows: read it, predict it, write its line. Both do
all of it, reading and masks among it, on the same photos with the same threads, in turn, and what
they find is compared.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch

from match_rcnn.data.synthetic import generate
from match_rcnn.experiments.benchmarks.harness import Result, alternate
from match_rcnn.inference.predict_files import predict_files
from match_rcnn.inference.predictor import MatchRCNNPredictor
from match_rcnn.inference.results import LINES, line
from match_rcnn.inference.shots import find_files, shots

GOAL = 1.5
#: Pixels and scores that rounding may move; and the share of landmarks that may take another of
#: two places of nearly the same score.
_CLOSE, _ELSEWHERE = 0.01, 0.001


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", default="street", metavar="W")
    parser.add_argument("--config", metavar="C", help="default: the model file's own")
    parser.add_argument("--photos", type=Path, metavar="DIR", help="default: generated ones")
    parser.add_argument("--images", type=int, default=300, metavar="N", help="to generate, or most")
    parser.add_argument("--size", type=int, default=256, help="of generated photos, longer side")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2, help="of torch, in both")
    parser.add_argument("--runs", type=int, default=3)


def run(args: argparse.Namespace) -> Result:
    torch.set_num_threads(args.threads)
    predictor = MatchRCNNPredictor.from_files(args.config, args.weights, 0.5)
    with tempfile.TemporaryDirectory(prefix="benchmark-predict-") as name:
        folder = Path(name)
        if args.photos is None:
            generate(folder / "data", 1, args.images, 3, args.size, 1)
        files = find_files([args.photos or folder / "data/validation/image"])[: args.images]
        return compare(predictor, files, folder, args.batch, args.runs)


def compare(
    predictor: MatchRCNNPredictor, files: list[Path], folder: Path, batch: int, runs: int
) -> Result:
    """Time both and compare their lines."""
    alone, outputs = folder / "alone.jsonl", iter(folder / f"out{i}" for i in range(runs + 1))

    def ours() -> None:  # into a new folder each time
        predict_files(predictor, files, next(outputs), batch=batch)

    measured = alternate([partial(one_by_one, predictor, files, alone), ours], runs)
    seconds = [m.seconds for m in measured]
    found = differences(alone, folder / "out0" / LINES)
    return Result(
        "predict",
        [
            {
                "way": way,
                "photos": len(files),
                "seconds": m.seconds,
                "photos/s": len(files) / m.seconds,
                "peak MiB": m.peak_mib,
            }
            for way, m in zip(("one by one", "match-rcnn predict"), measured, strict=True)
        ],
        ratios={"speed": seconds[0] / seconds[1]},
        goals={"speed": GOAL},
        checks={
            "same garments": found["garments"] == 0,
            "same boxes": found["box"] < _CLOSE,
            "same landmarks": found["landmarks"] < _ELSEWHERE,
        },
        notes=[
            f"{found['count']} garments; boxes differ by up to {found['box']:.1e} pixels, "
            f"{found['landmarks']:.2%} of the landmarks by more than {_CLOSE} pixels"
        ],
    )


def one_by_one(predictor: MatchRCNNPredictor, files: list[Path], output: Path) -> None:
    with output.open("wb") as lines:
        for shot in shots(files, files[0].parent):
            photo = shot.read()
            size = photo.shape[0], photo.shape[1]
            lines.write(line(shot, size, predictor(photo), embeddings=False))


def differences(one: Path, other: Path) -> dict[str, Any]:
    """Between two files of lines: photos with other garments; pixels between boxes, at most; the
    share of landmarks that are elsewhere."""
    rows = [[orjson.loads(x) for x in f.read_bytes().splitlines()] for f in (one, other)]
    unlike, moved, boxes, elsewhere = abs(len(rows[0]) - len(rows[1])), 0, [0.0], [0.0]
    for left, right in zip(*rows, strict=False):
        a, b = left["garments"], right["garments"]
        if [g["category"] for g in a] != [g["category"] for g in b]:
            unlike += 1
            continue
        moved += len(a)
        for g, h in zip(a, b, strict=True):
            boxes.append(float(np.abs(np.subtract(g["box"], h["box"])).max()))
            if g["landmarks"] is not None:
                far = np.abs(np.subtract(g["landmarks"], h["landmarks"]))[:, :2].max(axis=1)
                elsewhere += (far > _CLOSE).tolist()
    return {
        "garments": unlike,
        "count": moved,
        "box": max(boxes),
        "landmarks": float(np.mean(elsewhere)),
    }
