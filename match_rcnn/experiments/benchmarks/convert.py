"""Conversion of annotation files to one COCO file: our converter against the plain loop.

The plain loop is what one writes first (and what the official script does): one process, ``json``
and PIL, one dictionary for everything, ``json.dump`` at the end. Both convert the same files, in
turn, with warm file caches, and their outputs are compared. Then our converter runs alone on data
sets of two sizes, for the memory of all its processes.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from match_rcnn.data.conversion import convert
from match_rcnn.data.taxonomy import DEEPFASHION2, Category
from match_rcnn.experiments.benchmarks.harness import Result, alternate

GOAL = 10.0
MEMORY_IMAGES = (2_000, 20_000)
#: Memory counts as flat when the larger set needs at most this much more than the smaller.
MEMORY_TOLERANCE = 1.1
_SPLIT = "train"

# The peak of the process itself is read from /proc where there is one: getrusage also counts what
# the parent held when it forked.
_PEAK_CODE = """
import pathlib, resource, sys
from match_rcnn.data.conversion import convert
convert(sys.argv[1], sys.argv[2], sys.argv[3], workers=int(sys.argv[4]))
own, workers = (resource.getrusage(who).ru_maxrss for who in
                (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
status = pathlib.Path("/proc/self/status")
if status.exists():
    own = int(status.read_text().split("VmHWM:")[1].split()[0])
print(own / 1024, workers / 1024)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=int, default=5000, metavar="N", help="files to convert")
    parser.add_argument("--runs", type=int, default=3, help="timed runs; the median counts")
    parser.add_argument("--workers", type=int, default=2, help="our processes, beside one alone")
    parser.add_argument(
        "--memory-images",
        type=int,
        nargs=2,
        default=MEMORY_IMAGES,
        metavar=("SMALL", "LARGE"),
        help="sizes of the data sets whose memory is compared",
    )


def run(args: argparse.Namespace) -> Result:
    with tempfile.TemporaryDirectory(prefix="benchmark-convert-") as name:
        folder = Path(name)
        make_data_set(folder / "speed", args.images)
        result = measure_speed(folder, args.images, args.runs, args.workers)
        measure_memory(folder, tuple(args.memory_images), args.workers, result)
    return result


def measure_speed(folder: Path, images: int, runs: int, workers: int) -> Result:
    """Time the plain loop and ours in turn, and compare what they wrote."""
    root, ours, plain = folder / "speed", folder / "ours.json", folder / "plain.json"
    ways = {
        "plain loop": lambda: plain_loop(root, plain),
        "ours, 1 process": lambda: convert(root, _SPLIT, ours, workers=1),
        f"ours, {workers} processes": lambda: convert(root, _SPLIT, ours, workers=workers),
    }
    measured = dict(zip(ways, alternate(list(ways.values()), runs), strict=True))
    reference, single, several = (m.seconds for m in measured.values())
    rows = [
        {"way": way, "images": images, "seconds": m.seconds, "images/s": images / m.seconds}
        for way, m in measured.items()
    ]
    best = min(single, several)
    return Result(
        "convert",
        rows,
        ratios={
            "speed": reference / best,
            "speed, 1 process": reference / single,
            f"speed, {workers} processes": reference / several,
        },
        goals={"speed": GOAL},
        checks={"equal output": equal_output(ours, plain)},
        notes=["warm file caches; ours also checks every file and keeps the dropped keys"],
    )


def measure_memory(folder: Path, sizes: tuple[int, ...], workers: int, result: Result) -> None:
    """Add the peak memory of our processes, on data sets of two sizes, to ``result``."""
    peaks = {}
    for size in sizes:
        make_data_set(folder / f"memory{size}", size)
        arguments = [folder / f"memory{size}", _SPLIT, folder / "memory.json", workers]
        command = [sys.executable, "-c", _PEAK_CODE, *map(str, arguments)]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        main, worker = map(float, out.split())
        peaks[size] = main, worker
        result.notes.append(
            f"{size} images: peak {main:.1f} MiB in the main process, {worker:.1f} in a worker"
        )
    small, large = (max(peaks[size]) for size in sizes)
    result.ratios["memory, small set / large set"] = small / large
    result.goals["memory, small set / large set"] = 1 / MEMORY_TOLERANCE
    result.checks["memory is flat"] = large <= MEMORY_TOLERANCE * small


def make_data_set(root: Path, images: int, seed: int = 0) -> None:
    """Write ``images`` annotation files of one to three items, and as many small JPEGs."""
    from PIL import Image

    generator = np.random.default_rng(seed)
    for name in ("image", "annos"):
        (root / _SPLIT / name).mkdir(parents=True)
    pixels = Image.new("RGB", (64, 80), (200, 80, 40))
    pixels.save(root / "one.jpg")
    jpeg = (root / "one.jpg").read_bytes()
    for number in range(1, images + 1):
        annotation: dict[str, Any] = {"source": "user", "pair_id": number}
        for item in range(int(generator.integers(1, 3, endpoint=True))):
            annotation[f"item{item + 1}"] = _random_item(generator)
        (root / _SPLIT / "image" / f"{number:06d}.jpg").write_bytes(jpeg)
        (root / _SPLIT / "annos" / f"{number:06d}.json").write_text(json.dumps(annotation))


def _random_item(generator: np.random.Generator) -> dict[str, Any]:
    category: Category = DEEPFASHION2.categories[
        int(generator.integers(len(DEEPFASHION2.categories)))
    ]
    n = category.num_landmarks
    landmarks = generator.integers(1, 64, (n, 3))
    landmarks[:, 2] = generator.integers(0, 3, n)
    landmarks[landmarks[:, 2] == 0] = 0
    outline = generator.integers(1, 64, (2, 40)).tolist()
    x1, y1 = generator.integers(0, 30, 2).tolist()
    return {
        "segmentation": outline,
        "scale": 2,
        "viewpoint": 2,
        "zoom_in": 1,
        "landmarks": landmarks.reshape(-1).tolist(),
        "style": int(generator.integers(0, 3)),
        "bounding_box": [x1, y1, x1 + 30, y1 + 45],
        "category_id": category.id,
        "occlusion": 2,
        "category_name": category.name,
    }


def plain_loop(root: Path, output: Path) -> None:
    """The reference: written on its own, shares nothing with the converter but the taxonomy."""
    from PIL import Image

    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for path in sorted((root / _SPLIT / "annos").iterdir()):
        with open(path) as file:
            content = json.load(file)
        with Image.open(root / _SPLIT / "image" / f"{path.stem}.jpg") as image:
            width, height = image.size
        images.append(_plain_image(path.stem, width, height))
        for item in _plain_items(content):
            item.update(id=len(annotations) + 1, image_id=int(path.stem))
            annotations.append(item)
    names = [str(i) for i in range(1, DEEPFASHION2.num_landmarks + 1)]
    categories = [
        {
            "id": c.id,
            "name": c.coco_name,
            "supercategory": "clothes",
            "keypoints": names,
            "skeleton": [],
        }
        for c in DEEPFASHION2.categories
    ]
    whole = {
        "info": {},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }
    with open(output, "w") as file:
        json.dump(whole, file)


def _plain_image(stem: str, width: int, height: int) -> dict[str, Any]:
    return {
        "coco_url": "",
        "date_captured": "",
        "file_name": f"{stem}.jpg",
        "flickr_url": "",
        "id": int(stem),
        "license": 0,
        "width": width,
        "height": height,
    }


def _plain_items(content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for key, item in content.items():
        if key in ("source", "pair_id"):
            continue
        x1, y1, x2, y2 = item["bounding_box"]
        category = DEEPFASHION2.categories[item["category_id"] - 1]
        points = [0.0] * (3 * DEEPFASHION2.num_landmarks)
        points[3 * category.offset : 3 * category.offset + len(item["landmarks"])] = [
            float(value) for value in item["landmarks"]
        ]
        yield {
            "area": (x2 - x1) * (y2 - y1),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "category_id": item["category_id"],
            "pair_id": content["pair_id"],
            "iscrowd": 0,
            "style": item["style"],
            "num_keypoints": sum(v > 0 for v in item["landmarks"][2::3]),
            "keypoints": points,
            "segmentation": item["segmentation"],
        }


def equal_output(ours: Path, plain: Path) -> bool:
    """Whether ours holds every value of the reference, in its order; ours may add keys."""
    mine, reference = (json.loads(path.read_bytes()) for path in (ours, plain))
    if mine.keys() != reference.keys() or mine["categories"] != reference["categories"]:
        return False
    return all(
        len(mine[name]) == len(reference[name])
        and all(
            {key: found.get(key) for key in wanted} == wanted
            for found, wanted in zip(mine[name], reference[name], strict=True)
        )
        for name in ("images", "annotations")
    )
