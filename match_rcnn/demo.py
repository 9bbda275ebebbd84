"""The main job end to end, on generated data: the commands behind ``make demo``.

Every step is one of the repository's own commands, printed before it runs. A step whose output
is there already is passed over, and an interrupted training goes on from its last checkpoint.
"""

import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from match_rcnn.benchmarks.harness import machine
from match_rcnn.utils.files import read_json, write_json

ROOT = Path(__file__).resolve().parent.parent

MEANING = """\
What this table means: the images are drawn by a program (match_rcnn/data/synthetic), the network
is a ResNet-18-FPN trained from nothing for some minutes on this machine, and the validation
images show products it has never seen. The figures say that the whole chain works and let you
compare two versions of the code on this data; they say nothing about DeepFashion2 itself.
AP is the mean over IoU (landmarks: OKS) thresholds .50 to .95; "user" and "shop" are the two
kinds of photo."""


@dataclass(frozen=True)
class DemoSize:
    """How much to generate and train; None keeps the config's number of iterations."""

    train: int = 3000
    validation: int = 400
    pixels: int = 256
    iterations: int | None = None
    pictures: int = 12


class Demo:
    """Runs the steps in order below ``output``; ``seconds`` holds what each took."""

    def __init__(self, output: Path, size: DemoSize, config: Path, seed: int = 1) -> None:
        self.output = output.resolve()
        self.size = size
        self.config = config.resolve()
        self.seed = seed
        self.data = self.output / "datasets" / "deepfashion2"
        self.model = self.output / "model"
        self.seconds: dict[str, float] = {}

    def run(self) -> dict[str, Any]:
        """All steps; returns what ``summary.json`` holds."""
        started = time.perf_counter()
        self.generate()
        for split in ("train", "validation"):
            self.convert(split)
        self.train()
        self.draw()
        self.report()
        self.seconds["all"] = time.perf_counter() - started
        summary = self.summary()
        write_json(self.output / "summary.json", summary)
        return summary

    def generate(self) -> None:
        done = self.data / "demo.json"
        asked = {"train": self.size.train, "validation": self.size.validation}
        asked |= {"size": self.size.pixels, "seed": self.seed}
        if done.exists() and read_json(done) == asked:
            return
        flags = [str(x) for key, value in asked.items() for x in (f"--{key}", value)]
        self._tool("make_synthetic_df2", "--output", str(self.data), *flags)
        write_json(done, asked)

    def convert(self, split: str) -> None:
        self._tool(
            "convert_df2",
            *("--root", str(self.data), "--split", split, "--compact"),
            *("--output", str(self.data / "annotations" / f"{split}.json")),
        )

    def train(self) -> None:
        iterations = self.size.iterations
        overrides = [] if iterations is None else ["SOLVER.MAX_ITER", str(iterations)]
        self._tool(
            "train_net",
            *("--config-file", str(self.config), "--resume", "OUTPUT_DIR", str(self.model)),
            *overrides,
        )

    def draw(self) -> None:
        weights = self.model / "model_final.pth"
        where = ("--input", "deepfashion2_validation", "--limit", str(self.size.pictures))
        self._tool(
            "visualize",
            *("--config-file", str(self.config), "--weights", str(weights), *where),
            *("--output", str(self.output / "pictures" / "predicted")),
        )
        self._tool(
            "visualize",
            *("--ground-truth", *where, "--output", str(self.output / "pictures" / "annotated")),
        )

    def report(self) -> None:
        self._tool("report", str(self.model), "--output", str(self.output / "report"))

    def summary(self) -> dict[str, Any]:
        return {
            "meaning": MEANING,
            "data": {**vars(self.size), "seed": self.seed},
            "config": self.config.name,
            "metrics": last_metrics(self.model / "metrics.json"),
            "seconds": {name: round(value, 1) for name, value in self.seconds.items()},
            "machine": machine(),
        }

    def _tool(self, name: str, *arguments: str) -> None:
        command = [sys.executable, str(ROOT / "tools" / f"{name}.py"), *arguments]
        print(f"\n$ {shlex.join(['python', f'tools/{name}.py', *arguments])}", flush=True)
        started = time.perf_counter()
        environment = {**os.environ, "DETECTRON2_DATASETS": str(self.data.parent)}
        done = subprocess.run(command, env=environment, cwd=ROOT, check=False)
        if done.returncode:
            raise SystemExit(f"demo: tools/{name}.py ended with exit code {done.returncode}")
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


def last_metrics(metrics_file: Path) -> dict[str, float]:
    """The evaluation metrics (names with a slash and AP) of the newest line that has any."""
    lines = metrics_file.read_text(encoding="utf-8").splitlines()
    for line in reversed(lines):
        record = json.loads(line)
        found = {k: v for k, v in record.items() if "/AP" in k}
        if found:
            return found
    raise ValueError(f"{metrics_file} holds no evaluation; did the training reach its end?")


def summary_table(metrics: dict[str, float]) -> str:
    """AP, AP50 and AP75 of every task, a row each."""
    tasks = list(dict.fromkeys(name.split("/")[0] for name in metrics))
    columns = ("AP", "AP50", "AP75")
    rows = [[task, *(metrics.get(f"{task}/{c}", float("nan")) for c in columns)] for task in tasks]
    return tabulate(rows, headers=["measured on generated data", *columns], floatfmt=".1f")
