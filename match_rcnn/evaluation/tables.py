"""Tables on the console.

Metrics come flat, as the host's event storage names them: ``"bbox/AP50"``, ``"bbox/AP-skirt"``,
``"bbox/AP50-occlusion-heavy"``; in percent, NaN where nothing could be measured.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from match_rcnn.evaluation.coco.bootstrap import Difference

from match_rcnn.evaluation.coco.scoring import Scores
from match_rcnn.evaluation.coco.subsets import LEVELS, View
from match_rcnn.evaluation.retrieval.protocol import (
    MANY_NAME,
    MANY_PARTNERS,
    SUBSET_TOPS,
    TOPS,
    RetrievalScores,
)

_COLUMNS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
_NAN = float("nan")


def flatten(results: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """An evaluator's results as flat metrics."""
    return {f"{task}/{name}": v for task, values in results.items() for name, v in values.items()}


def task_table(metrics: Mapping[str, float]) -> str:
    """AP by threshold and by size, a row a task."""
    rows: list[list[Any]] = [
        [task, *(metrics.get(f"{task}/{c}", _NAN) for c in _COLUMNS)] for task in _tasks(metrics)
    ]
    return _table(rows, ["task", *_COLUMNS])


def subset_table(metrics: Mapping[str, float], columns: Iterable[str] = ("AP", "AP50")) -> str:
    """A row a subset (consumer and shop photos, levels of the four variations), the chosen
    numbers of each task beside each other; empty without subsets."""
    return _by_suffix(metrics, tuple(columns), subsets=True)


def category_table(metrics: Mapping[str, float]) -> str:
    """A row a category, the AP of each task beside each other."""
    return _by_suffix(metrics, ("AP",), subsets=False)


def retrieval_subset_table(metrics: Mapping[str, float]) -> str:
    """Table 9: top-1 and top-20 accuracy, 0 to 1, by subset of the query items and for queries with
    more than five matching gallery items; a row a kind of boxes (detected, the ground truth's)."""
    suffixes = [f"{name}-{level}" for name, levels in LEVELS.items() for level in levels]
    heads = [suffix.replace("-", "\n", 1).replace("_", " ") for suffix in suffixes]
    rows: list[list[Any]] = []
    for k in SUBSET_TOPS:
        for task in (t for t in _tasks(metrics) if f"{t}/top{k}" in metrics):
            names = [*(f"-{suffix}" for suffix in suffixes), "", f"-{MANY_NAME}"]
            cells = [metrics.get(f"{task}/top{k}{name}", _NAN) / 100 for name in names]
            rows.append([f"top-{k}", task, *cells])
    return _table(rows, ["", "boxes", *heads, "overall", f"> {MANY_PARTNERS}\nright"], digits=3)


def differences_table(found: Mapping[str, "Difference"]) -> str:
    """Two models on the same photos, in percent: the other one, this one, the difference with its
    95 % interval."""
    rows = [
        [name, *(100 * x for x in (*one.firsts, *one.seconds, one.value, one.low, one.high))]
        for name, one in found.items()
    ]
    headers = ["", "against", "results", "difference", "95 % from", "to"]
    return _table(rows, headers)


def retrieval_table(scores: Mapping[str, RetrievalScores]) -> str:
    """Top-k accuracy from 0 to 1, as in the paper's Table 8, and the counts; a row a name."""
    from tabulate import tabulate

    rows = [[n, *s.accuracy().values(), *s.counts.values()] for n, s in scores.items()]
    counts = ["queries", "missed", "of them official", "no partner"]
    headers = ["", *(f"top-{k}" for k in TOPS), *counts]
    formats = ["", *[".3f"] * len(TOPS), *["d"] * len(counts)]
    return tabulate(rows, headers=headers, floatfmt=formats)


def scores_table(scores: Scores) -> str:
    """What ``tools/evaluate_results.py`` prints: COCO's numbers, then AP by category, 0 to 1."""
    stats = _plain([("", scores.stats)])
    return f"{stats}\n\n{_plain(scores.per_category().items(), 'category')}"


def view_subset_table(view: View) -> str:
    """AP, AP50 and AP75 by subset, 0 to 1."""
    return _plain([(name, part.stats) for name, part in view.subsets.items()], "subset")


def _plain(rows: Iterable[tuple[str, Mapping[str, float]]], head: str = "") -> str:
    """What tabulate would make, without the time that importing it takes."""
    rows = list(rows)
    names = [head, *(name for name, _ in rows)]
    wide = max(map(len, names))
    columns = list(rows[0][1]) if rows else []
    lines = [[f"{head:{wide}}", *(f"{column:>7}" for column in columns)]]
    lines.append(["-" * wide, *["-" * 7] * len(columns)])
    lines += [[f"{name:{wide}}", *(f"{v:7.4f}" for v in own.values())] for name, own in rows]
    return "\n".join("  ".join(cell for cell in line if wide or cell).rstrip() for line in lines)


def _by_suffix(metrics: Mapping[str, float], columns: tuple[str, ...], subsets: bool) -> str:
    tasks = _tasks(metrics)
    suffixed = [name.split("/", 1)[1].split("-", 1) for name in metrics if "-" in name]
    # A subset has all of AP, AP50 and AP75; a category has AP.
    in_subsets = {suffix for column, suffix in suffixed if column == "AP50"}
    suffixes = _unique(suffix for _, suffix in suffixed if (suffix in in_subsets) == subsets)
    rows: list[list[Any]] = [
        [suffix, *(metrics.get(f"{t}/{c}-{suffix}", _NAN) for t in tasks for c in columns)]
        for suffix in suffixes
    ]
    head = "subset" if subsets else "category"
    return _table(rows, [head, *(f"{t} {c}" for t in tasks for c in columns)]) if rows else ""


def _tasks(metrics: Iterable[str]) -> list[str]:
    return _unique(name.split("/", 1)[0] for name in metrics)


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _table(rows: list[list[Any]], headers: list[str], digits: int = 1) -> str:
    from tabulate import tabulate

    return tabulate(rows, headers=headers, floatfmt=f".{digits}f")
