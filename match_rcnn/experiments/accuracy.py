"""What makes a model for photos better: candidates x seeds, each held against the same baseline.

The protocol is docs/accuracy.md's. A candidate changes the training, or only how the baseline's
models are used; then nothing is trained for it. Differences to the baseline of the same seed are
averaged over the seeds, and their spread over photos comes from a paired bootstrap.

Steps are the package's own commands: what is finished is passed over, and an interrupted training
goes on; either only where it was made with the same settings, weights and data.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from match_rcnn.evaluation.coco.arrays import GroundTruth
from match_rcnn.evaluation.coco.bootstrap import compare, draws_of_file
from match_rcnn.evaluation.coco.files import read_ground_truth
from match_rcnn.experiments.benchmarks.harness import machine
from match_rcnn.experiments.pages import TablePage, markdown_table, spread
from match_rcnn.experiments.steps import MADE_WITH, Steps
from match_rcnn.utils.arrays import FloatArray
from match_rcnn.utils.files import read_json, write_json
from match_rcnn.utils.shipped import config_file

PHOTOS = "ccp_validation"
MEASURED = ("bbox", "segm")
PAGE = TablePage("accuracy", "Accuracy on photographs")


@dataclass(frozen=True)
class Candidate:
    """
    Attributes:
        words: what is done, for the table.
        training, use: overrides of the config in training, and in evaluation alone.
        average: the moving average of the weights is evaluated, not the last ones.
    """

    words: str
    training: dict[str, str] = field(default_factory=dict)
    use: dict[str, str] = field(default_factory=dict)
    average: bool = False


_COLOURS = ("BRIGHTNESS", "CONTRAST", "SATURATION")
_LARGER = {
    "INPUT.MIN_SIZE_TRAIN": "(144,)",
    "INPUT.MAX_SIZE_TRAIN": "192",
    "INPUT.MIN_SIZE_TEST": "144",
    "INPUT.MAX_SIZE_TEST": "192",
    "MODEL.ANCHOR_GENERATOR.SIZES": "[[30], [60], [99], [156]]",
}
_CASCADE = {
    "MODEL.ROI_HEADS.NAME": "MatchRCNNCascadeROIHeads",
    "MODEL.ROI_HEADS.IOU_THRESHOLDS": "[0.5]",
    "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": "True",
}
_TWO_SIZES = {"TEST.AUG.ENABLED": "True", "TEST.AUG.SCALES": "(1.0, 0.75)"}
CANDIDATES = {
    "baseline": Candidate("baseline"),
    "drawings": Candidate("from nothing in place of drawings", {"MODEL.WEIGHTS": ""}),
    "jitter": Candidate(
        "large-scale jitter 0.5 to 1.6",
        {
            "INPUT.LARGE_SCALE_JITTER.ENABLED": "True",
            "INPUT.LARGE_SCALE_JITTER.MIN_SCALE": "0.5",
            "INPUT.LARGE_SCALE_JITTER.MAX_SCALE": "1.6",
            "INPUT.LARGE_SCALE_JITTER.SIZE": "(128, 88)",
        },
    ),
    "colour": Candidate(
        "brightness, contrast, saturation +-30 %, hue +-3 %",
        {**{f"INPUT.COLOR_JITTER.{k}": "0.3" for k in _COLOURS}, "INPUT.COLOR_JITTER.HUE": "0.03"},
    ),
    "repeat": Candidate(
        "rare categories more often (threshold 0.2)", {"DATALOADER.REPEAT_THRESHOLD": "0.2"}
    ),
    "masks": Candidate("masks of 28 bins, not 20", {"MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": "14"}),
    "size": Candidate("photos of 192 pixels, not 128", _LARGER),
    "longer": Candidate("twice as many iterations", {"SOLVER.MAX_ITER": "500"}),
    "threshold": Candidate(
        "boxes are positives from an IoU of 0.5, not 0.7",
        {"MODEL.ROI_HEADS.IOU_THRESHOLDS": "[0.5]"},
    ),
    "cascade": Candidate("three box heads in a cascade", _CASCADE),
    "words": Candidate(
        "photos with a word each beside them",
        {
            "DATASETS.TRAIN": "('ccp_train','clothing_train')",
            "DATASETS.TRAIN_WEIGHTS": "(2,1)",
        },
    ),
    "average": Candidate("moving average of the weights (0.98)", average=True),
    "confidence": Candidate(
        "masks scored by their own confidence too", use={"TEST.MASK_CONFIDENCE": "1.0"}
    ),
    "mirror": Candidate("seen mirrored too", use={"TEST.AUG.ENABLED": "True"}),
    "scales": Candidate("seen mirrored and at 0.75", use=_TWO_SIZES),
    "together": Candidate(
        "192 pixels, a cascade, seen mirrored and at 0.75", _LARGER | _CASCADE, _TWO_SIZES
    ),
}


class Accuracy:
    """Runs candidates below ``output``.

    Args:
        datasets: a folder with ``ccp.yaml`` and what it names, as `make street` leaves one.
        weights: that trainings start from.
        iterations: of each training; None keeps the config's.
        options: KEY VALUE overrides of every training.
    """

    def __init__(
        self,
        output: Path,
        datasets: Path,
        weights: Path,
        iterations: int | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self.output = output.resolve()
        self.config = config_file("street_quick")
        self.annotations = [
            datasets.resolve() / "ccp" / f"{split}.json" for split in ("train", "validation")
        ]
        self.steps = Steps("accuracy", datasets)
        length = [] if iterations is None else ["SOLVER.MAX_ITER", str(iterations)]
        self.options = ("MODEL.WEIGHTS", str(weights.resolve()), *length, *options)
        self._truth: dict[str, GroundTruth] = {}
        self._draws: dict[tuple[str, str, int], FloatArray] = {}

    def run(self, names: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
        """Run what is missing; returns what ``accuracy.json`` holds, which is written after every
        seed.

        Raises:
            ValueError: an unknown candidate; or what is there already was made with something else.
        """
        unknown = [name for name in names if name not in CANDIDATES]
        if unknown:
            raise ValueError(f"no such candidate: {unknown[0]}; there are {', '.join(CANDIDATES)}")
        summary: dict[str, Any] = {}
        chosen = dict.fromkeys(["baseline", *names])
        for number in range(1, len(seeds) + 1):
            for name in chosen:
                self._evaluate(CANDIDATES[name], name, seeds[number - 1])
            summary = self.summary(list(chosen), seeds[:number])
            write_json(self.output / "accuracy.json", summary)
        return summary

    def _evaluate(self, candidate: Candidate, name: str, seed: int) -> None:
        run = self._train(candidate, seed)
        folder = self.folder(name, seed)
        weights = run / ("model_ema.pth" if candidate.average else "model_final.pth")
        overrides = {**candidate.training, **candidate.use, "MODEL.WEIGHTS": str(weights)}
        options = flat(overrides)
        self.steps.claim(self.config, folder, [*self.options, *options], self.annotations)
        if not all(self._results(name, seed, task).is_file() for task in MEASURED):
            self.steps.tool(
                "train",
                *("--eval-only", "--config-file", str(self.config)),
                *("OUTPUT_DIR", str(folder), *self.options, *options),
            )

    def _train(self, candidate: Candidate, seed: int) -> Path:
        """The folder of the training that a candidate uses: its own, or the baseline's."""
        own = [n for n, c in CANDIDATES.items() if c.training == candidate.training]
        run = self.output / "trained" / f"{own[0]}-{seed}"
        options = (*self.options, "MODEL_EMA.ENABLED", "True", "MODEL_EMA.DECAY", "0.98")
        options += ("SEED", str(seed), "DATASETS.TEST", "()", *flat(candidate.training))
        self.steps.claim(self.config, run, options, self.annotations)
        if not (run / "model_ema.pth").is_file():
            self.steps.train(self.config, run, options, self.annotations)
        return run

    def folder(self, name: str, seed: int) -> Path:
        """Of a candidate's results."""
        return self.output / "evaluated" / f"{name}-{seed}"

    def _results(self, name: str, seed: int, task: str) -> Path:
        return self.folder(name, seed) / "inference" / PHOTOS / f"{task}_results.json"

    def _drawn(self, task: str, name: str, seed: int) -> FloatArray:
        """Scores over draws of photos, drawn once."""
        key = (task, name, seed)
        if key not in self._draws:
            truth = self._truth.get(task) or read_ground_truth(self.annotations[1], [task])
            assert truth is not None
            self._truth[task] = truth
            self._draws[key] = draws_of_file(task, truth, self._results(name, seed, task))
        return self._draws[key]

    def summary(self, names: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
        rows: dict[str, Any] = {name: {"words": CANDIDATES[name].words} for name in names}
        for task in MEASURED:
            drawn = {name: [self._drawn(task, name, seed) for seed in seeds] for name in names}
            for name, own in drawn.items():
                for metric, difference in compare(drawn["baseline"], own).items():
                    rows[name][f"{task}/{metric}"] = {
                        "values": [100 * x for x in difference.seconds],
                        "difference": 100 * difference.value,
                        "interval": [100 * difference.low, 100 * difference.high],
                    }
        made_with = read_json(self.folder("baseline", seeds[0]) / MADE_WITH)
        return {
            "seeds": list(seeds),
            "iterations": int(made_with["SOLVER.MAX_ITER"]),
            "rows": rows,
            "machine": machine(),
        }


def flat(overrides: dict[str, str]) -> list[str]:
    """KEY VALUE, KEY VALUE, ..."""
    return [word for pair in overrides.items() for word in pair]


def holds(row: dict[str, Any]) -> bool:
    """By the protocol: of box or mask AP, the interval of the gain lies above 0, and the gain of
    the other is not below it."""
    gains = [row[f"{task}/AP"] for task in MEASURED]
    sure = any(one["interval"][0] > 0 for one in gains)
    return sure and all(one["interval"][1] > 0 for one in gains)


def markdown(summary: dict[str, Any]) -> str:
    """The table."""
    metrics = [f"{task}/{name}" for task in MEASURED for name in ("AP", "AP50")]
    heads = ["", "box AP", "AP50", "mask AP", "AP50", "box AP, difference", "mask AP, difference"]
    lines = []
    for name, row in summary["rows"].items():
        gains = [_gain(row[f"{task}/AP"]) for task in MEASURED]
        verdict = "yes" if holds(row) else "no"
        plain = name == "baseline"
        lines.append(
            [row["words"], *(spread(row[metric]["values"]) for metric in metrics)]
            + (["", "", ""] if plain else [*gains, verdict])
        )
    seeds = ", ".join(map(str, summary["seeds"]))
    head = (
        f"Measured on photographs of Clothing Co-Parsing, its validation part; trainings of "
        f"{summary['iterations']} iterations; mean ± standard deviation over the seeds {seeds}; "
        "differences with the 95 % interval of 1,000 draws of photos."
    )
    return f"{head}\n\n{markdown_table([*heads, 'holds'], lines)}\n"


def _gain(found: dict[str, Any]) -> str:
    low, high = found["interval"]
    return f"{found['difference']:+.1f} ({low:+.1f} to {high:+.1f})"
