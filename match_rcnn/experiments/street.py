"""A first model for photos: drawings, then street photos, then matching; behind ``make street``.

Every step is one of the package's own commands, printed before it runs. A step whose output is
there already is passed over, and an interrupted training goes on from its last checkpoint.
"""

import time
from pathlib import Path
from typing import Any

from match_rcnn.d2 import HOST
from match_rcnn.experiments.benchmarks.harness import machine
from match_rcnn.experiments.demo import DemoSize, last_metrics
from match_rcnn.experiments.steps import Steps
from match_rcnn.inference.switches import bfloat16_is_fast
from match_rcnn.utils.files import read_json, write_json
from match_rcnn.utils.shipped import config_file

PHOTOS = "ccp_validation"


Iterations = tuple[int | None, int | None, int | None]


class Street:
    """Runs the steps in order below ``output``.

    Args:
        ccp: a clone of bearpaw/clothing-co-parsing.
        drawings: how many, and how large; None: as in the demo.
        iterations: of the three trainings; None keeps the configs'.

    Raises:
        FileNotFoundError: it is none.
    """

    CONFIGS = ("quickstart", "street", "street_match")

    def __init__(
        self,
        output: Path,
        ccp: Path,
        drawings: DemoSize | None = None,
        iterations: Iterations = (None, None, None),
    ) -> None:
        if not (ccp / "annotations" / "pixel-level").is_dir():
            raise FileNotFoundError(
                f"{ccp} is no clone of github.com/bearpaw/clothing-co-parsing (it has no "
                "annotations/pixel-level); name one, as in make street CCP=PATH"
            )
        self.output = output.resolve()
        self.ccp = ccp.resolve()
        self.drawings = DemoSize() if drawings is None else drawings
        self.iterations = iterations
        self.data = self.output / "datasets"
        annotations = [self.data / "ccp" / f"{split}.json" for split in ("train", "validation")]
        self.steps = Steps("street", self.data, annotations)
        self.model = self.output / self.CONFIGS[-1]

    @property
    def file(self) -> Path:
        return self.output / "street.safetensors"

    def run(self) -> dict[str, Any]:
        """All steps; returns what ``summary.json`` holds."""
        started = time.perf_counter()
        size = self.drawings
        self.steps.generate(size.train, size.validation, size.pixels, seed=1)
        self.convert()
        self.train()
        packed = self.pack()
        self.steps.seconds["all"] = time.perf_counter() - started
        summary = {
            "metrics": last_metrics(self.model / "metrics.json"),
            "model": packed,
            "seconds": {name: round(value, 1) for name, value in self.steps.seconds.items()},
            "machine": machine(),
        }
        write_json(self.output / "summary.json", summary)
        return summary

    def convert(self) -> None:
        """Clothing Co-Parsing's photos and annotations among the data sets."""
        self.data.mkdir(parents=True, exist_ok=True)
        for split in ("train", "validation"):
            target = self.data / "ccp" / f"{split}.json"
            arguments = ("--root", str(self.ccp), "--split", split, "--output", str(target))
            self.steps.tool("convert ccp", *arguments)
        entries = [
            f"ccp_{split}: {{source: ccp, root: '{self.ccp}', annotations: ccp/{split}.json}}\n"
            for split in ("train", "validation")
        ]
        (self.data / "ccp.yaml").write_text("".join(entries), encoding="utf-8")

    def train(self) -> None:
        weights: list[str] = []
        for name, iterations in zip(self.CONFIGS, self.iterations, strict=True):
            options = [] if iterations is None else ["SOLVER.MAX_ITER", str(iterations)]
            if name != self.CONFIGS[-1]:
                options += ["DATASETS.TEST", "()"]
            folder = self.output / name
            self.steps.train(config_file(name), folder, [*weights, *options, *self._precision])
            average = folder / "model_ema.pth"
            final = average if average.is_file() else folder / "model_final.pth"
            weights = ["MODEL.WEIGHTS", str(final)]

    @property
    def _precision(self) -> list[str]:
        fast = HOST == "lite" and bfloat16_is_fast()
        return ["SOLVER.AMP.ENABLED", "True"] if fast else []

    def pack(self) -> dict[str, Any]:
        weights = str(self.model / "model_final.pth")
        self.steps.tool(
            "pack",
            *("--config-file", str(config_file(self.CONFIGS[-1])), "--weights", weights),
            *("--output", str(self.file), "--calibrate", PHOTOS),
            *("--plot", str(self.output / "reliability.svg")),
            *("--summary", str(self.output / "model.json")),
        )
        packed: dict[str, Any] = read_json(self.output / "model.json")
        return packed
