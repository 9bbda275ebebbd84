from dataclasses import replace

import pytest

from match_rcnn.reporting import tables


def cell(table, column, *heads):
    """The text in a row whose first cells are ``heads``; an empty first cell repeats the one
    above."""
    names = [name for name, span in table.groups for _ in range(span)]
    keys = [*table.headers[: table.heads]]
    for i, header in enumerate(table.headers[table.heads :]):
        keys.append(f"{names[i]} {header}" if i < len(names) else header)
    above = ""
    for row in table.rows:
        above = row[0] or above
        if (above, *row[1 : table.heads]) == heads:
            return row[keys.index(column)]
    raise KeyError(heads)


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.6384, ".638"), (1.0, "1.000"), (0.0, ".000"), (None, "\u2013"), (float("nan"), "\u2013")],
)
def test_share(value, written):
    assert tables.share(value) == written


def test_the_published_row_stands_above_ours(runs):
    table = tables.overview(runs)
    boxes = [row for row in table.rows if ".638" in row or "perfect" in row[1]][:2]
    assert boxes[0] == ["boxes", "published (Ge et al. 2019)", ".638", ".789", ".745"]
    assert boxes[1] == ["", "perfect, measured on a test", "1.000", "1.000", "1.000"]
    assert table.quiet == {0, 3, 6, 9}


def test_one_run_is_called_by_what_it_was_measured_on(runs):
    assert tables.overview(runs[:1]).rows[1][1] == "measured on a test"


@pytest.mark.parametrize(
    ("view", "number"), [("bbox", 3), ("keypoints_visible", 5), ("keypoints", 5), ("segm", 7)]
)
def test_by_subset(runs, view, number):
    table = tables.by_subset(runs, view)
    assert table.title.startswith(f"Table {number}:")
    known = tables.PUBLISHED_APS[view]["AP75"]
    assert cell(table, "overall", "AP75", tables.PUBLISHED) == tables.share(known)
    assert cell(table, "scale small", "AP75", tables.PUBLISHED) == tables.MISSING
    assert cell(table, "scale small", "AP", "perfect, measured on a test") == "1.000"
    assert cell(table, "occlusion heavy", "AP", "perfect, measured on a test") == tables.MISSING
    assert [name for name, _ in table.groups] == ["scale", "occlusion", "zoom-in", "viewpoint"]


def test_subsets_of_the_flawed_run(runs):
    """Boxes at IoU .5: slight items are 2 (trousers, taken for shorts) and 4 (shorts, missed),
    medium ones 1 (shorts, found) and 3, 5 (skirts, found)."""
    table, flawed = tables.by_subset(runs, "bbox"), "flawed, measured on a test"
    assert cell(table, "occlusion slight", "AP50", flawed) == ".000"
    assert cell(table, "occlusion medium", "AP50", flawed) == "1.000"
    assert cell(table, "overall", "AP50", flawed) == ".502"  # (51/101 + 0 + 1) / 3


def test_by_category_and_source(runs):
    table = tables.by_category(runs)
    # Both found at .50 to .60, then one of two: (3 + 7 * 51 / 101) / 10.
    assert cell(table, "boxes flawed", "skirt") == ".653"
    assert cell(table, "boxes perfect", "trousers") == "1.000"
    assert cell(table, "boxes flawed", "trousers") == ".000"
    assert cell(table, "boxes perfect", "vest") == tables.MISSING
    assert tables.by_category(runs[:1]).headers[1:] == list(tables.VIEW_NAMES.values())
    assert cell(tables.by_source(runs), "masks shops", "perfect, measured on a test") == "1.000"


def test_retrieval(runs):
    table = tables.retrieval_overall(runs)
    pose = next(row for row in table.rows if row[0] == "pose")
    assert pose[3:] == [".182", ".326", ".416", ".469", ".510"]
    assert sorted(table.quiet) == [0, 1, 2, 3, 4]
    assert table.rows[5][1:5] == ["perfect, measured on a test", "detected", ".500", "1.000"]
    by_subset = tables.retrieval_by_subset(runs)
    # Item 1 (occlusion medium, place 1) and item 3 (medium, place 2).
    column = "occlusion medium"
    assert cell(by_subset, column, "top-1, detected", "perfect, measured on a test") == ".500"
    assert cell(by_subset, "> 5 right", "top-1, detected", "perfect, measured on a test") == (
        tables.MISSING
    )


def test_the_published_row_of_retrieval_is_that_of_the_features(runs):
    head = {"MATCH_ON": True, "ROI_MATCH_HEAD": {"FEATURES": "mask"}}
    masks = replace(runs[0], config={"MODEL": head})
    table = tables.retrieval_by_subset([masks, runs[1]])
    source = f"{tables.PUBLISHED}, mask"
    assert cell(table, "overall", "top-1, detected", source) == ".135"
    assert cell(table, "overall", "top-20, detected", source) == ".447"
    assert cell(table, "scale small", "top-20, detected", source) == tables.MISSING
    assert [table.rows[i][0] for i in sorted(table.quiet)] == [
        "top-1, detected",
        "top-20, detected",
    ]
    assert 0 in table.quiet  # above ours
    assert not tables.retrieval_by_subset(runs).quiet  # no features are known
