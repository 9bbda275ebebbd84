"""A first model for photos: drawings, then street photos, then matching; behind ``make street``.

Every step is one of the package's own commands, printed before it runs. A step whose output is
there already is passed over, and an interrupted training goes on from its last checkpoint.
"""

import time
from pathlib import Path
from typing import Any

import yaml

from match_rcnn.d2 import HOST
from match_rcnn.experiments.benchmarks.harness import machine
from match_rcnn.experiments.demo import DemoSize, last_metrics
from match_rcnn.experiments.steps import Steps, claim, digest
from match_rcnn.inference.switches import bfloat16_is_fast
from match_rcnn.utils.files import atomic_write, read_json, write_json
from match_rcnn.utils.shipped import config_file

PHOTOS = "ccp_validation"
Iterations = tuple[int | None, int | None, int | None, int | None]


class Street:
    """Runs the steps in order below ``output``.

    Args:
        ccp: a clone of bearpaw/clothing-co-parsing.
        clothing: a clone of alexeygrigorev/clothing-dataset, photos with a word each; None goes
            on without them.
        drawings: how many, and how large; None: as in the demo.
        iterations: of the four trainings; None keeps the configs'.

    Raises:
        FileNotFoundError: it is none.
    """

    CONFIGS = ("quickstart", "street", "street_words", "street_match")
    #: Photos of each word of ``clothing`` that are looked at.
    MOST = 220

    def __init__(
        self,
        output: Path,
        ccp: Path,
        clothing: Path | None = None,
        drawings: DemoSize | None = None,
        iterations: Iterations = (None, None, None, None),
    ) -> None:
        if not (ccp / "annotations" / "pixel-level").is_dir():
            raise FileNotFoundError(
                f"{ccp} is no clone of github.com/bearpaw/clothing-co-parsing (it has no "
                "annotations/pixel-level); name one, as in make street CCP=PATH"
            )
        self.output = output.resolve()
        self.ccp = ccp.resolve()
        self.clothing = None if clothing is None else clothing.resolve()
        self.drawings = DemoSize() if drawings is None else drawings
        self.iterations = iterations
        self.data = self.output / "datasets"
        self.annotations = {s: self.data / "ccp" / f"{s}.json" for s in ("train", "validation")}
        self.words = self.data / "clothing" / "train.json"
        self.steps = Steps("street", self.data)
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
        for split, target in self.annotations.items():
            arguments = ("--root", str(self.ccp), "--split", split, "--output", str(target))
            self.steps.tool("convert ccp", *arguments)
        entries: dict[str, dict[str, str]] = {
            f"ccp_{split}": {
                "source": "ccp",
                "root": str(self.ccp),
                "annotations": str(target),
            }
            for split, target in self.annotations.items()
        }
        if self.clothing is not None:
            entries["clothing_train"] = {
                "annotations": str(self.words),
                "images": str(self.clothing / "images"),
                "taxonomy": "deepfashion2",
            }
        with atomic_write(self.data / "street.yaml") as file:
            file.write(yaml.safe_dump(entries).encode())

    def train(self) -> None:
        weights: list[str] = []
        for name, iterations in zip(self.CONFIGS, self.iterations, strict=True):
            options = [] if iterations is None else ["SOLVER.MAX_ITER", str(iterations)]
            if name != self.CONFIGS[-1]:
                options += ["DATASETS.TEST", "()"]
            folder = self.output / name
            learned = [*self.annotations.values()]
            if name == "street_words" and self.clothing is not None:
                self._label(self.clothing, Path(weights[-1]))
                learned.append(self.words)
            elif name == "street_words":
                names = ("ccp_train", "deepfashion2_train")
                options += ["DATASETS.TRAIN", str(names), "DATASETS.TRAIN_WEIGHTS", "(9, 1)"]
            options = [*weights, *options, *self._precision]
            self.steps.train(config_file(name), folder, options, learned)
            average = folder / "model_ema.pth"
            final = average if average.is_file() else folder / "model_final.pth"
            weights = ["MODEL.WEIGHTS", str(final)]

    def _label(self, clothing: Path, weights: Path) -> None:
        """Boxes for the photos with words, by the model so far."""
        claim(self.words.parent, {"weights": digest(weights), "most": str(self.MOST)})
        if not self.words.is_file():
            self.steps.tool(
                "convert clothing",
                *("--root", str(clothing), "--weights", str(weights)),
                *("--output", str(self.words), "--most", str(self.MOST)),
            )

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
