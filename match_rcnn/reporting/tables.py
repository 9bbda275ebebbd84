"""The paper's tables, ours below what was published.

Metrics come flat and in percent, as ``metrics.json`` has them: ``"bbox/AP50-occlusion-heavy"``,
``"retrieval/top5"``; see ``runs.Run.metrics``.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from match_rcnn.data.image_sources import SOURCES
from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.evaluation.coco.subsets import LEVELS
from match_rcnn.evaluation.retrieval.protocol import MANY_NAME, MANY_PARTNERS, SUBSET_TOPS, TOPS
from match_rcnn.reporting.pages import Table

if TYPE_CHECKING:  # runs need a host, tables of a data set do not
    from match_rcnn.reporting.numbers.runs import Run

#: The paper's own figures, for the validation set of the released data: Ge et al., CVPR 2019
#: (arXiv 1901.07973), and its official repository. Those by subset, by category or with
#: ground-truth boxes are not known here; the tables leave them empty.
PUBLISHED = "published (Ge et al. 2019)"

#: AP, AP50 and AP75 over everything, by view.
PUBLISHED_APS: dict[str, dict[str, float]] = {
    "bbox": {"AP": 0.638, "AP50": 0.789, "AP75": 0.745},
    "segm": {"AP": 0.640, "AP50": 0.797, "AP75": 0.754},
    "keypoints_visible": {"AP": 0.605, "AP50": 0.790, "AP75": 0.684},
    "keypoints": {"AP": 0.529, "AP50": 0.775, "AP75": 0.596},
}

#: Top-k accuracy with detected boxes, by the match network's features.
PUBLISHED_RETRIEVAL: dict[str, dict[int, float]] = {
    "class": {1: 0.079, 5: 0.198, 10: 0.273, 15: 0.329, 20: 0.366},
    "pose": {1: 0.182, 5: 0.326, 10: 0.416, 15: 0.469, 20: 0.510},
    "mask": {1: 0.135, 5: 0.271, 10: 0.350, 15: 0.407, 20: 0.447},
    "pose+class": {1: 0.192, 5: 0.345, 10: 0.435, 15: 0.488, 20: 0.524},
    "mask+class": {1: 0.152, 5: 0.295, 10: 0.379, 15: 0.435, 20: 0.477},
}

#: What is measured, in words, by view.
VIEW_NAMES = {
    "bbox": "boxes",
    "segm": "masks",
    "keypoints_visible": "landmarks, visible",
    "keypoints": "landmarks, visible and occluded",
}
#: The paper's tables by subset, by view.
PAPER_TABLES = {"bbox": 3, "keypoints_visible": 5, "keypoints": 5, "segm": 7}
RETRIEVAL_NAMES = {"retrieval": "detected", "retrieval_gt_boxes": "ground truth"}
APS = ("AP", "AP50", "AP75")
MISSING = "\N{EN DASH}"

_PAPER_LEVELS = {
    "scale": ("small", "moderate", "large"),
    "occlusion": ("slight", "medium", "heavy"),
    "zoom_in": ("no", "medium", "large"),
    "viewpoint": ("no wear", "frontal", "side or back"),
}
_GROUPS = [(name.replace("_", "-"), len(levels)) for name, levels in _PAPER_LEVELS.items()]
_LEVEL_HEADERS = [level for levels in _PAPER_LEVELS.values() for level in levels]
_SUFFIXES = [f"{name}-{level}" for name, levels in LEVELS.items() for level in levels]


def share(value: float | None) -> str:
    """A number from 0 to 1 as the paper writes it: ``.638``; a dash for none."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{value:.3f}".removeprefix("0")


def of_run(run: "Run", name: str) -> str:
    """A metric of a run, in percent there, from 0 to 1 here."""
    value = run.metrics.get(name)
    return share(None if value is None else value / 100)


def caption(run: "Run", runs: "Sequence[Run]") -> str:
    """How a row or a figure of ours is called: what its numbers were measured on, and of which
    run they are where there are several."""
    return run.measured if len(runs) == 1 else f"{run.name}, {run.measured}"


def overview(runs: "Sequence[Run]") -> Table:
    """AP, AP50 and AP75 of every view."""
    table = Table("AP over everything", ["", "", *APS], heads=2)
    for view in seen_views(runs):
        rows = [[caption(run, runs), *(of_run(run, f"{view}/{a}") for a in APS)] for run in runs]
        if known := _published(runs):
            rows.insert(0, [PUBLISHED, *(share(PUBLISHED_APS[view][a]) for a in APS)])
        _add(table, VIEW_NAMES[view], rows, known)
    return table


def seen_views(runs: "Sequence[Run]") -> list[str]:
    """The views that some run has."""
    return [view for view in VIEW_NAMES if any(f"{view}/AP" in run.metrics for run in runs)]


def by_subset(runs: "Sequence[Run]", view: str) -> Table:
    """Tables 3 (boxes), 5 (landmarks) and 7 (masks)."""
    title = f"Table {PAPER_TABLES[view]}: {VIEW_NAMES[view]}, by subset"
    table = Table(title, ["", "", *_LEVEL_HEADERS, "overall"], groups=_GROUPS, heads=2)
    for ap in APS:
        names = [*(f"{view}/{ap}-{suffix}" for suffix in _SUFFIXES), f"{view}/{ap}"]
        rows = [[caption(run, runs), *(of_run(run, name) for name in names)] for run in runs]
        if known := _published(runs):
            rows.insert(0, [PUBLISHED, *[MISSING] * len(_SUFFIXES), share(PUBLISHED_APS[view][ap])])
        _add(table, ap, rows, known)
    return table


def has_subsets(runs: "Sequence[Run]", view: str) -> bool:
    """Whether there is a table by scale, occlusion, ...: DeepFashion2's categories have one in the
    paper, other data where some item has a level."""
    names = [f"{view}/AP-{suffix}" for suffix in _SUFFIXES]
    found = any(of_run(run, name) != MISSING for run in runs for name in names)
    return found or (_published(runs) and view in seen_views(runs))


def by_source(runs: "Sequence[Run]") -> Table:
    """AP on consumers' and on shops' photos, which the paper has no table of."""
    views = seen_views(runs)
    headers = [name for _ in views for name in ("consumers", "shops")]
    groups = [(VIEW_NAMES[view], 2) for view in views]
    table = Table("AP by source of the photos (not in the paper)", ["", *headers], groups=groups)
    for run in runs:
        names = [f"{view}/AP-source-{source}" for view in views for source in SOURCES]
        table.add(caption(run, runs), *(of_run(run, name) for name in names))
    return table


def category_names(runs: "Sequence[Run]") -> list[str]:
    """Those of all runs' taxonomies, each once."""
    return list(dict.fromkeys(c.name for run in runs for c in run.taxonomy.categories))


def _published(runs: "Sequence[Run]") -> bool:
    """Whether the paper's figures are of the same categories."""
    return any(run.taxonomy == DEEPFASHION2 for run in runs)


def _add(table: Table, head: str, rows: Sequence[Sequence[str]], published: bool) -> None:
    """Rows under one head, the first of them published."""
    for i, row in enumerate(rows):
        table.add("" if i else head, *row, quiet=published and not i)


def by_category(runs: "Sequence[Run]") -> Table:
    """AP of each category (not in the paper)."""
    views = seen_views(runs)
    columns = [(view, run) for view in views for run in runs]
    several = len(runs) > 1
    headers = [run.name if several else VIEW_NAMES[view] for view, run in columns]
    groups = [(VIEW_NAMES[view], len(runs)) for view in views] if several else []
    table = Table("AP by category (not in the paper)", ["", *headers], groups=groups)
    for name in category_names(runs):
        table.add(name, *(of_run(run, f"{view}/AP-{name}") for view, run in columns))
    return table


def retrieval_overall(runs: "Sequence[Run]") -> Table:
    """Table 8: top-k accuracy, by features."""
    headers = ["features", "", "boxes", *_top_names()]
    table = Table("Table 8: consumer-to-shop retrieval", headers, heads=3)
    for features, known in (PUBLISHED_RETRIEVAL if _published(runs) else {}).items():
        cells = [share(known[k]) for k in TOPS]
        table.add(features, PUBLISHED, "detected", *cells, quiet=True)
    for run, task, boxes in _retrieval_rows(runs):
        cells = [of_run(run, f"{task}/top{k}") for k in TOPS]
        table.add(run.features, caption(run, runs), boxes, *cells)
    return table


def retrieval_by_subset(runs: "Sequence[Run]") -> Table:
    """Table 9: the same by the query item's subset."""
    headers = ["", "", *_LEVEL_HEADERS, "overall", f"> {MANY_PARTNERS} right"]
    table = Table(
        "Table 9: retrieval by subset of the query items",
        headers,
        groups=_GROUPS,
        heads=2,
        note="Detected, ground truth: the boxes on both sides. "
        f"> {MANY_PARTNERS} right: queries with more than {MANY_PARTNERS} matching gallery items. "
        "Figures published by subset are not reproduced here.",
    )
    for k in SUBSET_TOPS:
        for features in dict.fromkeys(run.features for run in runs):
            rows = _retrieval_rows([run for run in runs if run.features == features])
            if rows and features in PUBLISHED_RETRIEVAL and _published(runs):
                known = share(PUBLISHED_RETRIEVAL[features][k])
                cells = [*[MISSING] * len(_SUFFIXES), known, MISSING]
                source = f"{PUBLISHED}, {features}"
                table.add(f"top-{k}, detected", source, *cells, quiet=True)
            for run, task, boxes in rows:
                names = [f"{task}/top{k}-{suffix}" for suffix in _SUFFIXES]
                names += [f"{task}/top{k}", f"{task}/top{k}-{MANY_NAME}"]
                head = f"top-{k}, {boxes}"
                table.add(head, caption(run, runs), *(of_run(run, name) for name in names))
    return table


def _top_names() -> list[str]:
    return [f"top-{k}" for k in TOPS]


def _retrieval_rows(runs: "Sequence[Run]") -> "list[tuple[Run, str, str]]":
    return [
        (run, task, boxes)
        for run in runs
        for task, boxes in RETRIEVAL_NAMES.items()
        if f"{task}/top1" in run.metrics
    ]


def has_retrieval(runs: "Sequence[Run]") -> bool:
    return bool(_retrieval_rows(runs))


def side_by_side(
    title: str, head: str, columns: Mapping[str, Sequence[str]], names: Sequence[str]
) -> Table:
    """A row a name, a column a key of ``columns``."""
    table = Table(title, [head, *columns])
    for i, name in enumerate(names):
        table.add(name, *(cells[i] for cells in columns.values()))
    return table
