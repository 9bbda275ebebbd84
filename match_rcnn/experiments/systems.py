"""Systems of DeepFashion (2016) on generated data: rows that are trained and scored over seeds, and
reused where they were made with the same settings, weights and data.

A row is a config with a few keys changed. It may start from another row's weights, its *base*, such
as a system on frozen vectors; or be that row's weights, scored in another way.
"""

import os
import time
from argparse import REMAINDER, ArgumentParser, Namespace
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import torch

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import CfgNode, build_model
from match_rcnn.data.synthetic.deepfashion import generate
from match_rcnn.evaluation.recognition.evaluator import SCORES_NAME
from match_rcnn.experiments.steps import Steps, digest
from match_rcnn.utils.files import read_json, write_json
from match_rcnn.utils.shipped import config_file

_WEIGHTS, _SECONDS = "model_final.pth", "seconds.json"
_Plan = TypeVar("_Plan", bound="RecognitionPlan")


@dataclass(frozen=True)
class System:
    """A row of a table.

    Attributes:
        name: of the row.
        config: as ``--config-file`` takes it.
        opts: KEY VALUE overrides.
        base: the name of the row whose weights it starts from; "": none.
        only_scored: nothing is trained; the base's weights are scored with these keys.
    """

    name: str
    config: str
    opts: tuple[str, ...] = ()
    base: str = ""
    only_scored: bool = False

    @property
    def slug(self) -> str:
        """For a folder's name."""
        kept = "".join(c if c.isalnum() else " " for c in self.name)
        return "-".join(kept.split())


@dataclass(frozen=True)
class RecognitionPlan:
    """What every experiment of systems asks for.

    Attributes:
        seeds: of the start and of the order of the data.
        train, test: images of category and attribute prediction to generate; other benchmarks have
            half of ``train``.
        pixels: their longer side.
        data_seed: of the data.
        opts: KEY VALUE overrides of every run.
    """

    seeds: tuple[int, ...] = (1, 2, 3)
    train: int = 2000
    test: int = 400
    pixels: int = 160
    data_seed: int = 1
    opts: tuple[str, ...] = ()

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        """The options of a command that :meth:`of_arguments` reads, the plan's as defaults."""
        plan = cls()
        parser.add_argument("--datasets", type=Path, metavar="DIR", help="for deepfashion/")
        parser.add_argument("--seeds", type=int, nargs="+", default=list(plan.seeds))
        parser.add_argument("--train", type=int, default=plan.train, help="images to generate")
        parser.add_argument("--test", type=int, default=plan.test)
        parser.add_argument("--size", type=int, default=plan.pixels, help="longer side in pixels")
        parser.add_argument("--data-seed", type=int, default=plan.data_seed)
        parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
        parser.add_argument("--markdown", type=Path, metavar="PAGE", help="write the tables there")
        parser.add_argument("opts", nargs=REMAINDER, help="KEY VALUE overrides of every run")

    @classmethod
    def of_arguments(cls: type[_Plan], args: Namespace, **own: Any) -> _Plan:
        """A plan as a command was told. Args: own: attributes of the plan's own."""
        return cls(
            seeds=tuple(args.seeds),
            train=args.train,
            test=args.test,
            pixels=args.size,
            data_seed=args.data_seed,
            opts=tuple(args.opts),
            **own,
        )


class RecognitionSteps(Steps):
    """Commands on generated data in DeepFashion's (2016) forms."""

    FOLDER = "deepfashion"

    def generate_benchmarks(
        self, benchmarks: Iterable[str], plan: RecognitionPlan, workers: int
    ) -> None:
        """Make the data, unless they are there already.

        Raises:
            ValueError: the folder holds data of other settings.
        """
        options: dict[str, Any] = {"seed": plan.data_seed, "size": plan.pixels, "workers": workers}
        for benchmark in benchmarks:
            train = plan.train if benchmark == "category" else plan.train // 2
            generate(self.data / benchmark, benchmark, train, 0, plan.test, **options)

    @cached_property
    def digests(self) -> dict[str, str]:
        files = (f for d in ("Anno*", "Eval") for f in self.data.glob(f"*/{d}/**/*"))
        lists = sorted(file for file in files if file.suffix in (".txt", ".json"))
        photos = sorted(
            (str(f.relative_to(self.data)), f.stat().st_size) for f in self.data.rglob("*.jpg")
        )
        found = {f"data, {file.relative_to(self.data)}": digest(file) for file in lists}
        return {**found, "data, photos": sha256(repr(photos).encode()).hexdigest()}


class SystemRuns:
    """Runs systems below a folder.

    Args:
        systems: by name; a base is among them.
        opts: KEY VALUE overrides of every run, before a system's own.
        last_opts: the same, behind them.

    Raises:
        ValueError: a system's base is not among them, or is scored only.
    """

    def __init__(
        self,
        folder: Path,
        steps: RecognitionSteps,
        systems: Iterable[System],
        opts: Sequence[str] = (),
        last_opts: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.steps = steps
        self.systems = {system.name: system for system in systems}
        self.opts, self.last_opts = tuple(opts), tuple(last_opts)
        for system in self.systems.values():
            base = self.systems.get(system.base)
            if (system.base or system.only_scored) and (base is None or base.only_scored):
                raise ValueError(
                    f"{system.name} needs the weights of {system.base!r}, which is no row that is "
                    "trained"
                )

    def with_bases(self, names: Iterable[str]) -> list[str]:
        """The rows of these names, and those that they start from before them.

        Raises:
            ValueError: no row is called so.
        """
        ordered: dict[str, None] = {}
        for name in names:
            if name not in self.systems:
                raise ValueError(f"no system {name!r}; there are {', '.join(self.systems)}")
            base = self.systems[name].base
            ordered |= dict.fromkeys([*(self.with_bases([base]) if base else ()), name])
        return list(ordered)

    def place(self, name: str, seed: int) -> Path:
        return self.folder / f"{self.systems[name].slug}-{seed}"

    def run(self, name: str, seed: int) -> dict[str, Any]:
        """Run what is missing of a row; its base was run before.

        Returns:
            ``row``, ``seed``, ``metrics`` (by names such as
            ``deepfashion_category_test/category/top3``), ``seconds`` of training and scoring,
            ``trained_on`` (the benchmarks), ``parameters``, and of these ``learned``.

        Raises:
            ValueError: what is there already was made with other settings, weights or data.
            SystemExit: training or scoring failed.
        """
        system, folder = self.systems[name], self.place(name, seed)
        config = config_file(Path(system.config))
        options = ["SEED", str(seed), *self.opts, *system.opts, *self.last_opts]
        if system.base:
            weights = self.place(system.base, seed) / _WEIGHTS
            if not weights.is_file():
                raise SystemExit(f"{name}: {system.base} has no weights at {weights}")
            options += ["MODEL.WEIGHTS", str(weights)]
        self.steps.claim(config, folder, options)
        datasets = _config(config, options).DATASETS
        tests = datasets.TEST
        found = scores_of(folder, tests)
        if found is None or not (system.only_scored or (folder / _WEIGHTS).is_file()):
            self._run(system, config, folder, options)
            found = scores_of(folder, tests) or {}
        else:
            print(f"{folder}: finished before", flush=True)
        row = {"row": name, "seed": seed, "metrics": found, "seconds": _seconds(folder)}
        row["trained_on"] = [n.split("_")[1] for n in datasets.TRAIN]
        return {**row, **({} if system.only_scored else parameters(folder))}

    def _run(self, system: System, config: Path, folder: Path, options: list[str]) -> None:
        started, before = time.perf_counter(), _seconds(folder)
        try:
            if system.only_scored:
                where = ("--config-file", str(config), "--eval-only", "OUTPUT_DIR", str(folder))
                self.steps.tool("train", *where, *options)
            else:
                self.steps.train(config, folder, options)
        finally:  # what an interrupted run took counts
            write_json(folder / _SECONDS, before + time.perf_counter() - started)


def _config(config: Path, options: list[str]) -> CfgNode:
    cfg = get_match_rcnn_cfg()
    cfg.merge_from_file(str(config))
    cfg.merge_from_list(options)
    return cfg


def _seconds(folder: Path) -> float:
    return float(read_json(folder / _SECONDS)) if (folder / _SECONDS).is_file() else 0.0


def scores_of(run: Path, tests: Sequence[str]) -> dict[str, float] | None:
    """Of a run's evaluation, by names such as ``deepfashion_category_test/category/top3``; None
    before it has ended."""
    found: dict[str, float] = {}
    for name in tests:
        file = run / "inference" / name / SCORES_NAME
        if not file.is_file():
            return None
        for task, values in read_json(file).items():
            own = task.removeprefix("oracle_")
            found |= {f"{name}/{own}/{metric}": value for metric, value in values.items()}
    return found


def parameters(run: Path) -> dict[str, int]:
    """How many numbers a run's model has as parameters, and how many of them learned."""
    cfg = get_match_rcnn_cfg()
    cfg.merge_from_file(str(run / "config.yaml"))
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        model = build_model(cfg)
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return {
        "parameters": sum(size for size, _ in sizes),
        "learned": sum(size for size, learns in sizes if learns),
    }
