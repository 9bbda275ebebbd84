"""From annotation files to a report of what is in them; the work of ``tools/dataset_report.py``.

Plots in the manner of the paper's Figure 3: the variations as shares, the categories as counts.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup

from match_rcnn.data.image_sources import SHOP, USER
from match_rcnn.data.sources.deepfashion2 import ATTRIBUTES, SOURCES
from match_rcnn.evaluation.coco.subsets import LEVELS
from match_rcnn.reporting.charts import plots
from match_rcnn.reporting.charts.landmarks import landmark_drawings
from match_rcnn.reporting.charts.plots import Series
from match_rcnn.reporting.numbers.dataset import (
    COCO_SIZES,
    Statistics,
    is_generated,
    problem_counts,
    read_statistics,
)
from match_rcnn.reporting.pages import Figure, Group, Page, Section, Table
from match_rcnn.reporting.tables import MISSING
from match_rcnn.utils.arrays import BoolArray, FloatArray, IntArray

_SOURCE_NAMES = {USER: "consumers", SHOP: "shops"}
_MANY = 5  # items of an image, and styles, from here on in one row


def write_dataset_report(files: Sequence[Path], output: Path) -> tuple[Path, list[Table]]:
    """Write ``dataset.html`` and ``dataset.md`` into ``output``.

    Args:
        files: annotation files in COCO form, one a split; each has categories of its own.

    Returns:
        The page, and the tables for the console.

    Raises:
        FileNotFoundError, ValueError: what is wrong with which file.
    """
    splits = [read_statistics(file) for file in files]
    sections = build(splits)
    heading = "Data set: " + ", ".join(split.name for split in splits)
    intro = "From " + ", ".join(file.name for file in files) + "."
    if is_generated(*files):
        intro += " The images are drawn by a program."
    tables = [table for section in sections for table in (*section.tables, *section.numbers)]
    return Page(heading, sections, intro).write(output / "dataset"), tables


def build(splits: Sequence[Statistics]) -> list[Section]:
    """Those sections for which some split has the labels."""
    makers: list[Callable[[Sequence[Statistics]], Section | None]] = [
        _overview,
        _categories,
        _variations,
        _landmarks,
        _boxes,
        _pairs,
        _problems,
    ]
    return [section for section in (make(splits) for make in makers) if section is not None]


def _overview(splits: Sequence[Statistics]) -> Section:
    table = Table("Counts", ["", *(split.name for split in splits)])
    rows: dict[str, Callable[[Statistics], float]] = {
        "images": lambda s: len(s.image_pixels),
        "images of consumers": lambda s: (s.image_sources == USER).sum(),
        "images of shops": lambda s: (s.image_sources == SHOP).sum(),
        "images without items": lambda s: (s.items_per_image == 0).sum(),
        "items": lambda s: len(s.category),
        "items of consumers": lambda s: (s.sources == USER).sum(),
        "items of shops": lambda s: (s.sources == SHOP).sum(),
        "items an image": lambda s: len(s.category) / max(len(s.image_pixels), 1),
        "ignore regions": lambda s: s.ignored,
        "pair ids": lambda s: len(np.unique(s.pair_ids[s.pair_ids >= 0])),
        "items of style above 0": lambda s: (s.styles > 0).sum(),
        "products (pair id and style)": lambda s: len(s.products().user),
        "products that both show": lambda s: s.products().matched.sum(),
        "consumer-to-shop pairs": lambda s: s.products().pairs,
        "items without a labelled landmark": lambda s: (s.labelled == 0).sum(),
    }
    for name, count in rows.items():
        table.add(name, *(_number(count(split)) for split in splits))
    return Section("Overview", "", [table])


def _number(value: float) -> str:
    return f"{value:.2f}" if isinstance(value, float) else f"{value:,}"


def _names(splits: Sequence[Statistics]) -> list[str]:
    """The categories of all splits, each once."""
    return list(dict.fromkeys(c.name for split in splits for c in split.taxonomy.categories))


def _by_name(split: Statistics, chosen: BoolArray, names: Sequence[str]) -> FloatArray:
    """Items of those ``chosen``, by the names of categories."""
    own = (c.name for c in split.taxonomy.categories)
    counts = dict(zip(own, split.by_category(chosen).tolist(), strict=True))
    return np.array([counts.get(name, 0) for name in names], dtype=np.float64)


def _categories(splits: Sequence[Statistics]) -> Section:
    names, figures, columns = _names(splits), [], []
    for split in splits:
        bars = [
            Series(name, _by_name(split, split.sources == source, names))
            for source, name in _SOURCE_NAMES.items()
        ]
        bars.append(Series("source unknown", _by_name(split, split.sources == "", names)))
        columns.append([*(b.values for b in bars[:2]), np.sum([b.values for b in bars], axis=0)])
        seen = [one for one in bars if one.values.any()]
        chart = plots.legend([one.name for one in seen], "bars")
        chart += plots.bar_chart(names, seen, "items")
        figures.append(Figure(chart, caption=split.name))
    headers = [*_SOURCE_NAMES.values(), "all", "share"]
    groups = [(split.name, len(headers)) for split in splits]
    table = Table("Items by category", ["", *headers * len(splits)], groups=groups)
    for i, name in enumerate(names):
        cells: list[str] = []
        for user, shop, every in columns:
            cells += [f"{user[i]:,.0f}", f"{shop[i]:,.0f}", f"{every[i]:,.0f}"]
            cells.append(_share(every[i], every.sum()))
        table.add(name, *cells)
    return Section("Categories", "", [], [Group(figures, "grid two")], [table])


def _variations(splits: Sequence[Statistics]) -> Section | None:
    if not any(levels.any() for split in splits for levels in split.levels.values()):
        return None
    headers = [name for _ in splits for name in (*_SOURCE_NAMES.values(), "all", "share")]
    groups = [(split.name, 4) for split in splits]
    table = Table("Items by variation", ["", "", *headers], groups=groups, heads=2)
    for attribute in ATTRIBUTES:
        for level, name in enumerate((*LEVELS[attribute], "unknown"), 1):
            cells: list[str] = []
            for split in splits:
                chosen = split.levels[attribute] == level % 4
                own = [(chosen & (split.sources == source)).sum() for source in SOURCES]
                cells += [f"{n:,}" for n in (*own, chosen.sum())]
                cells.append(_share(chosen.sum(), len(chosen)))
            if name != "unknown" or any(cell not in ("0", "0.0%", MISSING) for cell in cells):
                head = attribute.replace("_", "-") if level == 1 else ""
                table.add(head, name.replace("_", " "), *cells)
    figures = [Figure(_variation_chart(split), caption=split.name) for split in splits]
    lead = "Shares of the items."
    return Section("Variations", lead, [], [Group(figures, "grid two")], [table])


def _variation_chart(split: Statistics) -> Markup:
    names, shares = [], []
    for attribute in ATTRIBUTES:
        levels = split.levels[attribute]
        known = max(int((levels > 0).sum()), 1)
        for level, name in enumerate(LEVELS[attribute], 1):
            names.append(f"{attribute.replace('_', '-')}: {name.replace('_', ' ')}")
            shares.append(round(100 * float((levels == level).sum()) / known, 1))
    bars = [Series("share", np.array(shares))]
    return plots.bar_chart(names, bars, "percent of the items")


def _landmarks(splits: Sequence[Statistics]) -> Section | None:
    splits = [split for split in splits if split.labelled.any()]
    if not splits:
        return None
    headers = [name for _ in splits for name in ("visible", "occluded", "not labelled")]
    spans = [(split.name, 3) for split in splits]
    table = Table("Landmarks by visibility", ["", *headers], groups=spans)
    counts = [_visibility_by_name(split) for split in splits]
    for name in _names(splits):
        found = [own.get(name, np.zeros((0, 3))).sum(0) for own in counts]
        if any(one.sum() for one in found):
            table.add(name, *(_share(one[v], one.sum()) for one in found for v in (2, 1, 0)))
    groups = []
    for split in splits:
        shares = {i: _visible(counts) for i, counts in split.visibility.items()}
        totals = {i: counts.sum(1) for i, counts in split.visibility.items()}
        title, kinds = f"{split.name}: share of visible ones", split.taxonomy.categories
        groups.append(landmark_drawings(title, kinds, shares, totals, 1.0, open_ended=False))
    return Section("Landmark visibility", "", [], groups, [table])


def _visibility_by_name(split: Statistics) -> dict[str, IntArray]:
    return {c.name: split.visibility[c.id] for c in split.taxonomy.categories}


def _visible(counts: IntArray) -> FloatArray:
    total = counts.sum(1)
    shares: FloatArray = np.full(len(total), np.nan)
    np.divide(counts[:, 2], total, out=shares, where=total > 0)
    return shares


def _boxes(splits: Sequence[Statistics]) -> Section:
    edges = np.linspace(0, 1, 11)
    names = [f"{low:.1f} to {low + 0.1:.1f}" for low in edges[:-1]]
    figures = []
    for split in splits:
        counts, _ = np.histogram(split.box_shares(), edges)
        bars = [Series("items", counts.astype(np.float64))]
        words = f"{split.name}: square root of the box's share of the image"
        figures.append(Figure(plots.bar_chart(names, bars, "items"), caption=words))
    table = Table("Box sizes", ["", *(split.name for split in splits)])
    rows: dict[str, Callable[[Statistics], str]] = {
        "median width, pixels": lambda s: _median(s.sizes[:, 0]),
        "median height, pixels": lambda s: _median(s.sizes[:, 1]),
        "COCO's small (below 32 x 32)": lambda s: _between(s, 0, COCO_SIZES[0]),
        "COCO's medium (below 96 x 96)": lambda s: _between(s, *COCO_SIZES),
        "COCO's large": lambda s: _between(s, COCO_SIZES[1], np.inf),
    }
    for name, make in rows.items():
        table.add(name, *(make(split) for split in splits))
    return Section("Box sizes", "", [table], [Group(figures)])


def _median(values: FloatArray) -> str:
    return f"{np.median(values):.0f}" if len(values) else MISSING


def _between(split: Statistics, low: float, high: float) -> str:
    areas = split.sizes.prod(1)
    return _share(int(((areas >= low) & (areas < high)).sum()), len(areas))


def _pairs(splits: Sequence[Statistics]) -> Section:
    items = Table("Images by number of items", ["items", *(split.name for split in splits)])
    paired = any((split.styles > 0).any() for split in splits)
    styles = Table("Items by style", ["style", *(split.name for split in splits)])
    matches = Table("Products by shop items", ["shop items", *(split.name for split in splits)])
    for number in range(_MANY + 1):
        more = f"{number} or more" if number == _MANY else str(number)
        items.add(more, *(_count(split.items_per_image, number) for split in splits))
        styles.add(more, *(_count(split.styles, number) for split in splits))
        cells = []
        for split in splits:
            products = split.products()
            cells.append(_count(products.shop[products.user > 0], number))
        matches.add(more, *cells)
    matches.note = "Of products that a consumer's photo shows; with 0 they cannot be found."
    if not paired:
        return Section("Items", "", [items])
    lead = "A product is one style, above 0, of one pair id; items of style 0 take part in no pair."
    return Section("Items, styles and pairs", lead, [items, styles, matches])


def _count(values: IntArray, number: int) -> str:
    return f"{int((values >= number if number == _MANY else values == number).sum()):,}"


def _problems(splits: Sequence[Statistics]) -> Section:
    counts = [problem_counts(split) for split in splits]
    table = Table("Problems", ["", "", *(split.name for split in splits)], heads=2)
    for what, reason in sorted({key for one in counts for key in one}):
        cells = [
            f"{one[what, reason]:,}" if split.problems is not None else MISSING
            for one, split in zip(counts, splits, strict=True)
        ]
        table.add(what, reason, *cells)
    unread = [split.name for split in splits if split.problems is None]
    lead = "What the conversion left out, and what it kept although it is unusual."
    if unread:
        lead += f" There is no problems file beside {', '.join(unread)}."
    if not table.rows and not unread:
        lead += " It found nothing."
    return Section("Problems", lead, [table] if table.rows else [])


def _share(part: float, total: float) -> str:
    return f"{part / total:.1%}" if total else MISSING
