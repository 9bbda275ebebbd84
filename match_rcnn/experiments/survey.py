"""All systems of DeepFashion (2016) on the same generated data, in one budget: their figures beside
what was published, and what of their claims shows. Behind ``tools/survey.py``.

Rows and claims are data, below. Systems on frozen vectors start from their base's weights of the
same seed. What is finished is passed over; a row that fails does not keep the others from running.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from match_rcnn.experiments.benchmarks.harness import machine
from match_rcnn.experiments.systems import RecognitionPlan, RecognitionSteps, System, SystemRuns
from match_rcnn.utils.files import write_json

Runs = Sequence[Mapping[str, Any]]

_NODE = "MODEL.RECOGNITION"
CATEGORY, INSHOP = "deepfashion_category_test", "deepfashion_inshop_test"
CONSUMER, FINE = "deepfashion_consumer2shop_test", "deepfashion_fine_test"
_ALL_TRAIN = str(tuple(f"deepfashion_{n}_train" for n in ("category", "inshop", "consumer2shop")))
_ALL_TEST = str((CATEGORY, INSHOP, CONSUMER))
#: What all rows share: data, batches and precision; a row may know better.
COMMON = (
    *("DATASETS.TRAIN", _ALL_TRAIN, "DATASETS.TEST", _ALL_TEST),
    *("SOLVER.IMS_PER_BATCH", "32", "SOLVER.CHECKPOINT_PERIOD", "100"),
    *("DATALOADER.NUM_WORKERS", "0", "SOLVER.LOG_PERIOD", "50"),
)


def _on(*train: str, test: Sequence[str] = (CATEGORY, INSHOP, CONSUMER)) -> tuple[str, ...]:
    """Of other data sets."""
    names = tuple(f"deepfashion_{name}_train" for name in train)
    return ("DATASETS.TRAIN", str(names), "DATASETS.TEST", str(tuple(test)))


#: A fourth of each batch is of consumers, who are in one set alone.
_CONSUMERS = _on("category", "consumer2shop")
#: Without an embedding, which pairs would teach.
_CATEGORIES = _on("category", test=(CATEGORY,))
_WORDS, _FINE = _on("inshop", test=(INSHOP,)), _on("fine", test=(FINE,))
_NO_ATTENTION = (*_CATEGORIES, f"{_NODE}.ATTENTION", "[]")
_HEADS = _on("category", test=(CATEGORY, INSHOP))
BASE, CLASSIFIER = "FashionNet, losses at once", "FashionNet, no triplets"
_AT_ONCE = (f"{_NODE}.STAGES.LENGTHS", "()")
SYSTEMS = (
    System("FashionNet", "fashionnet_quick"),
    System(BASE, "fashionnet_quick", _AT_ONCE),
    System(
        CLASSIFIER,
        "fashionnet_quick",
        (*_AT_ONCE, f"{_NODE}.HEADS", "['CategoryHead','AttributeHead']"),
    ),
    System("Fashion grammar, A_L and A_C", "fashion_grammar_quick", _CATEGORIES),
    System("Fashion grammar, no attention", "fashion_grammar_quick", _NO_ATTENTION),
    System(
        "Heat maps alone",
        "fashion_grammar_quick",
        (*_NO_ATTENTION, f"{_NODE}.LANDMARKS.GRAMMAR", "0"),
    ),
    System("Liu and Lu", "liu_lu_quick", _CATEGORIES),
    System("Words", "words_quick", _WORDS),
    System("Words, linear heads", "words_linear_quick", _HEADS, base="Words"),
    System("Random features, linear heads", "words_linear_quick", _HEADS),
    System("WTBI's network", "wtbi_quick", base=CLASSIFIER),
    System(
        "WTBI's network, pairs side by side",
        "wtbi_quick",
        (f"{_NODE}.SIMILARITY.PAIR.INPUT", "concat"),
        base=CLASSIFIER,
    ),
    System("DARN", "darn_quick", _CONSUMERS),
    System("DARN, one tower", "darn_quick", (*_CONSUMERS, f"{_NODE}.DOMAIN_TOWERS", "False")),
    System("GRNet", "grnet_quick"),
    System("FLAM, generator", "flam_quick", _FINE, base=BASE),
    System(
        "FLAM, residual memory",
        "flam_quick",
        (*_FINE, f"{_NODE}.MANIPULATION.NAME", "ResidualMemory"),
        base=BASE,
    ),
)


@dataclass(frozen=True)
class Claim:
    """That one figure is better than another.

    Attributes:
        text: what is claimed.
        row, metric: what should be better.
        against: the row that it should be better than.
        against_metric: of that row; "": the same metric.
        less: whether less is better.
        digits: of the figures.
    """

    text: str
    row: str
    metric: str
    against: str
    against_metric: str = ""
    less: bool = False
    digits: int = 1


_TOP3, _ERROR = f"{CATEGORY}/category/top3", f"{CATEGORY}/landmarks/ne_mean"
_FOUND, _SEARCH = f"{CONSUMER}/consumer2shop", f"{INSHOP}/inshop"
_CHANGED = f"{FINE}/manipulation"
CLAIMS = (
    Claim(
        "A grammar of landmarks finds them better than heat maps alone (landmark error, less is "
        "better)",
        *("Fashion grammar, no attention", _ERROR, "Heat maps alone"),
        less=True,
        digits=4,
    ),
    Claim(
        "Attention to landmarks and by category tells categories better than none (top-3)",
        *("Fashion grammar, A_L and A_C", _TOP3, "Fashion grammar, no attention"),
    ),
    Claim(
        "One attention of U-shape does, too (Liu and Lu; top-3)",
        *("Liu and Lu", _TOP3, "Heat maps alone"),
    ),
    Claim(
        "Vectors learned from words tell categories better than random features, by linear heads "
        "(top-3)",
        *("Words, linear heads", _TOP3, "Random features, linear heads"),
    ),
    Claim(
        "A tower for each domain finds more of consumers' articles in the shop than one for both "
        "(DARN; hit@20)",
        *("DARN", f"{_FOUND}/hit20", "DARN, one tower"),
    ),
    Claim(
        "WTBI's network orders candidates better than the cosine of the vectors "
        "(consumer-to-shop, hit@1)",
        *("WTBI's network", f"{_FOUND}/hit1", "WTBI's network", f"{_FOUND}_embedding/hit1"),
    ),
    Claim(
        "The same in-shop",
        *("WTBI's network", f"{_SEARCH}/hit1", "WTBI's network", f"{_SEARCH}_embedding/hit1"),
    ),
    Claim(
        "The same consumer-to-shop, of both vectors side by side, as the paper has them",
        *("WTBI's network, pairs side by side", f"{_FOUND}/hit1"),
        *("WTBI's network, pairs side by side", f"{_FOUND}_embedding/hit1"),
    ),
    Claim(
        "GRNet's graph orders candidates better than its own shortlist (consumer-to-shop, hit@1)",
        *("GRNet", f"{_FOUND}/hit1", "GRNet", f"{_FOUND}_embedding/hit1"),
    ),
    Claim(
        "The same in-shop",
        *("GRNet", f"{_SEARCH}/hit1", "GRNet", f"{_SEARCH}_embedding/hit1"),
    ),
    *(
        Claim(
            f"A changed vector finds the changed wish better than the unchanged one ({row}; all "
            "labels right among the first 30)",
            *(row, f"{_CHANGED}/top30", row, f"{_CHANGED}/unchanged_top30"),
        )
        for row in ("FLAM, generator", "FLAM, residual memory")
    ),
)


@dataclass(frozen=True)
class SurveyPlan(RecognitionPlan):
    """What is run.

    Attributes:
        systems: names of :data:`SYSTEMS`; their bases are run too.
        steps: of training, of each row.
        precision: ``bfloat16`` where it is fast, or ``float32``.
    """

    systems: tuple[str, ...] = tuple(system.name for system in SYSTEMS)
    steps: int = 250
    precision: str = "float32"


class Survey:
    """Runs a plan below ``output``.

    Args:
        datasets: the folder for ``deepfashion``.

    Raises:
        ValueError: a system is not known.
    """

    def __init__(self, output: Path, plan: SurveyPlan, datasets: Path) -> None:
        self.output = output.resolve()
        self.plan = plan
        self.steps = RecognitionSteps("survey", datasets)
        every = ["SOLVER.MAX_ITER", str(plan.steps)]
        if plan.precision != "float32":
            every += ["SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.PRECISION", plan.precision]
        runs = self.output / "runs"
        self.runs = SystemRuns(runs, self.steps, SYSTEMS, (*COMMON, *every), plan.opts)
        self.names = self.runs.with_bases(plan.systems)

    def generate(self, workers: int) -> None:
        """See :meth:`RecognitionSteps.generate_benchmarks`."""
        benchmarks = ("category", "inshop", "consumer2shop")
        self.steps.generate_benchmarks(benchmarks, self.plan, workers)

    def run(self) -> dict[str, Any]:
        """Run what is missing; returns what ``survey.json``, written after every run, holds:
        ``plan``, ``runs``, ``failed`` and ``machine``.

        Raises:
            ValueError: what is there already was made with other settings or data.
        """
        runs: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        summary = self._summary(runs, failed)
        # Seed by seed, so that an early look has every row.
        for seed in self.plan.seeds:
            for name in self.names:
                try:
                    runs.append(self.runs.run(name, seed))
                except SystemExit as error:
                    print(f"{name}, seed {seed}: {error}", flush=True)
                    failed.append({"row": name, "seed": seed, "why": str(error)})
                summary = self._summary(runs, failed)
                write_json(self.output / "survey.json", summary)
        return summary

    def _summary(self, runs: Runs, failed: Runs) -> dict[str, Any]:
        found = {"plan": asdict(self.plan), "runs": list(runs), "failed": list(failed)}
        return {**found, "machine": machine()}


@dataclass(frozen=True)
class Verdict:
    """What came of a claim.

    Attributes:
        values, against: by seed, of the seeds that have both.
        verdict: ``holds``, ``does not show``, ``the other way``, ``one seed alone``, or ``not
            measured``.
    """

    claim: Claim
    values: tuple[float, ...]
    against: tuple[float, ...]

    @property
    def gains(self) -> list[float]:
        """By seed, how much better; negative where it is worse."""
        sign = -1 if self.claim.less else 1
        return [sign * (a - b) for a, b in zip(self.values, self.against, strict=True)]

    @property
    def verdict(self) -> str:
        gains = self.gains
        if len(gains) < 2:
            return "one seed alone" if gains else "not measured"
        mean, spread = statistics.fmean(gains), statistics.stdev(gains)
        if abs(mean) <= spread or min(map(abs, gains)) == 0 or min(gains) * max(gains) < 0:
            return "does not show"
        return "holds" if mean > 0 else "the other way"


#: How :attr:`Verdict.verdict` is found, in words.
RULE = (
    "A claim *holds* where every seed has it and the mean gain is larger than the gains' standard "
    "deviation over the seeds; *the other way* is the same with the sign turned; else it *does not "
    "show*."
)


def judge(claim: Claim, runs: Runs) -> Verdict:
    """A claim by the figures of the seeds that have both rows."""
    first = _by_seed(runs, claim.row, claim.metric)
    second = _by_seed(runs, claim.against, claim.against_metric or claim.metric)
    seeds = sorted(first.keys() & second.keys())
    return Verdict(claim, tuple(first[s] for s in seeds), tuple(second[s] for s in seeds))


def _by_seed(runs: Runs, row: str, metric: str) -> dict[int, float]:
    return {
        run["seed"]: run["metrics"][metric]
        for run in runs
        if run["row"] == row and metric in run["metrics"]
    }
