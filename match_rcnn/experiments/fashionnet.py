"""FashionNet's claims on generated data: each of its ideas with and without, over seeds, in equal
budgets. Behind ``make fashionnet`` (one row, one seed) and the tables of ``docs/fashionnet.md``.

Rows differ in a few keys of one config. A run that is finished is passed over, an interrupted one
goes on from its last checkpoint; either only where it was made with the same settings and data.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from match_rcnn.data.synthetic.deepfashion import generate
from match_rcnn.evaluation.recognition.evaluator import SCORES_NAME
from match_rcnn.experiments.ablation import END, around_tables, spread
from match_rcnn.experiments.benchmarks.harness import machine
from match_rcnn.experiments.steps import Steps, digest
from match_rcnn.utils.files import atomic_write, read_json, write_json

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
#: The line of a page behind which the command writes its table.
MARK, _TITLE = "<!-- tables by tools/fashionnet.py -->", "# FashionNet on generated data"
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
class FashionNetPlan:
    """What is run.

    Attributes:
        rows: of :data:`ROWS`.
        seeds: of the start and of the order of the data.
        train, test: images of category and attribute prediction to generate; in-shop has half.
        pixels: their longer side.
        data_seed: of the data.
        opts: KEY VALUE overrides of every run.
    """

    rows: tuple[str, ...] = tuple(ROWS)
    seeds: tuple[int, ...] = (1, 2, 3)
    train: int = 3000
    test: int = 400
    pixels: int = 160
    data_seed: int = 1
    opts: tuple[str, ...] = ()


class RecognitionSteps(Steps):
    """Commands on generated data in DeepFashion's (2016) forms."""

    FOLDER = "deepfashion"

    def generate_benchmarks(self, plan: FashionNetPlan, workers: int) -> None:
        """Make the data, unless they are there already.

        Raises:
            ValueError: the folder holds data of other settings.
        """
        sizes = {"category": (plan.train, plan.test), "inshop": (plan.train // 2, plan.test)}
        for benchmark, (train, test) in sizes.items():
            options: dict[str, Any] = {"seed": plan.data_seed, "size": plan.pixels}
            generate(self.data / benchmark, benchmark, train, 0, test, workers=workers, **options)

    @cached_property
    def digests(self) -> dict[str, str]:
        lists = sorted(f for d in ("Anno*", "Eval") for f in self.data.glob(f"*/{d}/**/*.txt"))
        photos = sorted(
            (str(f.relative_to(self.data)), f.stat().st_size) for f in self.data.rglob("*.jpg")
        )
        found = {f"data, {file.relative_to(self.data)}": digest(file) for file in lists}
        return {**found, "data, photos": sha256(repr(photos).encode()).hexdigest()}


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
                runs += self._runs(row, seed)
                summary = self._summary(runs)
                write_json(self.output / "fashionnet.json", summary)
        return summary

    def _runs(self, row: str, seed: int) -> list[dict[str, Any]]:
        """A row's training, and its evaluation around the true landmarks."""
        folder = self.output / "runs" / f"{row.replace(' ', '-')}-{seed}"
        options = ["SEED", str(seed), *ROWS[row], *self.plan.opts]
        self.steps.claim(self.config, folder, options)
        if _metrics(folder) is None or not (folder / "model_final.pth").is_file():
            self.steps.train(self.config, folder, options)
        else:
            print(f"{folder}: finished before", flush=True)
        runs = [{"row": row, "seed": seed, "metrics": _metrics(folder) or {}}]
        if row in WITH_ORACLE:
            metrics = self._around_true_landmarks(folder, options)
            runs.append({"row": row + ORACLE, "seed": seed, "metrics": metrics})
        return runs

    def _around_true_landmarks(self, run: Path, options: Sequence[str]) -> dict[str, float]:
        folder = run / "oracle"
        weights = ("MODEL.WEIGHTS", str(run / "model_final.pth"), "TEST.ORACLE_LANDMARKS", "True")
        options = [*options, *weights]
        self.steps.claim(self.config, folder, options)
        if _metrics(folder) is None:
            where = ("--config-file", str(self.config), "--eval-only", "OUTPUT_DIR", str(folder))
            self.steps.tool("train", *where, *options)
        return _metrics(folder) or {}

    def _summary(self, runs: list[dict[str, Any]]) -> dict[str, Any]:
        plan = {**asdict(self.plan), "config": self.config.name}
        return {"plan": plan, "runs": list(runs), "machine": machine()}


def _metrics(run: Path) -> dict[str, float] | None:
    """Of a run's evaluation, by names such as ``deepfashion_category_test/category/top3``; None
    before it has ended."""
    found: dict[str, float] = {}
    for name in (_CATEGORY, _INSHOP):
        file = run / "inference" / name / SCORES_NAME
        if not file.is_file():
            return None
        for task, values in read_json(file).items():
            own = task.removeprefix("oracle_")
            found |= {f"{name}/{own}/{metric}": value for metric, value in values.items()}
    return found


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
    lines = [["", *COLUMNS, "runs"], ["---"] * (len(COLUMNS) + 2)]
    for row in dict.fromkeys(run["row"] for run in runs):
        found = [run["metrics"] for run in runs if run["row"] == row]
        cells = [spread((m[key] for m in found if key in m), n) for key, n in COLUMNS.values()]
        lines.append([row, *cells, str(len(found))])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def around_page(page: Path) -> tuple[str, str]:
    """See :func:`~match_rcnn.experiments.ablation.around_tables`."""
    return around_tables(page, (MARK, END), _TITLE)


def write_markdown(page: Path, summary: dict[str, Any]) -> None:
    """Write :func:`markdown` between the marks of a page."""
    before, after = around_page(page)
    with atomic_write(page) as file:
        file.write(f"{before}\n\n{markdown(summary)}\n{after}".encode())
