"""The sections of a report of one run or of several beside each other."""

from collections.abc import Callable, Sequence
from html import escape

import numpy as np

from match_rcnn.data.taxonomy import CATEGORIES
from match_rcnn.reporting import analysis, charts, pictures, tables
from match_rcnn.reporting.analysis import ImageQuality
from match_rcnn.reporting.charts import Series
from match_rcnn.reporting.drawings import landmark_drawings, strongest
from match_rcnn.reporting.page import Section, figure, grid, picture
from match_rcnn.reporting.runs import Run
from match_rcnn.reporting.tables import Table, caption, share
from match_rcnn.utils.arrays import FloatArray, IntArray

_SHOWN_RETRIEVED = 5


def build(runs: Sequence[Run], photos: int) -> list[Section]:
    """Those sections for which some run has what it takes.

    Args:
        photos: how many of the best, of the worst, and of the queries are shown.
    """
    makers: list[Callable[[], Section | None]] = [
        lambda: _at_a_glance(runs),
        lambda: _subsets(runs),
        lambda: _retrieval(runs),
        lambda: _categories(runs),
        lambda: _curves(runs),
        lambda: _landmarks(runs),
        lambda: _confusion(runs),
        lambda: _calibration(runs),
        lambda: _images(runs, photos),
        lambda: _queries(runs, photos),
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
    views = tables.seen_views(runs)
    if not views:
        return None
    lead = (
        "An item outside the subset is ignored, as items outside an area range are in COCO: no "
        "miss, and a detection of it is neither right nor wrong. A detection of nothing is wrong "
        "in every subset."
    )
    made = [tables.by_subset(runs, view) for view in tables.PAPER_TABLES if view in views]
    return Section("By subset", lead, [*made, tables.by_source(runs)])


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
    names = [category.name for category in CATEGORIES]
    figures = []
    for run in runs:
        dots = [
            Series(tables.VIEW_NAMES[view], _aps(run, view, names))
            for view in views
            if f"{view}/AP" in run.metrics
        ]
        chart = charts.legend([one.name for one in dots], "dots") + charts.dot_chart(
            names, dots, "AP"
        )
        figures.append(figure(chart, caption(run, runs)))
    return Section("By category", "", [tables.by_category(runs)], grid(figures))


def _aps(run: Run, view: str, names: Sequence[str]) -> FloatArray:
    return np.array([run.metrics.get(f"{view}/AP-{n}", np.nan) / 100 for n in names])


def _curves(runs: Sequence[Run]) -> Section | None:
    figures, rows = [], Table("Precision at recall", ["", "", *(f"{r:.1f}" for r in _RECALLS)])
    rows.heads = 2
    for view in tables.VIEW_NAMES:
        for run in (r for r in runs if view in r.views):
            recall, precision = analysis.precision_recall(run.views[view].whole)
            lines = [Series(name, values) for name, values in precision.items()]
            chart = charts.legend([one.name for one in lines], "lines")
            chart += charts.line_chart(recall, lines, "recall", "precision")
            figures.append(figure(chart, f"{tables.VIEW_NAMES[view]}: {caption(run, runs)}"))
            at = [share(float(precision["at .50"][round(100 * r)])) for r in _RECALLS]
            rows.add(f"{tables.VIEW_NAMES[view]}, at .50", caption(run, runs), *at)
    if not figures:
        return None
    lead = "Mean over the categories of what COCO integrates to AP."
    return Section("Precision and recall", lead, [], grid(figures, "two"), [rows])


_RECALLS = (0.1, 0.3, 0.5, 0.7, 0.9)


def _landmarks(runs: Sequence[Run]) -> Section | None:
    measured = {
        run.name: analysis.landmark_errors(run.truth, run.found["keypoints"])
        for run in runs
        if run.truth is not None and "keypoints" in run.found
    }
    if not measured:
        return None
    highest = strongest(v for found in measured.values() for v in found.errors.values())
    html, columns = "", {}
    for run in (r for r in runs if r.name in measured):
        found = measured[run.name]
        words = f"{caption(run, runs)}; {found.measured:,} of {found.items:,} labelled items"
        html += f"<h3>{escape(words)}</h3>"
        html += landmark_drawings(found.errors, found.counts, highest)
        means = [found.errors[c.id] for c in CATEGORIES]
        columns[caption(run, runs)] = [_percent(m[np.isfinite(m)]) for m in means]
    lead = (
        "Mean distance between a found landmark and the annotated one, visible or occluded, as "
        "a share of the square root of the item's area. Measured on the most similar detection "
        "of the item's category, from an OKS of 0.1 on; what was not found at all is not in it."
    )
    names = [c.name for c in CATEGORIES]
    table = tables.side_by_side("Mean error by category", "", columns, names)
    return Section("Landmark errors", lead, [], html, [table])


def _percent(values: FloatArray) -> str:
    return f"{values.mean():.1%}" if len(values) else tables.MISSING


def _confusion(runs: Sequence[Run]) -> Section | None:
    figures, top = [], Table("Most frequent confusions", ["", "is taken for", "items", "share"])
    top.heads = 2
    for run in (r for r in runs if "bbox" in r.found):
        assert run.truth is not None
        best = analysis.rightness(run.truth, run.found["bbox"]).best
        counts = analysis.confusion(run.truth, run.found["bbox"], best)
        names = [_own_name(name) for name in run.truth.category_names]
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        chart = charts.heat_map(
            [*names, "no item"], [*names, "not found"], shares, counts, "Confusion of categories"
        )
        words = f"{caption(run, runs)}; detections with a score of at least {best:.2f}"
        figures.append(figure(f"<div class='scroll'>{chart}</div>", words))
        _add_confusions(top, counts, names, run.name if len(runs) > 1 else "")
    if not figures:
        return None
    lead = (
        "Annotated items (rows) by the category of the detection that lies on them (IoU of at "
        "least .5, whatever its category). The score from which detections count is the one with "
        "the best F1. The darker, the larger the share of the row."
    )
    return Section("Confusion between categories", lead, [top], grid(figures, "wide"))


def _own_name(name: str) -> str:
    return next((c.name for c in CATEGORIES if c.coco_name == name), name)


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
        chart = charts.calibration_chart(found.scores, found.shares, found.counts.tolist())
        words = f"{caption(run, runs)}; mean gap {found.error:.3f}"
        figures.append(figure(chart, words))
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
    return Section("Calibration of scores", lead, [], grid(figures), [table])


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
    html = ""
    for words, chosen in zip(("Best", "Worst"), judged[first.name].extremes(number), strict=True):
        rows = [_photo_row(shown, index, judged, best) for index in chosen]
        rows = [row for row in rows if row]
        if rows:
            kind = "photos pairs" if len(shown) == 1 else "photos"
            html += f"<h3>{words}</h3><div class='{kind}'>{''.join(rows)}</div>"
    if not html:
        return None
    lead = (
        f"By panoptic quality of boxes ({first.name}): the IoU of right detections, summed, over "
        "right ones plus half of the false and the missed ones. Detections from the score with "
        "the best F1 on; landmarks of detections whose category the photo does not show are "
        "left out."
    )
    return Section("Best and worst photos", lead, [], html)


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
) -> str:
    truth = runs[0].truth
    assert truth is not None
    image_id = int(truth.image_ids[index])
    image = pictures.photo(runs[0].image_root, image_id)
    if image is None:
        return ""
    address = pictures.drawn_truth(truth, index, image)
    figures = [figure(picture(address, "annotated garments"), f"annotated: {image_id:06d}")]
    for run in runs:
        address = pictures.drawn_found(run, index, image, best[run.name])
        words = f"{run.name}: quality {judged[run.name].quality[index]:.2f}"
        figures.append(figure(picture(address, "predicted garments"), words))
    return f"<div>{''.join(figures)}</div>"


def _queries(runs: Sequence[Run], number: int) -> Section | None:
    html = ""
    for task, boxes in tables.RETRIEVAL_NAMES.items():
        shown = _on_one_truth([run for run in runs if task in run.retrieval])
        examples = shown[0].retrieval[task].examples(2 * (number // 2)) if shown else []
        # The first run's choice for all of them, so that they can be compared.
        rows = [_query_row(run, task, query, runs) for query in examples for run in shown]
        if any(rows):
            html += f"<h3>{escape(f'boxes: {boxes}')}</h3>{''.join(rows)}"
    if not html:
        return None
    lead = (
        "A consumer's item and the first five that were retrieved for it from the shops' photos; "
        "right ones are framed and marked. First queries with a right one, then queries without."
    )
    return Section("Retrieved items", lead, [], html)


def _query_row(run: Run, task: str, query: int, runs: Sequence[Run]) -> str:
    part = run.retrieval[task]
    detection, item = int(part.standing[query]), int(part.scores.items[query])
    image = pictures.photo(run.image_root, int(part.truth.queries.image_ids[item]))
    if image is None:
        return ""
    if detection < 0:
        return f"<p class='note'>{escape(run.name)}: the item was not detected</p>"
    name = CATEGORIES[int(part.truth.queries.classes[item]) - 1].name
    address = pictures.cut(image, part.retrieved.boxes[detection])
    figures = [figure(picture(address, f"query: {name}"), name, "query")]
    right = part.right(query)
    for place in range(min(_SHOWN_RETRIEVED, len(right))):
        image_id = int(part.retrieved.gallery_image_ids[detection, place])
        image = pictures.photo(run.image_root, image_id)
        if image is None:
            continue
        address = pictures.cut(image, part.retrieved.gallery_boxes[detection, place])
        mark, class_ = ("✓ right", "right") if right[place] else ("", "wrong")
        words = f"{place + 1}{' ' * bool(mark)}{mark}"
        figures.append(figure(picture(address, f"retrieved {words}"), words, class_))
    partners = part.partners(query)
    place = int(part.scores.places[query])
    where = f"first right one at {place + 1}" if place >= 0 else "no right one among 20"
    words = f"{run.name}: " if len(runs) > 1 else ""
    words += f"{partners} right in the gallery, {where}"
    return f"<p class='note'>{escape(words)}</p><div class='retrieved'>{''.join(figures)}</div>"
