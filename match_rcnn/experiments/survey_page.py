"""What ``tools/survey.py`` writes into ``docs/survey.md``: published rows, our rows, claims."""

from collections.abc import Mapping, Sequence
from typing import Any

from match_rcnn.data.sources.deepfashion import ATTRIBUTE_TYPES
from match_rcnn.experiments.pages import TablePage, markdown_table, spread
from match_rcnn.experiments.survey import (
    CATEGORY,
    CLAIMS,
    CONSUMER,
    INSHOP,
    RULE,
    SYSTEMS,
    Runs,
    Verdict,
    judge,
)
from match_rcnn.reporting.recognition import (
    CLASSIFICATION_NOTE,
    HITS,
    LANDMARKS_NOTE,
    PUBLISHED_CLASSIFICATION,
    PUBLISHED_LANDMARKS,
    PUBLISHED_RETRIEVAL,
    RETRIEVAL_NOTE,
    TOPS,
)

PAGE = TablePage("survey", "The systems, side by side")
#: Consumer-to-shop's top-1, 20 and 50 as the survey prints them.
_AS_PRINTED = {"WTBI": ("0.24", "0.63", "0.87"), "DARN": ("0.36", "1.11", "1.52")}
#: Of the survey alone: FLAM's.
_PRINTED = {**PUBLISHED_RETRIEVAL["consumer2shop"], "FLAM": {1: 26.5, 20: 66.4, 50: 75.5}}
_ERRORS = (
    "The survey's rows of WTBI and DARN in consumer-to-shop stand beside percentages and are in "
    "another unit: almost surely tenths of the share, that is 2.4, 6.3, 8.7 and 3.6, 11.1, 15.2 "
    "percent. They are repeated as printed.",
    "The survey's text speaks of category top-1 and top-3; its table is top-3 and top-5. It counts "
    "282,000 images; the release has 289,222.",
    "It writes the category's loss as a binary cross-entropy (FashionNet's is a softmax), leaves "
    "out the minus sign of two losses, and calls WTBI and DARN hand-crafted; both are networks.",
    "WTBI and DARN are rebuilt there by others: a perceptron on pretrained features, and one of "
    "DARN's two towers.",
    "FLAM's extractor is frozen, so that its figures are those of the extractor, and say nothing "
    "of what exchanging attributes gives.",
)


def markdown(summary: Mapping[str, Any]) -> str:
    """All between the marks."""
    runs = summary["runs"]
    parts = [
        "## Published, at second hand",
        "From a survey (Lee, Han and Lee, Visual Fashion Analysis Using Deep Learning, 2020) and "
        "the tables of public repositories. All are of photographs, by protocols that differ; "
        "[recognition_protocols.md](recognition_protocols.md) has what is known of them.",
        *_published(),
        "## Measured on generated data",
        _how(summary),
        _classification(runs),
        _retrieval(runs),
        _cost(runs),
        "## What the systems claim, and what shows",
        RULE,
        _claims(runs),
        *_failures(summary),
    ]
    return "\n\n".join(parts) + "\n"


def _published() -> list[str]:
    first = [
        [method, *(" / ".join(f"{v:.2f}" for v in pair) for pair in known)]
        for method, known in PUBLISHED_CLASSIFICATION.items()
    ]
    errors = "; ".join(f"{name} {error:.4f}" for name, error in PUBLISHED_LANDMARKS.items())
    inshop = PUBLISHED_RETRIEVAL["inshop"]["FashionNet"]
    at = (1, 20, 50)
    consumer: list[Sequence[str]] = [
        (f"{name} (as printed)", *own) for name, own in _AS_PRINTED.items()
    ]
    consumer += [
        [name, *(f"{own[k]:.1f}" if k in own else "-" for k in at)]
        for name, own in _PRINTED.items()
    ]
    return [
        "**Categories and attributes**, top-3 / top-5 in percent:",
        markdown_table(["", "category", *ATTRIBUTE_TYPES, '"All"'], first),
        CLASSIFICATION_NOTE,
        f"**Landmarks**, normalised error: {errors}. {LANDMARKS_NOTE}",
        "**Retrieval**, top-k in percent. In-shop, FashionNet: "
        + ", ".join(f"{value} at {k}" for k, value in inshop.items())
        + ". Consumer-to-shop:",
        markdown_table(["", *(f"top-{k}" for k in at)], consumer),
        RETRIEVAL_NOTE,
        "What is wrong with these tables, beyond the notes:",
        "\n".join(f"- {line}" for line in _ERRORS),
    ]


def _how(summary: Mapping[str, Any]) -> str:
    plan, used = summary["plan"], summary["machine"]
    seeds = ", ".join(map(str, sorted({run["seed"] for run in summary["runs"]})))
    opts = plan["opts"]
    pairs = " ".join(f"`{k} {v}`" for k, v in zip(opts[::2], opts[1::2], strict=True))
    changed = f", with {pairs}" if pairs else ""
    return (
        f"Generated data (`tools/make_synthetic_deepfashion.py`): {plan['train']} training images "
        f"of category and attribute prediction, half as many in-shop and half as many "
        f"consumer-to-shop, {plan['test']} test images of each, {plan['pixels']} pixels. Every row "
        f"has the same budget, {plan['steps']} steps, of a small network in {plan['precision']}, "
        f"from nothing or on its base's frozen weights{changed}. Mean ± standard "
        f"deviation over the seeds {seeds}; {_machine(used)}. These figures say nothing "
        "about photographs."
    )


def _machine(used: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in used.items())


def _rows(runs: Runs) -> dict[str, list[Mapping[str, Any]]]:
    """Runs by row, in the order of the systems."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for system in SYSTEMS:
        own = [run for run in runs if run["row"] == system.name]
        if own:
            found[system.name] = own
    return found


def _cell(runs: Runs, *metrics: str, digits: int = 1) -> str:
    cells = [spread((r["metrics"][m] for r in runs if m in r["metrics"]), digits) for m in metrics]
    return " / ".join(cells) if set(cells) != {"-"} else "-"


def _classification(runs: Runs) -> str:
    columns = {"category": "category/top"}
    columns |= {name: f"attributes/{name}_top" for name in ATTRIBUTE_TYPES}
    columns |= {"mean of types": "attributes/mean_of_types_top"}
    columns |= {"all ranked": "attributes/all_ranked_top"}
    lines = []
    for name, own in _rows(runs).items():
        cells = [
            _cell(own, *(f"{CATEGORY}/{metric}{k}" for k in TOPS)) for metric in columns.values()
        ]
        error = _cell(own, f"{CATEGORY}/landmarks/ne_mean", digits=3)
        if {*cells, error} != {"-"}:
            lines.append([name, *cells, error])
    table = markdown_table(["top-3 / top-5, percent", *columns, "landmark error"], lines)
    return f"**Categories, attributes and landmarks**\n\n{table}"


def _retrieval(runs: Runs) -> str:
    """Hit at k, of every task that ends in a search: one ordered by a similarity is its own."""
    lines = []
    for dataset, called in ((INSHOP, "in-shop"), (CONSUMER, "consumer-to-shop")):
        for name, own in _rows(runs).items():
            for task in _tasks(own, dataset):
                cells = [_cell(own, f"{dataset}/{task}/hit{k}") for k in HITS]
                cells.append(_cell(own, f"{dataset}/{task}/shortlist_recall"))
                extra = "" if task in ("inshop", "consumer2shop") else f" ({task})"
                lines.append([called, name + extra, *cells])
    heads = ["hit at k, percent", "", *map(str, HITS), "recall of the shortlist"]
    return (
        "**Retrieval**. What ends in `embedding` is the order of the vectors alone, before a "
        f"similarity orders the shortlist again.\n\n{markdown_table(heads, lines)}"
    )


def _tasks(runs: Runs, dataset: str) -> list[str]:
    names = {metric for run in runs for metric in run["metrics"]}
    parts = (name.split("/") for name in sorted(names) if name.startswith(f"{dataset}/"))
    return list(dict.fromkeys(task for _, task, metric in parts if metric.startswith("hit")))


def _cost(runs: Runs) -> str:
    configs = {system.name: system for system in SYSTEMS}
    lines = []
    for name, own in _rows(runs).items():
        system, first = configs[name], own[0]
        lines.append(
            [
                name,
                f"`{system.config}`",
                ", ".join(first["trained_on"]),
                system.base or "-",
                spread((run["seconds"] for run in own), 0),
                *(f"{first[key]:,}" if key in first else "-" for key in ("parameters", "learned")),
                str(len(own)),
            ]
        )
    heads = [
        "",
        "config",
        "trained on",
        "on the weights of",
        "seconds",
        "parameters",
        "of which learn",
        "runs",
    ]
    return (
        "**What it costs**: seconds of training and scoring, without those of the base\n\n"
        + markdown_table(heads, lines)
    )


def _claims(runs: Runs) -> str:
    lines = []
    for claim in CLAIMS:
        found = judge(claim, runs)
        n = claim.digits
        lines.append(
            [
                claim.text,
                f"{claim.row}: {spread(found.values, n)}",
                f"{claim.against}: {spread(found.against, n)}",
                _gain(found, n),
                f"**{found.verdict}**",
            ]
        )
    return markdown_table(["claim", "with", "against", "gain", ""], lines)


def _gain(found: Verdict, digits: int) -> str:
    each = ", ".join(f"{gain:+.{digits}f}" for gain in found.gains)
    return f"{spread(found.gains, digits)} ({each})" if found.gains else "-"


def _failures(summary: Mapping[str, Any]) -> list[str]:
    failed = [f"{run['row']} with seed {run['seed']}" for run in summary["failed"]]
    return [f"Not run to the end: {', '.join(failed)}."] if failed else []
