"""Reading training data: images a second of one core, by part, and what eight GPUs need.

Made JPEG files of the size that DeepFashion2's images usually have (750 x 1100, garments drawn by
match_rcnn.data.synthetic would be too easy: noise in patches, quality 90, about as many bytes a
pixel as photos have). Parts: decoding, by each decoder there is, with a check that all give the
same pixels; the mapper without decoding (resize to a shorter edge of 800, flip, targets: boxes,
polygons, landmarks); the whole mapper.
"""

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import BoxMode
from match_rcnn.data import mapper as mapper_module
from match_rcnn.data.images import DECODERS, read_image
from match_rcnn.data.mapper import GarmentMapper
from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.experiments.benchmarks.harness import Result, alternate
from match_rcnn.experiments.benchmarks.landmark_head import garment_boxes

Pixels = npt.NDArray[np.uint8]

GPUS, IMAGES_PER_GPU = 8, 2
CORES = 16  # beside a GPU, in the machine that the project measures on


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=int, default=20, help="different files")
    parser.add_argument("--size", type=int, nargs=2, default=(1100, 750), help="height and width")
    parser.add_argument("--runs", type=int, default=3, help="of which medians are taken")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--step-seconds",
        type=float,
        help="seconds of a training step (`train` on the GPU in question), to say what it needs",
    )


def run(args: argparse.Namespace) -> Result:
    torch.set_num_threads(1)
    result = Result("loader", [])
    with tempfile.TemporaryDirectory() as folder:
        files = write_images(Path(folder), args.images, tuple(args.size), args.seed)
        items = [dataset_dict(f, n, tuple(args.size), args.seed) for n, f in enumerate(files)]
        _decoders(result, files, args.runs)
        rate = _mapper(result, items, args.runs)
    _needs(result, rate, args.step_seconds)
    return result


def _decoders(result: Result, files: list[str], runs: int) -> None:
    pixels = {
        name: [read_image(f, upright=False, decoder=name) for f in files] for name in DECODERS
    }
    for name, images in pixels.items():
        same = all(np.array_equal(a, b) for a, b in zip(images, pixels["pil"], strict=True))
        result.checks[f"{name}: the pixels of pil"] = same
    del pixels
    works = [partial(_decode_all, files, name) for name in DECODERS]
    for name, measured in zip(DECODERS, alternate(works, runs), strict=True):
        _add_row(result, f"decode ({name})", measured.seconds / len(files))


def _decode_all(files: list[str], decoder: str) -> None:
    for file in files:
        read_image(file, upright=False, decoder=decoder)


def _mapper(result: Result, items: list[dict[str, Any]], runs: int) -> float:
    """Images a second of a core."""
    cfg = get_match_rcnn_cfg()
    cfg.MODEL.MASK_ON = cfg.MODEL.KEYPOINT_ON = True
    cfg.INPUT.MIN_SIZE_TRAIN = (800,)
    cfg.INPUT.MAX_SIZE_TRAIN = 1333
    mapper = GarmentMapper(cfg, is_train=True)
    ready = {
        i["file_name"]: read_image(i["file_name"], cfg.INPUT.FORMAT, upright=False) for i in items
    }

    def decoded() -> None:
        with Reading(lambda file, *_, **__: ready[file]):
            _map_all(mapper, items)

    for part, measured in zip(
        ("resize, flip, targets", "whole mapper"),
        alternate([decoded, partial(_map_all, mapper, items)], runs),
        strict=True,
    ):
        seconds = measured.seconds / len(items)
        _add_row(result, part, seconds)
    return 1 / seconds


def _map_all(mapper: GarmentMapper, items: list[dict[str, Any]]) -> None:
    for item in items:
        mapper(item)


class Reading:
    """Images come from ``read`` instead of from files."""

    def __init__(self, read: Callable[..., Pixels]) -> None:
        self.read = read

    def __enter__(self) -> None:
        self.original = mapper_module.read_image
        mapper_module.read_image = self.read

    def __exit__(self, *_: object) -> None:
        mapper_module.read_image = self.original


def _add_row(result: Result, part: str, seconds: float) -> None:
    result.rows.append({"part": part, "ms an image": 1e3 * seconds, "images/s a core": 1 / seconds})


def _needs(result: Result, rate: float, step_seconds: float | None) -> None:
    batch = GPUS * IMAGES_PER_GPU
    result.notes.append(
        f"{CORES} cores beside one GPU read {CORES * rate:.0f} images/s: enough for a step of "
        f"{IMAGES_PER_GPU} images in {1e3 * IMAGES_PER_GPU / (CORES * rate):.0f} ms"
    )
    if step_seconds:
        cores = batch / step_seconds / rate
        result.notes.append(
            f"{GPUS} GPUs that take {batch} images in {step_seconds:g} s need {cores:.1f} cores"
        )


def write_images(folder: Path, count: int, size: tuple[int, int], seed: int) -> list[str]:
    """JPEG files of smooth noise, (height, width) pixels."""
    generator = np.random.default_rng(seed)
    files: list[str] = []
    for number in range(count):
        coarse = generator.integers(0, 256, (size[0] // 12, size[1] // 12, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((size[1], size[0]), Image.Resampling.BICUBIC)
        grain = generator.normal(0, 4, (size[0], size[1], 1))
        noisy = np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8)
        files.append(str(folder / f"{number:06d}.jpg"))
        Image.fromarray(noisy).save(files[-1], quality=90)
    return files


def dataset_dict(file: str, number: int, size: tuple[int, int], seed: int) -> dict[str, Any]:
    """One image with two garments, as :mod:`match_rcnn.data.datasets` gives it."""
    generator = np.random.default_rng([seed, number])
    torch.manual_seed(seed + number)
    boxes = garment_boxes(2, *size).numpy()
    return {
        "file_name": file,
        "image_id": number,
        "height": size[0],
        "width": size[1],
        "source": "user",
        "pair_id": number,
        "annotations": [_annotation(box, generator) for box in boxes],
    }


def _annotation(box: npt.NDArray[Any], generator: np.random.Generator) -> dict[str, Any]:
    category = DEEPFASHION2.categories[generator.integers(len(DEEPFASHION2.categories))]
    extent = box[2:] - box[:2]
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    outline = box[:2] + extent * (0.5 + 0.5 * np.stack([np.cos(angles), np.sin(angles)], axis=1))
    places = box[:2] + extent * generator.random((category.num_landmarks, 2))
    visible = np.full((len(places), 1), 2)
    return {
        "bbox": [*box[:2].tolist(), *extent.tolist()],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": category.id - 1,
        "segmentation": [outline.flatten()],
        "keypoints": np.concatenate([places, visible], axis=1).astype(np.float32),
        "style": 1,
    }
