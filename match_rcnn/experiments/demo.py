"""The main job end to end, on generated data: the commands behind ``make demo``.

Every step is one of the repository's own commands, printed before it runs. A step whose output
is there already is passed over, and an interrupted training goes on from its last checkpoint.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from match_rcnn.d2 import HOST
from match_rcnn.evaluation.retrieval.baselines import comparison_table
from match_rcnn.evaluation.retrieval.evaluator import FILE_NAMES
from match_rcnn.evaluation.tables import retrieval_subset_table, subset_table
from match_rcnn.experiments.benchmarks.harness import machine
from match_rcnn.experiments.steps import Steps
from match_rcnn.inference.switches import bfloat16_is_fast
from match_rcnn.utils.files import read_json, write_json

DATASET = "deepfashion2_validation"

MEANING = """\
What this table means: the images are drawn by a program (match_rcnn/data/synthetic), the network
is a ResNet-18-FPN trained from nothing for some minutes on this machine (all five losses, then
matching alone in larger batches), and the validation images show products it has never seen. The
figures say that the whole chain works and let you compare two versions of the code on this data;
they say nothing about DeepFashion2 itself.
AP is the mean over IoU (landmarks: OKS) thresholds .50 to .95; "user" and "shop" are the two
kinds of photo; scale, occlusion, zoom-in and viewpoint have three levels each, which every item is
annotated with."""

MEANING_RETRIEVAL = """\
Top-k: of the consumers' items, the percentage with a right shop item among the first k (the
official protocol; an item that nothing was detected for counts as wrong). The colour histogram is
an opponent that learned nothing: the box's middle, 432 colours, no weights from anywhere. Chance
is computed from the labels: a random order of the same gallery."""


@dataclass(frozen=True)
class DemoSize:
    """How much to generate and train; None keeps the config's number of iterations."""

    train: int = 8000
    validation: int = 400
    pixels: int = 256
    iterations: int | None = None
    pictures: int = 12


class Demo:
    """Runs the steps in order below ``output``."""

    def __init__(
        self, output: Path, size: DemoSize, configs: Sequence[Path], seed: int = 1
    ) -> None:
        """
        Args:
            configs: of the trainings, each of which starts from the weights of the one before.
                The last one's model is evaluated.
        """
        self.output = output.resolve()
        self.size = size
        self.configs = [config.resolve() for config in configs]
        self.seed = seed
        self.steps = Steps("demo", self.output / "datasets")
        self.model = self.output / "model"

    def run(self) -> dict[str, Any]:
        """All steps; returns what ``summary.json`` holds."""
        started = time.perf_counter()
        size = self.size
        self.steps.generate(size.train, size.validation, size.pixels, self.seed)
        self.train()
        self.draw()
        self.compare()
        self.report()
        self.steps.seconds["all"] = time.perf_counter() - started
        summary = self.summary()
        write_json(self.output / "summary.json", summary)
        return summary

    def train(self) -> None:
        iterations = self.size.iterations
        overrides = [] if iterations is None else ["SOLVER.MAX_ITER", str(iterations)]
        if HOST == "lite" and bfloat16_is_fast():
            overrides += ["SOLVER.AMP.ENABLED", "True"]
        folders = [*(self.output / config.stem for config in self.configs[:-1]), self.model]
        weights: list[str] = []
        for config, folder in zip(self.configs, folders, strict=True):
            evaluation = [] if folder == self.model else ["DATASETS.TEST", "()"]
            self.steps.train(config, folder, weights + evaluation + overrides)
            weights = ["MODEL.WEIGHTS", str(folder / "model_final.pth")]

    def draw(self) -> None:
        weights = self.model / "model_final.pth"
        where = ("--input", DATASET, "--limit", str(self.size.pictures))
        self.steps.tool(
            "visualize",
            *("--config-file", str(self.configs[-1]), "--weights", str(weights), *where),
            *("--output", str(self.output / "pictures" / "predicted")),
        )
        self.steps.tool(
            "visualize",
            *("--ground-truth", *where, "--output", str(self.output / "pictures" / "annotated")),
        )

    def compare(self) -> None:
        """Retrieval beside chance and colour, and a picture of it."""
        self.steps.tool(
            "retrieval-baseline", "--run", str(self.model), "--output", str(self._comparison)
        )
        results = self.model / "inference" / DATASET / FILE_NAMES["retrieval"]
        picture = self.output / "pictures" / "retrieved.jpg"
        self.steps.tool("retrieval-figure", "--results", str(results), "--output", str(picture))

    @property
    def _comparison(self) -> Path:
        return self.output / "retrieval.json"

    def report(self) -> None:
        self.steps.tool("report", str(self.model), "--output", str(self.output / "report"))

    def summary(self) -> dict[str, Any]:
        return {
            "meaning": {"metrics": MEANING, "retrieval": MEANING_RETRIEVAL},
            "data": {**vars(self.size), "seed": self.seed},
            "configs": [config.name for config in self.configs],
            "metrics": last_metrics(self.model / "metrics.json"),
            "retrieval": read_json(self._comparison),
            "seconds": {name: round(value, 1) for name, value in self.steps.seconds.items()},
            "machine": machine(),
        }


def last_metrics(metrics_file: Path) -> dict[str, float]:
    """The evaluation metrics of the newest line that has any: AP of boxes, masks and landmarks and
    top-k accuracy of retrieval, whole and by subset, in percent."""
    lines = metrics_file.read_text(encoding="utf-8").splitlines()
    for line in reversed(lines):
        record = json.loads(line)
        found = {k: v for k, v in record.items() if "/AP" in k or "retrieval" in k}
        if any("/AP" in name for name in found):
            return found
    raise ValueError(f"{metrics_file} holds no evaluation; did the training reach its end?")


def summary_table(metrics: dict[str, float], title: str = "measured on generated data") -> str:
    """AP, AP50 and AP75 of every task, a row each."""
    tasks = list(dict.fromkeys(name.split("/")[0] for name in metrics if "/AP" in name))
    columns = ("AP", "AP50", "AP75")
    rows = [[task, *(metrics.get(f"{task}/{c}", float("nan")) for c in columns)] for task in tasks]
    return tabulate(rows, headers=[title, *columns], floatfmt=".1f")


def print_summary(summary: dict[str, Any]) -> None:
    """The demo's last words: every table, and what it means."""
    metrics = summary["metrics"]
    # Figures with a slash and AP only, or retrieval's would be columns of their own.
    average = {name: value for name, value in metrics.items() if "/AP" in name}
    parts = [
        summary_table(metrics),
        "By subset: AP, percent, measured on generated data",
        subset_table(average, ("AP",)),
        summary["meaning"]["metrics"],
        "Retrieval: top-k accuracy, percent, measured on generated data",
        comparison_table(summary["retrieval"]),
        "By subset of the query items, 0 to 1",
        retrieval_subset_table(metrics),
        summary["meaning"]["retrieval"],
    ]
    print("\n" + "\n\n".join(parts) + "\n")
