"""From files to the whole table as a command: ours against hotcoco, each in a process of its own.

hotcoco (https://github.com/derekallman/hotcoco, in Rust) is the fastest evaluator of COCO files
that we know of. It gets the official sigmas; its numbers have to be ours to six digits.
"""

import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from match_rcnn.data.coco import category_records
from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.evaluation.coco.predictions import FILE_NAMES, write_predictions
from match_rcnn.evaluation.coco.scoring import TASKS
from match_rcnn.experiments.benchmarks.evaluation.world import World, make_world
from match_rcnn.experiments.benchmarks.harness import MIB, Result
from match_rcnn.utils.files import read_json, write_json

HOTCOCO, OURS, SUBSETS = "hotcoco", "ours", "ours, all subsets"
#: The most time that is asked for, as a ratio to hotcoco's.
GOALS = {OURS: 1.0, SUBSETS: 2.0}
_HOTCOCO = """
import json, sys, warnings
from hotcoco import COCO, COCOeval
warnings.simplefilter("ignore")
task, truth, results, output, sigmas = sys.argv[1:]
truth = COCO(truth)
evaluation = COCOeval(truth, truth.load_res(results), task)
if task == "keypoints":
    evaluation.params.kpt_oks_sigmas = json.loads(sigmas)
evaluation.evaluate()
evaluation.accumulate()
evaluation.summarize()
with open(output, "w") as file:
    json.dump({"stats": [float(value) for value in evaluation.stats]}, file)
"""
# A process in between, as a system counts a parent's memory as its child's until the child starts.
_LAUNCH = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
seconds = time.perf_counter() - start
if done.returncode:
    sys.exit(done.stderr.decode(errors="replace"))
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([seconds, used.ru_utime + used.ru_stime, used.ru_maxrss]))
"""


@dataclass(frozen=True)
class Used:
    """Of one process: seconds on the clock and of processors, and the largest resident size."""

    seconds: float
    cpu: float
    peak_mib: float


def compare(result: Result, images: int, runs: int) -> None:
    """Append rows, ratios and checks. Args: runs: of each, in turn; medians count."""
    if importlib.util.find_spec("hotcoco") is None:
        result.notes.append("hotcoco is not there: files not compared")
        return
    with tempfile.TemporaryDirectory(prefix="benchmark-evaluation-") as name:
        folder = Path(name)
        world = make_world(images, 2.2, (2, 4))
        write_files(folder, world)
        for task in TASKS:
            _compare_task(result, folder, task, world, runs)


def write_files(folder: Path, world: World) -> None:
    """The official dense form: ground truth, and results of every task."""
    truth = {
        "images": [
            {"id": i, "height": h, "width": w, "file_name": f"{i:06d}.jpg"}
            for i, (h, w) in enumerate(world.truth.image_sizes.tolist(), 1)
        ],
        "categories": category_records(),
        "annotations": [_annotation(world, i) for i in range(len(world.truth.ids))],
    }
    write_json(folder / "truth.json", truth, indent=False)
    for task in TASKS:
        write_predictions(folder, task, world.predictions)


def _annotation(world: World, index: int) -> dict[str, Any]:
    truth = world.truth
    assert truth.landmarks is not None
    category = DEEPFASHION2.categories[truth.category[index]]
    points: Any = np.zeros((DEEPFASHION2.num_landmarks, 3), dtype=np.int64)
    points[category.slice] = truth.landmarks.of(index, category.id)
    x, y, w, h = truth.boxes[index].tolist()
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    outline = np.column_stack([x + w / 2 * (1 + np.cos(angles)), y + h / 2 * (1 + np.sin(angles))])
    return {
        "id": int(truth.ids[index]),
        "image_id": int(truth.image_ids[truth.image[index]]),
        "category_id": category.id,
        "bbox": [x, y, w, h],
        "area": w * h,
        "iscrowd": 0,
        "num_keypoints": int(truth.num_keypoints[index]),
        "keypoints": points.ravel(),
        "segmentation": [outline.round(2).ravel()],
        **{name: int(levels[index]) for name, levels in truth.attributes.items()},
    }


def _compare_task(result: Result, folder: Path, task: str, world: World, runs: int) -> None:
    files = [folder / "truth.json", folder / FILE_NAMES[task]]
    theirs, ours = folder / "theirs.json", folder / "ours.json"
    sigmas = json.dumps(DEEPFASHION2.sigmas.tolist())
    tool = [
        "-m",
        "match_rcnn",
        "evaluate",
        "--task",
        task,
        "--ground-truth",
        files[0],
        "--results",
        files[1],
    ]
    commands: dict[str, Sequence[Any]] = {
        HOTCOCO: ["-c", _HOTCOCO, task, *files, theirs, sigmas],
        OURS: [*tool, "--output", ours],
        SUBSETS: [*tool, "--subsets", "--output", folder / "subsets.json"],
    }
    measured: dict[str, list[Used]] = {way: [] for way in commands}
    for _ in range(runs):
        for way, command in commands.items():
            measured[way].append(_run(command))
    used = {way: _median(found) for way, found in measured.items()}
    entries = len(read_json(files[1]))
    for way, own in used.items():
        result.rows.append(
            {
                "way": f"{way}, files, {task}",
                "images": len(world.predictions),
                "detections": entries,
                "seconds": own.seconds,
                "CPU seconds": own.cpu,
                "peak MiB": own.peak_mib,
            }
        )
    for way, goal in GOALS.items():
        name = f"files, {task}: hotcoco / {way}"
        result.ratios[f"{name}, time"] = used[HOTCOCO].seconds / used[way].seconds
        result.ratios[f"{name}, CPU"] = used[HOTCOCO].cpu / used[way].cpu
        result.ratios[f"{name}, memory"] = used[HOTCOCO].peak_mib / used[way].peak_mib
        result.goals[f"{name}, time"] = 1 / goal
        result.goals[f"{name}, memory"] = 1.0
    away = np.abs(np.subtract(read_json(theirs)["stats"], read_json(ours)["stats"])).max()
    result.checks[f"files, {task}: largest difference to hotcoco {away:.1e} < 1e-6"] = away < 1e-6


def _run(command: Sequence[Any]) -> Used:
    asked = [sys.executable, *map(str, command)]
    done = subprocess.run(
        [sys.executable, "-c", _LAUNCH, *asked], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    seconds, cpu, size = json.loads(done.stdout)
    return Used(seconds, cpu, size * (1 if sys.platform == "darwin" else 1024) / MIB)


def _median(found: Sequence[Used]) -> Used:
    columns = zip(*((u.seconds, u.cpu, u.peak_mib) for u in found), strict=True)
    return Used(*(statistics.median(column) for column in columns))
