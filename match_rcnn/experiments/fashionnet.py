"""FashionNet's claims on generated data: each of its ideas with and without, over seeds, in equal
budgets. Behind ``make fashionnet`` (one row, one seed) and the tables of ``docs/fashionnet.md``.

Rows differ in a few keys of one config. A run that is finished is passed over, an interrupted one
goes on from its last checkpoint; either only where it was made with the same settings and data.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from match_rcnn.experiments.benchmarks.harness import machine
from match_rcnn.experiments.pages import TablePage, markdown_table, spread
from match_rcnn.experiments.systems import RecognitionPlan, RecognitionSteps, System, SystemRuns
from match_rcnn.utils.files import write_json

_NODE = "MODEL.RECOGNITION"
_AT_ONCE = (f"{_NODE}.STAGES.LENGTHS", "()")
_NO_POOLING = (f"{_NODE}.LOCAL.ENABLED", "False")
#: By name, what a row changes in the config.
ROWS: dict[str, tuple[str, ...]] = {
    "FashionNet": (),
    "all losses at once": _AT_ONCE,
    "no landmark pooling": (*_AT_ONCE, *_NO_POOLING),
    "category and attributes alone": (
        *(*_AT_ONCE, *_NO_POOLING, f"{_NODE}.LANDMARKS.NAME", ""),
        *(f"{_NODE}.HEADS", "['CategoryHead','AttributeHead']"),
    ),
}
#: Evaluated besides, around the true landmarks.
WITH_ORACLE = ("FashionNet",)
ORACLE = " (oracle landmarks)"
PAGE = TablePage("fashionnet", "FashionNet on generated data")
_CATEGORY, _INSHOP = "deepfashion_category_test", "deepfashion_inshop_test"
#: Heads of the table, and the metric and its digits.
COLUMNS = {
    "category top-1": (f"{_CATEGORY}/category/top1", 1),
    "category top-3": (f"{_CATEGORY}/category/top3", 1),
    "attributes top-3, mean of types": (f"{_CATEGORY}/attributes/mean_of_types_top3", 1),
    "attributes top-3, all ranked": (f"{_CATEGORY}/attributes/all_ranked_top3", 1),
    "landmark error": (f"{_CATEGORY}/landmarks/ne_mean", 3),
    "in-shop hit@20": (f"{_INSHOP}/inshop/hit20", 1),
}


@dataclass(frozen=True)
class FashionNetPlan(RecognitionPlan):
    """What is run. Attributes: rows: of :data:`ROWS`."""

    rows: tuple[str, ...] = tuple(ROWS)
    train: int = 3000


class FashionNetExperiment:
    """Runs a plan below ``output``."""

    def __init__(self, output: Path, config: Path, plan: FashionNetPlan, datasets: Path) -> None:
        unknown = [row for row in plan.rows if row not in ROWS]
        if unknown or not plan.rows:
            raise ValueError(f"--rows must be of {', '.join(ROWS)}; got {', '.join(unknown)}")
        self.output = output.resolve()
        self.config = config
        self.plan = plan
        self.steps = RecognitionSteps("fashionnet", datasets)
        trained = [System(row, str(config), ROWS[row]) for row in plan.rows]
        oracles = [
            replace(
                system,
                name=system.name + ORACLE,
                opts=(*system.opts, "TEST.ORACLE_LANDMARKS", "True"),
                base=system.name,
                only_scored=True,
            )
            for system in trained
            if system.name in WITH_ORACLE
        ]
        self.runs = SystemRuns(
            self.output / "runs", self.steps, [*trained, *oracles], last_opts=plan.opts
        )

    def generate(self, workers: int) -> None:
        """See :meth:`RecognitionSteps.generate_benchmarks`."""
        self.steps.generate_benchmarks(("category", "inshop"), self.plan, workers)

    def run(self) -> dict[str, Any]:
        """Run what is missing; returns what ``fashionnet.json``, written after every run, holds.

        Raises:
            ValueError: what is there already was made with other settings or data.
        """
        runs: list[dict[str, Any]] = []
        summary: dict[str, Any] = {}
        # Seed by seed, so that an early look has every row.
        for seed in self.plan.seeds:
            for row in self.plan.rows:
                names = [row, *([row + ORACLE] if row in WITH_ORACLE else ())]
                runs += [self.runs.run(name, seed) for name in names]
                summary = self._summary(runs)
                write_json(self.output / "fashionnet.json", summary)
        return summary

    def _summary(self, runs: list[dict[str, Any]]) -> dict[str, Any]:
        plan = {**asdict(self.plan), "config": self.config.name}
        return {"plan": plan, "runs": list(runs), "machine": machine()}


def markdown(summary: dict[str, Any]) -> str:
    """The table, and what it was measured with."""
    plan = summary["plan"]
    seeds = ", ".join(map(str, sorted({run["seed"] for run in summary["runs"]})))
    options = plan["opts"]
    changed = " ".join(f"`{k} {v}`" for k, v in zip(options[::2], options[1::2], strict=True))
    how = (
        f"Measured on generated data (`tools/make_synthetic_deepfashion.py`), {plan['train']} "
        f"training and {plan['test']} test images of {plan['pixels']} pixels, in-shop half as many "
        f"to train on and as many to search; `{plan['config']}`"
        f"{f' with {changed}' if changed else ''}. Percent but for the landmark error (normalised "
        f"by the box, less is better); mean ± standard deviation over the seeds {seeds}."
    )
    return f"{how}\n\n{_table(summary['runs'])}\n"


def _table(runs: Sequence[dict[str, Any]]) -> str:
    lines = []
    for row in dict.fromkeys(run["row"] for run in runs):
        found = [run["metrics"] for run in runs if run["row"] == row]
        cells = [spread((m[key] for m in found if key in m), n) for key, n in COLUMNS.values()]
        lines.append([row, *cells, str(len(found))])
    return markdown_table(["", *COLUMNS, "runs"], lines)
