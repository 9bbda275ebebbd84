"""The project's own Table 8: feature variants x losses x seeds, on generated data.

One detector is trained and shared. Every run starts from its weights and trains the match head
alone; the detector, and so the features, stay as they are. That makes a run a fraction of the cost
of joint training, and all runs work on the very same boxes. With ``joint`` every run trains all
losses from the config's start instead.

Steps are ``tools/train_net.py`` runs: one that is finished is passed over, an interrupted one goes
on from its last checkpoint; either only where it was made with the same settings, weights and data.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

from match_rcnn.data.datasets import register_deepfashion2
from match_rcnn.evaluation.retrieval.baselines import BOXES, compare, comparison_table
from match_rcnn.experiments.benchmarks.harness import machine
from match_rcnn.experiments.demo import DATASET, last_metrics
from match_rcnn.experiments.pages import TablePage, markdown_table, spread
from match_rcnn.experiments.steps import Steps, claim, digest
from match_rcnn.utils.files import atomic_write, write_json

#: Of ``MODEL.ROI_MATCH_HEAD.FEATURES``: the rows of the paper's Table 8, then ours.
VARIANTS = ("class", "pose", "mask", "pose+class", "mask+class", "pyramid", "pyramid+class")
#: Of ``MODEL.ROI_MATCH_HEAD.LOSS``, the paper's first.
LOSSES = ("pair_ce", "triplet", "contrastive", "info_nce")
TOPS = (1, 5, 20)
PAGE = TablePage("ablation", "Ablation: features and losses of the match network")


class Setting(NamedTuple):
    """A row of the table."""

    features: str
    loss: str


@dataclass(frozen=True)
class AblationPlan:
    """What is run.

    Attributes:
        grid: all variants with all losses; otherwise all variants with ``loss`` and all losses
            with ``features``.
        seeds: of the match head's start and of the order of the data.
        detector: a checkpoint to take in place of training one; its match head is left out.
        detector_iterations, iterations: of the shared detector and of each run; None keeps the
            config's.
        joint: no shared detector; every run trains everything.
        opts: KEY VALUE overrides of every run.
    """

    grid: bool = False
    features: str = "pose+class"
    loss: str = "pair_ce"
    seeds: tuple[int, ...] = (1, 2, 3)
    detector: Path | None = None
    detector_iterations: int | None = None
    iterations: int | None = None
    joint: bool = False
    opts: tuple[str, ...] = field(default=())

    def settings(self) -> list[Setting]:
        """The rows, each once."""
        if self.grid:
            return [Setting(features, loss) for features in VARIANTS for loss in LOSSES]
        by_features = [Setting(features, self.loss) for features in VARIANTS]
        by_loss = [Setting(self.features, loss) for loss in LOSSES]
        return list(dict.fromkeys([*by_features, *by_loss]))


class Ablation:
    """Runs a plan below ``output``."""

    def __init__(self, output: Path, config: Path, plan: AblationPlan, datasets: Path) -> None:
        self.output = output.resolve()
        self.config = config.resolve()
        self.plan = plan
        self.steps = Steps("ablation", datasets)

    def run(self) -> dict[str, Any]:
        """Run what is missing; returns what ``ablation.json``, written after every run, holds.

        Raises:
            FileNotFoundError: ``plan.detector`` is not there.
            ValueError: what is there already was made with other settings, weights or data.
        """
        if not self.plan.joint:
            self._get_detector(self.output / "detector")
        summary: dict[str, Any] = {}
        runs: list[dict[str, Any]] = []
        # Seed by seed, so that an early look has every row.
        for seed in self.plan.seeds:
            for setting in self.plan.settings():
                folder = self.folder(setting, seed)
                self._train(folder, self._options(setting, seed))
                metrics = last_metrics(folder / "metrics.json")
                runs.append({**setting._asdict(), "seed": seed, "metrics": metrics})
                summary = self._summary(runs)
                write_json(self.output / "ablation.json", summary)
        summary["baselines"] = self._baselines(folder)
        write_json(self.output / "ablation.json", summary)
        return summary

    def folder(self, setting: Setting, seed: int) -> Path:
        """The OUTPUT_DIR of a run."""
        kind = "joint" if self.plan.joint else "head"
        return self.output / kind / f"{setting.features}-{setting.loss}-{seed}"

    def _get_detector(self, folder: Path) -> None:
        given = self.plan.detector
        if given is None:
            self._train(folder, self._detector_options())
            return
        state = torch.load(given, map_location="cpu", weights_only=True)["model"]
        claim(folder, {"detector": digest(given)})
        kept = {k: v for k, v in state.items() if not k.startswith("roi_heads.match_head.")}
        with atomic_write(folder / "model_final.pth") as file:
            torch.save({"model": kept}, file)

    def _detector_options(self) -> list[str]:
        options = ["MODEL.MATCH_ON", "False", *self._iterations(self.plan.detector_iterations)]
        return [*options, *self.plan.opts]

    def _options(self, setting: Setting, seed: int) -> list[str]:
        head = "MODEL.ROI_MATCH_HEAD"
        options = ["MODEL.MATCH_ON", "True", "SEED", str(seed)]
        options += [f"{head}.FEATURES", setting.features, f"{head}.LOSS", setting.loss]
        options += self._iterations(self.plan.iterations)
        if not self.plan.joint:
            weights = self.output / "detector" / "model_final.pth"
            options += ["MODEL.WEIGHTS", str(weights), f"{head}.TRAIN_ALONE", "True"]
        return [*options, *self.plan.opts]

    @staticmethod
    def _iterations(number: int | None) -> list[str]:
        return [] if number is None else ["SOLVER.MAX_ITER", str(number)]

    def _train(self, folder: Path, options: Sequence[str]) -> None:
        self.steps.claim(self.config, folder, options)
        if _is_finished(folder):
            print(f"{folder}: finished before", flush=True)
        else:
            self.steps.train(self.config, folder, options)

    def _baselines(self, run: Path) -> list[dict[str, Any]]:
        """Chance and colour on the boxes of a run; the run itself is not among them."""
        register_deepfashion2(self.steps.data.parent)
        rows = compare(DATASET, run)
        return [row for row in rows if row["ranked by"] != "match network"]

    def _summary(self, runs: list[dict[str, Any]]) -> dict[str, Any]:
        plan = {**asdict(self.plan), "detector": str(self.plan.detector or "")}
        return {
            "config": self.config.name,
            "plan": plan,
            "runs": list(runs),
            "machine": machine(),
        }


def _is_finished(folder: Path) -> bool:
    """The last checkpoint is there and was evaluated."""
    if not (folder / "model_final.pth").is_file():
        return False
    try:
        last_metrics(folder / "metrics.json")
    except (ValueError, FileNotFoundError):
        return False
    return True


def markdown(summary: dict[str, Any]) -> str:
    """The tables, what they were measured with, and chance and colour beside them."""
    plan = summary["plan"]
    seeds = ", ".join(map(str, plan["seeds"]))
    parts = [
        "Measured on generated data (`tools/make_synthetic_df2.py`), which says nothing about "
        "DeepFashion2 itself.",
        _how(summary),
        f"Top-k accuracy in percent, detected boxes (det.) and ground-truth boxes (gt.); mean ± "
        f"standard deviation over the seeds {seeds}.",
    ]
    if plan["grid"]:
        parts += ["## All variants with all losses", _table(summary, lambda _: True)]
    else:
        by_features = _table(summary, lambda run: run["loss"] == plan["loss"])
        by_loss = _table(summary, lambda run: run["features"] == plan["features"])
        parts += [f"## Features, loss `{plan['loss']}`", by_features]
        parts += [f"## Losses, features `{plan['features']}`", by_loss]
    if "baselines" in summary:
        found = comparison_table(summary["baselines"])
        parts += ["## Chance and colour on the same boxes", f"```\n{found}\n```"]
    return "\n\n".join(parts) + "\n"


def _how(summary: dict[str, Any]) -> str:
    plan = summary["plan"]
    length = "as long as the config says" if plan["iterations"] is None else "{} iterations".format
    iterations = length if isinstance(length, str) else length(plan["iterations"])
    if plan["joint"]:
        return f"Every run trains all losses of `{summary['config']}`, {iterations}."
    boxes = spread(run["metrics"].get("bbox/AP", float("nan")) for run in summary["runs"][:1])
    detector = Path(plan["detector"]).name or f"{summary['config']} without the match network"
    return (
        f"One detector (`{detector}`, box AP {boxes}) is "
        f"shared by all runs. Each starts from its weights and trains the match head alone, "
        f"{iterations}; the detector and the features do not move. So the rows compare what can "
        f"be read from features that were learned for the other tasks, on the very same boxes; "
        f"in joint training (`--joint`) matching shapes the features as well."
    )


def _table(summary: dict[str, Any], chosen: Callable[[dict[str, Any]], bool]) -> str:
    names = [f"{task}/top{k}" for task in BOXES for k in TOPS] + ["bbox/AP"]
    heads = [f"{short} top-{k}" for short in ("det.", "gt.") for k in TOPS] + ["box AP"]
    lines = []
    rows: dict[Setting, list[dict[str, float]]] = {}
    for run in summary["runs"]:
        if chosen(run):
            rows.setdefault(Setting(run["features"], run["loss"]), []).append(run["metrics"])
    for setting, found in rows.items():
        cells = [spread(m.get(name, float("nan")) for m in found) for name in names]
        lines.append([setting.features, f"`{setting.loss}`", *cells, str(len(found))])
    return markdown_table(["features", "loss", *heads, "runs"], lines)
