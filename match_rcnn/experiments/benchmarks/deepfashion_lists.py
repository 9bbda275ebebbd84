"""DeepFashion's (2016) category benchmark opened at full size: from its lists, then from the cache.

Every opening is a process of its own, measured behind its imports. The reference reads the same
lists line by line into dataset dicts, a part of the images, scaled to all. The images are links to
one file.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from match_rcnn.data.recognition import load_records
from match_rcnn.data.sources.deepfashion import SLOTS_OF_TYPE
from match_rcnn.experiments.benchmarks.harness import MIB, Result, measure
from match_rcnn.utils.arrays import Array

_FOLDERS, _SIZE, _ROWS = 5620, (200, 300), 4096
#: What a process does that opens the data set and reads some of it; prints JSON.
_OPEN = """
import json, sys, time
from pathlib import Path
from match_rcnn.data.recognition import load_benchmark, Records
from match_rcnn.experiments.benchmarks.harness import peak_mib, reset_peak
before = reset_peak()
wall, start = time.perf_counter(), time.process_time()
stored = load_benchmark(Path(sys.argv[1]), "category", progress=False)
wall, opened = time.perf_counter() - wall, time.process_time()
peak = peak_mib() - before
train = Records(Path(sys.argv[1]), stored, "train")
some = [train[i * len(train) // 1000] for i in range(1000)]
read = time.process_time()
train.attribute_counts()
counted = time.process_time()
cpu = [opened - start, read - opened, counted - read]
print(json.dumps([wall, *cpu, peak, peak_mib() - before, before]))
"""
_STEPS = ("open s", "open cpu s", "1,000 records cpu s", "counting cpu s")
_SIZES = ("open MiB", "all MiB", "imports MiB")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=int, default=289222, metavar="N")
    parser.add_argument("--attributes", type=int, default=1000, metavar="A")
    parser.add_argument("--reference-images", type=int, default=2000, help="read line by line")
    parser.add_argument("--folder", type=Path, help="where to write the lists (about 1 GB)")


def run(args: argparse.Namespace) -> Result:
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        root = Path(folder)
        _write(root, args.images, args.attributes)
        first, second = _open(root), _open(root)
        part = min(args.reference_images, args.images)
        plain: list[dict[str, Any]] = []
        reference = measure(lambda: plain.extend(_plain(root, part)), runs=1, warmup=0)
        cache = (root / "cache/category.records").stat().st_size / MIB
        agrees = _agree(root, plain)
    scaled = reference.seconds * args.images / part
    rows = [
        {"what": f"lists, line by line ({part} images)", "open s": reference.seconds},
        {"what": f"lists, checked ({args.images} images)", **first},
        {"what": f"cache ({args.images} images)", **second},
    ]
    return Result(
        "deepfashion-lists",
        rows,
        ratios={"lists line by line, scaled / cache": scaled / second["open s"]},
        checks={f"records equal the lists, {len(plain)} images": agrees},
        notes=[
            f"the cache has {cache:.0f} MiB, of which what is read counts, as mapped pages, too",
            "open and all MiB are peaks beyond what the imports (torch) take",
            "cpu s: of the process alone; where there are cores, others read the images' sizes",
        ],
    )


def _open(root: Path) -> dict[str, float]:
    command = [sys.executable, "-c", _OPEN, str(root)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(zip((*_STEPS, *_SIZES), json.loads(done.stdout), strict=True))


def _write(root: Path, images: int, attributes: int) -> None:
    """A category benchmark of random labels."""
    rng = np.random.default_rng(0)
    (root / "Anno").mkdir()
    (root / "Eval").mkdir()
    picture = root / "picture.jpg"
    assert cv2.imwrite(str(picture), np.zeros((_SIZE[1], _SIZE[0], 3), np.uint8))
    names = [f"img/Some_Kind_{i % _FOLDERS:04d}/img_{i:08d}.jpg" for i in range(images)]
    for folder in sorted({Path(name).parent for name in names}):
        (root / "Img" / folder).mkdir(parents=True)
    for name in names:
        (root / "Img" / name).symlink_to(picture)
    _list(root, "Anno/list_category_cloth.txt", [f"Kind{i} {1 + i % 3}" for i in range(50)])
    _list(root, "Anno/list_attr_cloth.txt", [f"some {i} {1 + i % 5}" for i in range(attributes)])
    kinds = rng.integers(0, 50, images)
    _list(root, "Anno/list_category_img.txt", _rows(names, kinds[:, None] + 1))
    corners = np.sort(rng.integers(1, 199, (images, 2, 2)), 1) + np.array([[0], [1]])
    _list(root, "Anno/list_bbox.txt", _rows(names, corners.reshape(images, 4)))
    marks = []
    for name, kind in zip(names, (kinds % 3 + 1).tolist(), strict=True):
        values = rng.integers(0, 2, (len(SLOTS_OF_TYPE[kind]), 3)) * [1, 150, 250]
        marks.append(f"{name} {kind} {' '.join(map(str, values.ravel()))}")
    _list(root, "Anno/list_landmarks.txt", marks)
    splits = np.array(["train", "train", "train", "val", "test"])[rng.integers(0, 5, images)]
    splits[:3] = ["train", "val", "test"]
    rows = [f"{name} {split}" for name, split in zip(names, splits, strict=True)]
    _list(root, "Eval/list_eval_partition.txt", rows)
    _write_attributes(root / "Anno/list_attr_img.txt", rng, names, attributes)


def _list(root: Path, name: str, rows: list[str]) -> None:
    (root / name).write_text("\n".join([str(len(rows)), "first second", *rows]) + "\n")


def _rows(names: list[str], values: Array) -> list[str]:
    return [
        f"{name} {' '.join(map(str, row))}"
        for name, row in zip(names, values.tolist(), strict=True)
    ]


def _write_attributes(
    file: Path, rng: np.random.Generator, names: list[str], attributes: int
) -> None:
    words = np.frombuffer(b" -1  0  1", np.uint8).reshape(3, 3)
    with file.open("wb") as stream:
        stream.write(f"{len(names)}\nfirst second\n".encode())
        for start in range(0, len(names), _ROWS):
            some = names[start : start + _ROWS]
            labels = np.zeros((len(some), attributes), dtype=np.int8)
            labels[:, :] = rng.choice([0, 0, 0, 0, 0, 0, 0, 0, 1, 2], attributes)
            labels[np.arange(len(some)), rng.integers(0, attributes, len(some))] = 2
            for name, row in zip(some, words[labels], strict=True):
                stream.write(name.encode() + row.tobytes() + b"\n")


def _plain(root: Path, part: int) -> list[dict[str, Any]]:
    """Dataset dicts of the first images, read line by line."""
    tables: dict[str, dict[str, list[str]]] = {}
    for name in ("category_img", "attr_img", "bbox", "landmarks"):
        with (root / f"Anno/list_{name}.txt").open() as stream:
            rows = [next(stream) for _ in range(part + 2)][2:]
        tables[name] = {line.split(None, 1)[0]: line.split()[1:] for line in rows}
    found = []
    for image, values in tables["category_img"].items():
        kind, *marks = (int(v) for v in tables["landmarks"][image])
        landmarks = np.zeros((8, 2), dtype=np.float32)
        visibility = np.full(8, 3, dtype=np.int8)
        for i, slot in enumerate(SLOTS_OF_TYPE[kind]):
            visibility[slot], *landmarks[slot] = marks[3 * i : 3 * i + 3]
        found.append(
            {
                "image": image,
                "bbox": [float(v) for v in tables["bbox"][image]],
                "category_id": int(values[0]) - 1,
                "attributes": np.array([int(v) for v in tables["attr_img"][image]], np.int8),
                "landmarks": landmarks,
                "visibility": visibility,
            }
        )
    return found


def _agree(root: Path, plain: list[dict[str, Any]]) -> bool:
    expected = {str(entry.pop("image")): entry for entry in plain}
    seen = 0
    for split in ("train", "val", "test"):
        records = load_records(root, "category", split)
        for i in np.flatnonzero(np.isin(records.column("image"), list(expected))).tolist():
            image = records[i]
            annotation = image["annotations"][0]
            own = expected[image["image_name"]]
            if not all(np.array_equal(annotation[key], own[key]) for key in own):
                return False
            seen += 1
    return seen == len(expected)
