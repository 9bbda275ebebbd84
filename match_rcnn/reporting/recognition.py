"""DeepFashion's (2016) benchmarks: what was published, and ours below.

What was published is known here at second hand: from a survey (Lee, Han and Lee, Visual Fashion
Analysis Using Deep Learning, 2020) and the tables of public repositories
(``fdjingyuan/Deep-Fashion-Analysis-ECCV2018``, ``suminlee94/GLE_FLD``). Nobody had the papers
themselves at hand; ``docs/recognition_protocols.md`` says what could not be verified, and why many
rows cannot be compared.

Metrics come flat and in percent (landmark errors as they are), as ``metrics.json`` has them:
``"attributes/texture_top3"``, with several data sets behind the name of one.
"""

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from match_rcnn.data.sources.deepfashion import ATTRIBUTE_TYPES
from match_rcnn.reporting.pages import Section, Table
from match_rcnn.reporting.tables import MISSING, caption

if TYPE_CHECKING:
    from match_rcnn.reporting.numbers.runs import Run

PUBLISHED = "published"

#: Top-3 and top-5, in percent, of category, each type of attributes, and "All".
PUBLISHED_CLASSIFICATION: dict[str, tuple[tuple[float, float], ...]] = {
    "WTBI": (
        *((43.73, 66.26), (24.21, 32.65), (25.38, 36.06), (23.39, 31.26)),
        *((26.31, 33.24), (49.85, 58.68), (27.46, 35.37)),
    ),
    "DARN": (
        *((59.48, 79.58), (36.15, 48.15), (36.64, 48.52), (35.89, 46.93)),
        *((39.17, 50.14), (66.11, 71.36), (42.35, 51.95)),
    ),
    "FashionNet": (
        *((82.58, 90.17), (37.46, 49.52), (39.30, 49.84), (39.47, 48.59)),
        *((44.13, 54.02), (66.43, 73.16), (45.52, 54.61)),
    ),
    "Corbière et al.": (
        *((86.30, 92.80), (53.60, 63.20), (39.10, 48.80), (50.10, 59.50)),
        *((38.80, 48.90), (30.50, 38.30), (23.10, 30.40)),
    ),
    "Wang et al.": (
        *((90.99, 95.78), (50.31, 65.48), (40.31, 48.23), (53.32, 61.05)),
        *((40.65, 56.32), (68.70, 74.25), (51.53, 60.95)),
    ),
    "Liu and Lu": (
        *((91.16, 96.12), (56.17, 65.83), (43.20, 53.52), (58.28, 67.80)),
        *((46.97, 57.42), (68.82, 74.13), (54.69, 63.74)),
    ),
}
#: The normalised error of landmarks, mean of the slots, on "category and attribute prediction".
PUBLISHED_LANDMARKS = {
    "FashionNet": 0.0872,
    "DFA": 0.0660,
    "DLAN": 0.0643,
    "Wang et al.": 0.0484,
    "Liu and Lu": 0.0474,
    "GLE": 0.0393,
}
#: Hit at k, in percent.
PUBLISHED_RETRIEVAL: dict[str, dict[str, dict[int, float]]] = {
    "inshop": {"FashionNet": {1: 53, 10: 73, 20: 76, 30: 77, 40: 79, 50: 80}},
    "consumer2shop": {"FashionNet": {20: 18.8}, "GRNet": {1: 25.7, 20: 64.4, 50: 75.0}},
}
TOPS = (3, 5)
HITS = (1, 10, 20, 30, 40, 50)

CLASSIFICATION_NOTE = (
    '"All" is not one thing. Liu and Lu\'s is the plain mean of the five types; of the others '
    "none is, and Corbière's is evidently the recall among all 1,000 attributes. Ours says which. "
    "Published recalls of style near 70 have not been reproduced: users of Liu and Lu's code "
    "report 22 to 33, and All 17 to 23. FashionNet's fabric at 3 is 39.30 in one source and 39.90 "
    "in another, WTBI's category at 5 is 66.26 or 66.25. The 2016 paper states 63,720 images where "
    "the release has 289,222."
)
LANDMARKS_NOTE = (
    "Liu and Lu, and those compared with them, leave out visible landmarks outside of the "
    "garment's box, and evaluate in a crop of it; DFA divides by the padded longer side instead. "
    "Ours counts every visible landmark."
)
RETRIEVAL_NOTE = (
    "The share of queries with a right image among the first k. FashionNet's figures are of other "
    "splits than those that were released: 54,642 images of 11,735 items against 52,712 of 7,982 "
    "(in-shop), 251,361 pairs (consumer-to-shop). The gallery of consumer-to-shop is the shops' "
    "photos of validation and test pairs."
)
_TASKS = {"inshop": "In-shop retrieval", "consumer2shop": "Consumer-to-shop retrieval"}


def section(runs: "Sequence[Run]") -> Section | None:
    """Tables of those benchmarks that some run has figures of."""
    made = [classification(runs), landmarks(runs)]
    made += [retrieval(runs, task) for task in PUBLISHED_RETRIEVAL]
    shown = [table for table in made if table is not None]
    if not shown:
        return None
    lead = (
        "Published rows are at second hand, of photographs, and most of them of another protocol "
        "than ours: the notes say how. Rows of other data cannot be compared with them."
    )
    return Section("DeepFashion (2016)", lead, shown)


def classification(runs: "Sequence[Run]") -> Table | None:
    """Categories and attributes at 3 and 5."""
    tails = ("attributes/mean_of_types_top3", "category/top3")
    rows = [
        (run, start)
        for run in runs
        for start in dict.fromkeys(start for tail in tails for start in _starts(run, tail))
    ]
    if not rows:
        return None
    columns = ["category", *ATTRIBUTE_TYPES, "All, as published", "mean of types", "all ranked"]
    title = "Category and attributes: top-k accuracy and recall, in percent"
    table = Table(title, ["", "", *columns], heads=2, note=CLASSIFICATION_NOTE)
    for place, k in enumerate(TOPS):
        for number, (method, known) in enumerate(PUBLISHED_CLASSIFICATION.items()):
            cells = [*(f"{own[place]:.2f}" for own in known), MISSING, MISSING]
            table.add("" if number else f"top-{k}", f"{method}, {PUBLISHED}", *cells, quiet=True)
        for run, start in rows:
            names = [f"category/top{k}", *(f"attributes/{t}_top{k}" for t in ATTRIBUTE_TYPES)]
            names += ["", f"attributes/mean_of_types_top{k}", f"attributes/all_ranked_top{k}"]
            table.add(
                "", _called(run, start, runs), *(_percent(run, start, name) for name in names)
            )
    return table


def landmarks(runs: "Sequence[Run]") -> Table | None:
    """The normalised error."""
    rows = [(run, start) for run in runs for start in _starts(run, "landmarks/ne_mean")]
    if not rows:
        return None
    table = Table("Landmarks: normalised error, mean of the slots", ["", "error"])
    table.note = LANDMARKS_NOTE
    for method, error in PUBLISHED_LANDMARKS.items():
        table.add(f"{method}, {PUBLISHED}", f"{error:.4f}", quiet=True)
    for run, start in rows:
        table.add(_called(run, start, runs), f"{run.metrics[f'{start}landmarks/ne_mean']:.4f}")
    return table


def retrieval(runs: "Sequence[Run]", task: str) -> Table | None:
    """Hit at k. Args: task: of :data:`PUBLISHED_RETRIEVAL`."""
    rows = [(run, start) for run in runs for start in _starts(run, f"{task}/hit20")]
    if not rows:
        return None
    title = f"{_TASKS[task]}: hit at k, in percent"
    table = Table(title, ["", *map(str, HITS)], note=RETRIEVAL_NOTE)
    for method, known in PUBLISHED_RETRIEVAL[task].items():
        cells = [f"{known[k]:.1f}" if k in known else MISSING for k in HITS]
        table.add(f"{method}, {PUBLISHED}", *cells, quiet=True)
    for run, start in rows:
        cells = [_percent(run, start, f"{task}/hit{k}", 1) for k in HITS]
        table.add(_called(run, start, runs), *cells)
    return table


def _starts(run: "Run", tail: str) -> list[str]:
    """What stands in front of this metric in a run: "", the name of a data set, "oracle_"."""
    found = [re.fullmatch(rf"((?:.*/)?(?:oracle_)?){tail}", name) for name in run.metrics]
    return [match[1] for match in found if match]


def _called(run: "Run", start: str, runs: "Sequence[Run]") -> str:
    """A row of ours: whose it is, on which data set, and what of it is given."""
    dataset, _, given = start.rpartition("/")
    words = [caption(run, runs)] + [dataset] * bool(dataset)
    if f"{start}attributes/detected" in run.metrics:
        words.append("detected garments")
    return ", ".join([*words, "true landmarks given"] if given else words)


def _percent(run: "Run", start: str, name: str, digits: int = 2) -> str:
    value = run.metrics.get(start + name, math.nan) if name else math.nan
    return f"{value:.{digits}f}" if math.isfinite(value) else MISSING
