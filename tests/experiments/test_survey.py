"""Rows, bases, claims and the page of the survey, with commands that are noted and not run."""

import json
from pathlib import Path

import pytest

from match_rcnn.experiments import survey, survey_page, systems
from match_rcnn.experiments.steps import training_settings
from match_rcnn.experiments.survey import (
    CLAIMS,
    COMMON,
    SYSTEMS,
    Claim,
    Survey,
    SurveyPlan,
    judge,
)
from match_rcnn.experiments.survey_page import markdown
from match_rcnn.experiments.systems import RecognitionSteps, System, SystemRuns
from match_rcnn.utils.shipped import config_file

FEW = (
    System("base", "fashionnet_quick"),
    System("heads", "fashionnet_quick", ("MODEL.RECOGNITION.FROZEN", "True"), base="base"),
    System("oracle", "fashionnet_quick", ("TEST.ORACLE_LANDMARKS", "True"), "base", True),
)
ALL = "category, inshop, consumer2shop"


@pytest.fixture
def commands(monkeypatch, noted_systems):
    """The options of each training and evaluation, and the folders that shall fail; in their place
    are made-up scores: category top-3 is the seed, twice that on a base."""

    def scores(options, benchmark):
        top = float(options["SEED"]) * (1 + ("MODEL.WEIGHTS" in options))
        return {benchmark: {"hit20": 7.0}, "category": {"top3": top}}

    failing = set()
    monkeypatch.setattr(survey, "SYSTEMS", FEW)
    return noted_systems(scores, {"parameters": 9, "learned": 1}, failing), failing


def run(folder, **keys):
    plan = SurveyPlan(**{"systems": ("heads", "oracle"), "seeds": (1, 3), **keys})
    return Survey(folder, plan, folder / "datasets").run()


def test_a_base_is_trained_once_a_seed_and_before(commands, tmp_path):
    ran, _ = commands
    summary = run(tmp_path)
    assert [Path(r["OUTPUT_DIR"]).name for r in ran] == [
        *("base-1", "heads-1", "oracle-1"),
        *("base-3", "heads-3", "oracle-3"),
    ]
    bases = [r.get("MODEL.WEIGHTS") for r in ran]
    own = str(tmp_path / "runs" / "base-1" / "model_final.pth")
    assert bases[:3] == [None, own, own]
    assert run(tmp_path) == summary
    assert len(ran) == 6
    assert json.loads((tmp_path / "survey.json").read_text())["runs"] == summary["runs"]


def test_other_settings_and_another_base_are_refused(commands, tmp_path):
    run(tmp_path)
    with pytest.raises(ValueError, match=r"made with other settings \(SOLVER.MAX_ITER was"):
        run(tmp_path, steps=7)
    (tmp_path / "runs" / "base-1" / "model_final.pth").write_text("trained again")
    with pytest.raises(ValueError, match=r"heads-1 was made with other .*MODEL.WEIGHTS"):
        run(tmp_path)


def test_an_interrupted_survey_goes_on(commands, tmp_path):
    """A row that fails is named, what starts from it too; the rest runs, and later they do."""
    ran, failing = commands
    failing.add("base-1")
    summary = run(tmp_path)
    assert [(f["row"], f["seed"]) for f in summary["failed"]] == [
        ("base", 1),
        ("heads", 1),
        ("oracle", 1),
    ]
    assert "no weights" in summary["failed"][1]["why"]
    assert "Not run to the end: base with seed 1, heads with" in markdown(summary)
    failing.clear()
    del ran[:]
    assert not run(tmp_path)["failed"]
    assert [Path(r["OUTPUT_DIR"]).name for r in ran] == ["base-1", "heads-1", "oracle-1"]


def test_seconds_of_an_interrupted_run_count(commands, tmp_path):
    _, failing = commands
    folder = tmp_path / "runs" / "base-1"
    failing.add("base-1")
    run(tmp_path, seeds=(1,))
    (folder / "seconds.json").write_text("100.0")
    failing.clear()
    assert run(tmp_path, seeds=(1,))["runs"][0]["seconds"] > 100


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([System("a", "x", base="b")], "a needs the weights of 'b', which is no row"),
        ([FEW[0], FEW[2], System("a", "x", base="oracle")], "a needs the weights of 'oracle'"),
        ([System("a", "x", only_scored=True)], "a needs the weights of ''"),
    ],
)
def test_bases_that_are_none(rows, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        SystemRuns(tmp_path, RecognitionSteps("survey", tmp_path), rows)


def test_an_unknown_system(tmp_path):
    with pytest.raises(ValueError, match="no system 'Best'; there are FashionNet"):
        Survey(tmp_path, SurveyPlan(systems=("Best",)), tmp_path)


def made(row, *values, metric="m"):
    return [
        {"row": row, "seed": i, "metrics": {metric: value}} for i, value in enumerate(values, 1)
    ]


@pytest.mark.parametrize(
    ("ours", "theirs", "less", "verdict"),
    [
        ((5, 6, 7), (1, 2, 2), False, "holds"),  # gains 4, 4, 5
        ((5, 6, 7), (1, 2, 2), True, "the other way"),
        ((1, 2, 2), (5, 6, 7), True, "holds"),
        ((5, 6, 7), (1, 7, 2), False, "does not show"),  # one seed against it
        ((2, 2, 9), (1, 1, 1), False, "does not show"),  # gains 1, 1, 8: mean 3.3, spread 4.0
        ((5, 5, 5), (5, 5, 5), False, "does not show"),
        ((5,), (4,), False, "one seed alone"),
        ((), (1,), False, "not measured"),
    ],
)
def test_verdicts(ours, theirs, less, verdict):
    claim = Claim("", "ours", "m", "theirs", less=less)
    assert judge(claim, made("ours", *ours) + made("theirs", *theirs)).verdict == verdict


def test_a_claim_within_a_row():
    runs = [{"row": "a", "seed": 1, "metrics": {"graph": 3.0, "shortlist": 2.0}}]
    assert judge(Claim("", "a", "graph", "a", "shortlist"), runs).gains == [1.0]


def test_only_seeds_that_have_both_count():
    runs = [*made("a", 3, 4), {"row": "b", "seed": 2, "metrics": {"m": 1.0}}]
    assert judge(Claim("", "a", "m", "b"), runs).gains == [3.0]


def test_the_page(commands, monkeypatch, tmp_path):
    name = "deepfashion_category_test/category/top3"
    claim = Claim("heads help", "heads", name, "base")
    monkeypatch.setattr(survey_page, "SYSTEMS", FEW)
    monkeypatch.setattr(systems, "_seconds", lambda run: 5.0)
    monkeypatch.setattr(survey_page, "CLAIMS", (claim,))
    text = markdown(run(tmp_path))
    rows = [line for line in text.splitlines() if line.startswith("| heads")]
    assert rows[0].startswith("| heads | 4.0 ± 2.8 / - | - |")
    assert rows[1].startswith(f"| heads | `fashionnet_quick` | {ALL} | base | 5 ± 0 | 9 | 1 | 2 |")
    expected = "| heads: 4.0 ± 2.8 | base: 2.0 ± 1.4 | 2.0 ± 1.4 (+1.0, +3.0) | **holds** |"
    assert rows[2] == f"| heads help {expected}"
    assert "| DARN (as printed) | 0.36 | 1.11 | 1.52 |" in text
    assert "| in-shop | oracle |" in text


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.slug)
def test_rows_change_keys_that_there_are(system):
    training_settings(config_file(Path(system.config)), (*COMMON, *system.opts))


def test_claims_name_rows():
    known = {system.name for system in SYSTEMS}
    assert {name for claim in CLAIMS for name in (claim.row, claim.against)} <= known
    assert len({system.slug for system in SYSTEMS}) == len(SYSTEMS)
