"""An exported model beside torch: the same garments, and how fast.

Photos of three kinds take turns, and with them five sizes in which the network sees them: annotated
ones (of which AP is computed for both), photographs, and pictures without any garment (grey, noise,
stripes). Every garment of both is compared; then a number of photos is timed, torch and onnxruntime
in turn, in float32 and, for torch, in bfloat16.
"""

import argparse
import functools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools import mask as mask_utils
from tqdm import tqdm

from match_rcnn.d2 import CfgNode
from match_rcnn.data.images import IMAGE_SUFFIXES, read_image
from match_rcnn.data.taxonomy import Taxonomy
from match_rcnn.evaluation.coco.files import read_ground_truth
from match_rcnn.evaluation.coco.predictions import ImagePredictions, to_detections
from match_rcnn.evaluation.coco.scoring import TASKS
from match_rcnn.evaluation.coco.subsets import score_views, truths
from match_rcnn.experiments.benchmarks.harness import Result, alternate
from match_rcnn.inference.predictor import MatchRCNNPredictor
from match_rcnn.inference.weights import model_config
from match_rcnn.onnx import OnnxPredictor
from match_rcnn.onnx.export import export
from match_rcnn.structures import Garment
from match_rcnn.utils.arrays import Image
from match_rcnn.utils.files import read_json, write_json

#: Of the shorter side that the network sees, as parts of INPUT.MIN_SIZE_TEST.
SIZES = (0.5, 0.75, 1.0, 1.5, 2.0)
#: What may differ: pixels of the photo, embeddings, AP (from 0 to 1); and a landmark's place.
BOX, EMBEDDING, AP, PLACE = 1e-3, 1e-4, 1e-4, 0.05
#: So many landmarks lie at the same place.
SAME_PLACE = 0.999
#: The score from which on garments are shown; of annotated photos, which AP is about, more count.
SHOWN = 0.5

Predictor = Callable[[Image], list[Garment]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config-file", type=Path, help="default: the model file's own")
    parser.add_argument("--weights", required=True, help="as for match-rcnn predict")
    parser.add_argument("--annotations", type=Path, required=True, help="a COCO file")
    parser.add_argument("--images", type=Path, required=True, help="the folder of its images")
    parser.add_argument("--photos", type=Path, required=True, help="a folder of photographs")
    parser.add_argument("--count", type=int, default=200, help="photos, of three kinds")
    parser.add_argument("--timed", type=int, default=20, help="photos that are timed")
    parser.add_argument("--runs", type=int, default=3, help="of which medians are taken")
    parser.add_argument("--score-threshold", type=float, default=0.05)


@dataclass
class Photo:
    """A picture, the id of its image where it is annotated, and the size to see it in."""

    pixels: Image
    size: float
    image_id: int | None = None


@dataclass
class Differences:
    """Between what two predictors find, over all photos."""

    photos: int = 0
    empty: int = 0
    garments: int = 0
    other_classes: int = 0
    box: float = 0.0
    score: float = 0.0
    embedding: float = 0.0
    landmarks: int = 0
    moved: int = 0
    moved_garments: int = 0
    mask_pixels: int = 0
    other_pixels: int = 0
    ap: dict[str, tuple[float, float]] = field(default_factory=dict)
    predictions: list[list[ImagePredictions]] = field(default_factory=lambda: [[], []])

    def lines(self) -> list[str]:
        tables = ", ".join(f"{k} {ap:.1f} ({apart:.1e})" for k, (ap, apart) in self.ap.items())
        return [
            f"{self.photos} photos, in {self.empty} of them nothing; {self.garments} garments, "
            f"other classes in {self.other_classes} photos",
            f"boxes within {self.box:.1e} pixels, scores {self.score:.1e}, embeddings "
            f"{self.embedding:.1e}",
            f"{self.same_place:.4%} of {self.landmarks} landmarks in the same place, the others of "
            f"{self.moved_garments} garments",
            f"{self.other_pixels} of {self.mask_pixels} pixels of masks differ",
            f"AP of {len(self.predictions[0])} annotated photos in percent, and by how much any "
            f"(0 to 1) differs: {tables}",
        ]

    def add(self, expected: Sequence[Garment], found: Sequence[Garment]) -> None:
        self.photos += 1
        self.empty += not expected
        self.garments += len(expected)
        if [g.category for g in expected] != [g.category for g in found]:
            self.other_classes += 1
            return
        for one, other in zip(expected, found, strict=True):
            self._add_garment(one, other)

    def _add_garment(self, one: Garment, other: Garment) -> None:
        self.box = max(self.box, float(np.abs(one.box - other.box).max()))
        self.score = max(self.score, abs((one.score or 0.0) - (other.score or 0.0)))
        if one.embedding is not None and other.embedding is not None:
            apart = float(np.abs(one.embedding - other.embedding).max())
            self.embedding = max(self.embedding, apart)
        if one.landmarks is not None and other.landmarks is not None and len(one.landmarks):
            apart_at = np.abs(one.landmarks - other.landmarks)[:, :2].max(axis=1)
            self.landmarks += len(apart_at)
            self.moved += int((apart_at > PLACE).sum())
            self.moved_garments += bool((apart_at > PLACE).any())
        if one.mask is not None and other.mask is not None:
            self.mask_pixels += int(one.mask.sum())
            self.other_pixels += int((one.mask != other.mask).sum())

    @property
    def same_place(self) -> float:
        return 1 - self.moved / max(1, self.landmarks)


def run(args: argparse.Namespace) -> Result:
    cfg = model_config(args.weights, args.config_file)
    cfg.MODEL.DEVICE, cfg.TEST.AUG.ENABLED = "cpu", False
    photos = list(_photos(args))
    result = Result("export", [])
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "exported"
        export(cfg, folder)
        differences = _compare(cfg, folder, photos, args.score_threshold)
        _time(result, cfg, folder, photos[: args.timed], args.runs)
        taxonomy = Taxonomy.from_dict(read_json(folder / "model.json")["taxonomy"])
        _score(differences, args.annotations, taxonomy, Path(made))
    result.checks = {
        "classes equal": not differences.other_classes,
        f"boxes within {BOX} pixels": differences.box <= BOX,
        f"{SAME_PLACE:.1%} of landmarks in the same place": differences.same_place >= SAME_PLACE,
        f"embeddings within {EMBEDDING}": differences.embedding <= EMBEDDING,
        f"AP within {AP}": max(apart for _, apart in differences.ap.values()) <= AP,
    }
    result.notes += differences.lines()
    return result


def _photos(args: argparse.Namespace) -> Iterator[Photo]:
    """Of ten pictures six annotated, three photographs and one of nothing; each ten in one size."""
    images = read_json(args.annotations)["images"]
    files = sorted(f for f in args.photos.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES)
    generator = np.random.default_rng(0)
    for number in range(args.count):
        ten, kind = divmod(number, 10)
        size = SIZES[ten % len(SIZES)]
        if kind < 6:
            image = images[ten * 6 + kind]
            pixels = read_image(args.images / image["file_name"], upright=False)
            yield Photo(pixels, size, image["id"])
        elif kind < 9:
            yield Photo(read_image(files[ten * 3 + kind - 6], upright=True), size)
        else:
            yield Photo(_nothing(ten, generator), size)


def _nothing(kind: int, generator: np.random.Generator) -> Image:
    """A grey picture, noise, or stripes."""
    shape = (180 + 20 * (kind % 5), 240, 3)
    if kind % 3 == 1:
        return generator.integers(0, 256, shape, dtype=np.uint8)
    picture = np.full(shape, 40 * (kind % 7), dtype=np.uint8)
    if kind % 3 == 2:
        picture[:: 8 + kind % 5] = 255
    return picture


def _compare(cfg: CfgNode, folder: Path, photos: Sequence[Photo], threshold: float) -> Differences:
    found = Differences()

    @functools.cache
    def predictors(size: float, score: float) -> tuple[Predictor, Predictor]:
        return _torchs(cfg, size, score), _ours(folder, size, score)

    for photo in tqdm(photos, desc="comparing", unit="photo"):
        score = SHOWN if photo.image_id is None else threshold
        pair = [predictor(photo.pixels) for predictor in predictors(photo.size, score)]
        found.add(*pair)
        if photo.image_id is not None:
            for predictions, garments in zip(found.predictions, pair, strict=True):
                predictions.append(_prediction(photo, garments))
    return found


def _torchs(cfg: CfgNode, size: float, threshold: float, precision: str = "") -> MatchRCNNPredictor:
    cfg = cfg.clone()
    shortest, longest = cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = _sizes(shortest, longest, size)
    cfg.TEST.PRECISION = precision
    return MatchRCNNPredictor(cfg, threshold)


def _ours(folder: Path, size: float, threshold: float) -> OnnxPredictor:
    ours = OnnxPredictor(folder, threshold, threads=torch.get_num_threads())
    given = ours.description["input"]
    given["min_size"], given["max_size"] = _sizes(given["min_size"], given["max_size"], size)
    return ours


def _sizes(shortest: int, longest: int, size: float) -> tuple[int, int]:
    return round(shortest * size), round(longest * size)


def _prediction(photo: Photo, garments: Sequence[Garment]) -> ImagePredictions:
    boxes = np.array([g.box for g in garments], dtype=np.float32).reshape(-1, 4)
    made = ImagePredictions(
        photo.image_id or 0,
        (photo.pixels.shape[0], photo.pixels.shape[1]),
        np.array([g.category.id for g in garments], dtype=np.int64),
        np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]),
        np.array([g.score for g in garments], dtype=np.float32),
    )
    made.masks = [
        mask_utils.encode(np.asfortranarray(g.mask.astype(np.uint8)))["counts"]
        for g in garments
        if g.mask is not None
    ]
    made.landmarks = [g.landmarks - (0.5, 0.5, 0) for g in garments if g.landmarks is not None]
    return made


def _score(differences: Differences, annotations: Path, taxonomy: Taxonomy, folder: Path) -> None:
    """AP of the annotated photos: whole, at each IoU, of each size."""
    record = read_json(annotations)
    known = {image.image_id for image in differences.predictions[0]}
    record["images"] = [image for image in record["images"] if image["id"] in known]
    record["annotations"] = [a for a in record["annotations"] if a["image_id"] in known]
    write_json(folder / "truth.json", record)
    for task in TASKS:
        truth = read_ground_truth(folder / "truth.json", [task], taxonomy)
        assert truth is not None
        first = next(iter(truths(task, truth).values()))
        one, other = (
            score_views(task, truth, to_detections(task, found, first, 100), by_subset=False)
            for found in differences.predictions
        )
        for view in one:
            expected, found = one[view].whole.stats, other[view].whole.stats
            apart = max(abs(expected[k] - found[k]) for k in expected if k.startswith("AP"))
            if expected["AP"] >= 0:  # of photos without landmarks there is none of them
                differences.ap[view] = 100 * expected["AP"], apart


def _time(result: Result, cfg: CfgNode, folder: Path, photos: Sequence[Photo], runs: int) -> None:
    ways: dict[str, Any] = {
        "torch, float32": _torchs(cfg, 1.0, SHOWN),
        "torch, bfloat16": _torchs(cfg, 1.0, SHOWN, "bfloat16"),
        "onnxruntime, float32": _ours(folder, 1.0, SHOWN),
    }

    def over(predictor: Predictor) -> Callable[[], list[list[Garment]]]:
        return lambda: [predictor(photo.pixels) for photo in photos]

    measured = alternate([over(predictor) for predictor in ways.values()], runs)
    seconds = dict(zip(ways, (one.seconds / len(photos) for one in measured), strict=True))
    for way, one in seconds.items():
        ratio = seconds["torch, float32"] / one
        result.rows.append({"way": way, "ms a photo": 1000 * one, "torch / it": ratio})
    result.ratios["speed"] = seconds["torch, float32"] / seconds["onnxruntime, float32"]
