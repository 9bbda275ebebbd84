"""From runs to report files, of one run or of several beside each other; the work of
``tools/report.py``."""

import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from match_rcnn.reporting import recognition, tables
from match_rcnn.reporting.charts import photos, plots
from match_rcnn.reporting.charts.landmarks import landmark_drawings, strongest
from match_rcnn.reporting.charts.plots import Series
from match_rcnn.reporting.numbers import analysis
from match_rcnn.reporting.numbers.analysis import ImageQuality
from match_rcnn.reporting.numbers.runs import Run, Where, read_runs
from match_rcnn.reporting.pages import Facts, Figure, Group, Page, Section, Table
from match_rcnn.reporting.tables import caption, share
from match_rcnn.utils.arrays import FloatArray, IntArray

logger = logging.getLogger(__name__)

_SHOWN_RETRIEVED = 5


def write_reports(
    folders: Sequence[Path],
    output: Path,
    where: Where = Where(),  # noqa: B008
    dataset: str | None = None,
    shown: int = 6,
) -> list[Path]:
    """Write ``NAME.html`` and ``NAME.md`` for each run into ``output``, and ``index.html`` and
    ``index.md`` with all of them side by side if there are several.

    Args:
        folders: the runs' OUTPUT_DIRs.
        shown: how many photos of the best, of the worst, and of the queries.

    Returns:
        The HTML pages; the one to open comes first.

    Raises:
        FileNotFoundError, ValueError: what is wrong with which file.
    """
    runs = read_runs(folders, where, dataset)
    pages = [_page(run.name, [run], shown).write(output / file_name(run.name)) for run in runs]
    if len(runs) > 1:
        heading = "Runs side by side: " + ", ".join(run.name for run in runs)
        pages.insert(0, _page(heading, runs, shown).write(output / "index"))
    for page in pages:
        logger.info("%s and .md written", page)
    return pages


def file_name(name: str) -> str:
    """A run's name without what file systems and addresses do not like."""
    clean = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("_.") or "run"
    return f"{clean}_run" if clean == "index" else clean


def _page(heading: str, runs: Sequence[Run], shown: int) -> Page:
    sections = build(runs, shown)
    if not sections:
        sections = [Section("Nothing to show", "There are neither result files nor metrics.")]
    several = len(runs) > 1
    facts = [
        Facts(run.name, run.facts, f"{file_name(run.name)}.html" if several else "") for run in runs
    ]
    return Page(heading, sections, facts=facts)


def build(runs: Sequence[Run], shown: int) -> list[Section]:
    """Those sections for which some run has what it takes.

    Args:
        shown: how many photos of the best, of the worst, and of the queries.
    """
    makers: list[Callable[[], Section | None]] = [
        lambda: _at_a_glance(runs),
        lambda: _subsets(runs),
        lambda: _retrieval(runs),
        lambda: recognition.section(runs),
        lambda: _categories(runs),
        lambda: _curves(runs),
        lambda: _landmarks(runs),
        lambda: _confusion(runs),
        lambda: _calibration(runs),
        lambda: _images(runs, shown),
        lambda: _queries(runs, shown),
    ]
    sections = (make() for make in makers)
    return [section for section in sections if section is not None]


def _at_a_glance(runs: Sequence[Run]) -> Section | None:
    if not tables.seen_views(runs):
        return None
    lead = (
        "AP is the mean over ten thresholds of IoU (landmarks: OKS), .50 to .95; AP50 and AP75 "
        "are those at one. Published figures are for DeepFashion2's validation set; rows of "
        "other data cannot be compared with them."
    )
    return Section("At a glance", lead, [tables.overview(runs)])


def _subsets(runs: Sequence[Run]) -> Section | None:
    if not tables.seen_views(runs):
        return None
    lead = (
        "An item outside the subset is ignored, as items outside an area range are in COCO: no "
        "miss, and a detection of it is neither right nor wrong. A detection of nothing is wrong "
        "in every subset."
    )
    views = [view for view in tables.PAPER_TABLES if tables.has_subsets(runs, view)]
    made = [tables.by_subset(runs, view) for view in views]
    if any(run.truth is None or run.truth.sources is not None for run in runs):
        made.append(tables.by_source(runs))
    if not made:
        return None
    return Section("By subset", lead, made)


def _retrieval(runs: Sequence[Run]) -> Section | None:
    if not tables.has_retrieval(runs):
        return None
    lead = (
        "The share of consumers' items of which a right shop item is among the first k. A query "
        "item that nothing was detected for counts as wrong."
    )
    made = [tables.retrieval_overall(runs), tables.retrieval_by_subset(runs)]
    return Section("Retrieval", lead, made)


def _categories(runs: Sequence[Run]) -> Section | None:
    views = tables.seen_views(runs)
    if not views:
        return None
    names = tables.category_names(runs)
    figures = []
    for run in runs:
        dots = [
            Series(tables.VIEW_NAMES[view], _aps(run, view, names))
            for view in views
            if f"{view}/AP" in run.metrics
        ]
        chart = plots.legend([one.name for one in dots], "dots")
        chart += plots.dot_chart(names, dots, "AP")
        figures.append(Figure(chart, caption=caption(run, runs)))
    return Section("By category", "", [tables.by_category(runs)], [Group(figures)])


def _aps(run: Run, view: str, names: Sequence[str]) -> FloatArray:
    return np.array([run.metrics.get(f"{view}/AP-{n}", np.nan) / 100 for n in names])


def _curves(runs: Sequence[Run]) -> Section | None:
    figures, rows = [], Table("Precision at recall", ["", "", *(f"{r:.1f}" for r in _RECALLS)])
    rows.heads = 2
    for view in tables.VIEW_NAMES:
        for run in (r for r in runs if view in r.views):
            recall, precision = analysis.precision_recall(run.views[view].whole)
            lines = [Series(name, values) for name, values in precision.items()]
            chart = plots.legend([one.name for one in lines], "lines")
            chart += plots.line_chart(recall, lines, "recall", "precision")
            words = f"{tables.VIEW_NAMES[view]}: {caption(run, runs)}"
            figures.append(Figure(chart, caption=words))
            at = [share(float(precision["at .50"][round(100 * r)])) for r in _RECALLS]
            rows.add(f"{tables.VIEW_NAMES[view]}, at .50", caption(run, runs), *at)
    if not figures:
        return None
    lead = "Mean over the categories of what COCO integrates to AP."
    return Section("Precision and recall", lead, [], [Group(figures, "grid two")], [rows])


_RECALLS = (0.1, 0.3, 0.5, 0.7, 0.9)


def _landmarks(runs: Sequence[Run]) -> Section | None:
    measured = {
        run.name: analysis.landmark_errors(run.truth, run.found["keypoints"])
        for run in runs
        if run.truth is not None and "keypoints" in run.found and run.taxonomy.num_landmarks
    }
    if not measured:
        return None
    names = tables.category_names([run for run in runs if run.name in measured])
    highest = strongest(v for found in measured.values() for v in found.errors.values())
    groups, columns = [], {}
    for run in (r for r in runs if r.name in measured):
        found = measured[run.name]
        words = f"{caption(run, runs)}; {found.measured:,} of {found.items:,} labelled items"
        categories = run.taxonomy.categories
        drawn = landmark_drawings(words, categories, found.errors, found.counts, highest)
        groups.append(drawn)
        means = {c.name: found.errors[c.id] for c in categories}
        columns[caption(run, runs)] = [
            _percent(means[name][np.isfinite(means[name])]) if name in means else tables.MISSING
            for name in names
        ]
    lead = (
        "Mean distance between a found landmark and the annotated one, visible or occluded, as "
        "a share of the square root of the item's area. Measured on the most similar detection "
        "of the item's category, from an OKS of 0.1 on; what was not found at all is not in it."
    )
    table = tables.side_by_side("Mean error by category", "", columns, names)
    return Section("Landmark errors", lead, [], groups, [table])


def _percent(values: FloatArray) -> str:
    return f"{values.mean():.1%}" if len(values) else tables.MISSING


def _confusion(runs: Sequence[Run]) -> Section | None:
    figures, top = [], Table("Most frequent confusions", ["", "is taken for", "items", "share"])
    top.heads = 2
    for run in (r for r in runs if "bbox" in r.found):
        assert run.truth is not None
        best = analysis.rightness(run.truth, run.found["bbox"]).best
        counts = analysis.confusion(run.truth, run.found["bbox"], best)
        names = [run.taxonomy.named(name).name for name in run.truth.category_names]
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        chart = plots.heat_map(
            [*names, "no item"], [*names, "not found"], shares, counts, "Confusion of categories"
        )
        words = f"{caption(run, runs)}; detections with a score of at least {best:.2f}"
        figures.append(Figure(chart, caption=words, kind="scroll"))
        _add_confusions(top, counts, names, run.name if len(runs) > 1 else "")
    if not figures:
        return None
    lead = (
        "Annotated items (rows) by the category of the detection that lies on them (IoU of at "
        "least .5, whatever its category). The score from which detections count is the one with "
        "the best F1. The darker, the larger the share of the row."
    )
    return Section("Confusion between categories", lead, [top], [Group(figures, "grid wide")])


def _add_confusions(table: Table, counts: IntArray, names: Sequence[str], run: str) -> None:
    own = counts[:-1, :-1] * ~np.eye(len(names), dtype=bool)
    for place in np.argsort(-own, axis=None, kind="stable")[:5]:
        row, column = divmod(int(place), len(names))
        if own[row, column]:
            total = counts[row].sum()
            first = f"{names[row]} ({run})" if run else names[row]
            cells = f"{own[row, column]:,}", f"{own[row, column] / total:.0%}"
            table.add(first, names[column], *cells)


def _calibration(runs: Sequence[Run]) -> Section | None:
    figures, columns = [], {}
    for run in (r for r in runs if "bbox" in r.found):
        assert run.truth is not None
        judged = analysis.rightness(run.truth, run.found["bbox"])
        found = analysis.calibration(run.found["bbox"], judged)
        chart = plots.calibration_chart(found.scores, found.shares, found.counts.tolist())
        words = f"{caption(run, runs)}; mean gap {found.error:.3f}"
        figures.append(Figure(chart, caption=words))
        bins = zip(found.scores, found.shares, found.counts, strict=True)
        columns[caption(run, runs)] = [_bin(*one) for one in bins]
    if not figures:
        return None
    lead = (
        "Of the boxes with a score, how many are right (category, and IoU of at least .5)? On "
        "the dashed line scores are probabilities; below it they promise too much."
    )
    names = [f"{b / 10:.1f} to {(b + 1) / 10:.1f}" for b in range(10)]
    table = tables.side_by_side("Right, by score", "score", columns, names)
    return Section("Calibration of scores", lead, [], [Group(figures)], [table])


def _bin(score: float, right: float, count: int) -> str:
    return f"{right:.0%} of {count:,}" if count else tables.MISSING


def _images(runs: Sequence[Run], number: int) -> Section | None:
    shown = _on_one_truth([run for run in runs if "bbox" in run.found])
    if not shown or number < 1:
        return None
    first = shown[0]
    assert first.truth is not None
    best = {run.name: _best_score(run) for run in shown}
    judged = {run.name: _image_quality(run, best[run.name]) for run in shown}
    layout = "photos pairs" if len(shown) == 1 else "photos"
    groups = []
    for words, chosen in zip(("Best", "Worst"), judged[first.name].extremes(number), strict=True):
        rows = [_photo_row(shown, index, judged, best) for index in chosen]
        groups.append(Group(layout=layout, title=words, rows=[row for row in rows if row]))
    groups = [group for group in groups if group.rows]
    if not groups:
        return None
    lead = (
        f"By panoptic quality of boxes ({first.name}): the IoU of right detections, summed, over "
        "right ones plus half of the false and the missed ones. Detections from the score with "
        "the best F1 on; landmarks of detections whose category the photo does not show are "
        "left out."
    )
    return Section("Best and worst photos", lead, [], groups)


def _on_one_truth(runs: Sequence[Run]) -> list[Run]:
    """Those runs whose images and items are the first one's, and can stand beside them."""
    return [run for run in runs if run.truth is runs[0].truth]


def _best_score(run: Run) -> float:
    assert run.truth is not None
    return analysis.rightness(run.truth, run.found["bbox"]).best


def _image_quality(run: Run, threshold: float) -> ImageQuality:
    assert run.truth is not None
    return analysis.image_quality(run.truth, run.found["bbox"], threshold)


def _photo_row(
    runs: Sequence[Run], index: int, judged: dict[str, ImageQuality], best: dict[str, float]
) -> list[Figure]:
    truth = runs[0].truth
    assert truth is not None
    image_id = int(truth.image_ids[index])
    image = photos.photo(runs[0], image_id)
    if image is None:
        return []
    address = photos.drawn_truth(truth, index, image)
    row = [_picture(address, "annotated garments", f"annotated: {image_id:06d}")]
    for run in runs:
        address = photos.drawn_found(run, index, image, best[run.name])
        words = f"{run.name}: quality {judged[run.name].quality[index]:.2f}"
        row.append(_picture(address, "predicted garments", words))
    return row


def _picture(address: str, words: str, caption: str, kind: str = "") -> Figure:
    return Figure(address=address, words=words, caption=caption, kind=kind)


def _queries(runs: Sequence[Run], number: int) -> Section | None:
    groups: list[Group] = []
    for task, boxes in tables.RETRIEVAL_NAMES.items():
        shown = _on_one_truth([run for run in runs if task in run.retrieval])
        examples = shown[0].retrieval[task].examples(2 * (number // 2)) if shown else []
        # The first run's choice for all of them, so that they can be compared.
        made = [_query_row(run, task, query, runs) for query in examples for run in shown]
        rows = [row for row in made if row is not None]
        if rows:
            groups += [Group(title=f"boxes: {boxes}"), *rows]
    if not groups:
        return None
    lead = (
        "A consumer's item and the first five that were retrieved for it from the shops' photos; "
        "right ones are framed and marked. First queries with a right one, then queries without."
    )
    return Section("Retrieved items", lead, [], groups)


def _query_row(run: Run, task: str, query: int, runs: Sequence[Run]) -> Group | None:
    part = run.retrieval[task]
    detection, item = int(part.standing[query]), int(part.scores.items[query])
    image = photos.photo(run, int(part.truth.queries.image_ids[item]))
    if image is None:
        return None
    if detection < 0:
        return Group(note=f"{run.name}: the item was not detected")
    name = run.taxonomy.category(part.truth.queries.classes[item]).name
    address = photos.cut(image, part.retrieved.boxes[detection])
    figures = [_picture(address, f"query: {name}", name, "query"), *_retrieved(run, task, query)]
    place = int(part.scores.places[query])
    where = f"first right one at {place + 1}" if place >= 0 else "no right one among 20"
    words = f"{run.name}: " if len(runs) > 1 else ""
    words += f"{part.partners(query)} right in the gallery, {where}"
    return Group(figures, "retrieved", note=words)


def _retrieved(run: Run, task: str, query: int) -> list[Figure]:
    part, figures = run.retrieval[task], []
    detection, right = int(part.standing[query]), part.right(query)
    for place in range(min(_SHOWN_RETRIEVED, len(right))):
        image_id = int(part.retrieved.gallery_image_ids[detection, place])
        image = photos.photo(run, image_id)
        if image is None:
            continue
        address = photos.cut(image, part.retrieved.gallery_boxes[detection, place])
        mark, kind = (" \N{CHECK MARK} right", "right") if right[place] else ("", "wrong")
        words = f"{place + 1}{mark}"
        figures.append(_picture(address, f"retrieved {words}", words, kind))
    return figures
