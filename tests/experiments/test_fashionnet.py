"""The rows of docs/fashionnet.md, with commands that are noted and not run."""

import json
from pathlib import Path

import pytest

from match_rcnn.experiments.fashionnet import (
    ORACLE,
    ROWS,
    FashionNetExperiment,
    FashionNetPlan,
    markdown,
)
from match_rcnn.experiments.steps import training_settings
from match_rcnn.utils.shipped import config_file

CONFIG = config_file(Path("fashionnet_quick"))
PLAN = FashionNetPlan(rows=("FashionNet", "no landmark pooling"), seeds=(1, 3))


@pytest.fixture
def commands(noted_systems):
    """The options of each training and evaluation; in their place are made-up scores."""

    def scores(options, benchmark):
        oracle = "oracle_" if options.get("TEST.ORACLE_LANDMARKS") else ""
        top = 10.0 * float(options["SEED"]) + bool(oracle)
        return {f"{oracle}{benchmark}": {"top3": top, "hit20": 7.0}}

    return noted_systems(scores, {})


def run(folder, plan=PLAN):
    return FashionNetExperiment(folder, CONFIG, plan, folder / "datasets").run()


def test_each_row_and_seed_is_run_once_and_reused(commands, tmp_path):
    summary = run(tmp_path)
    assert len(commands) == 2 * (2 + 1)  # the oracle is an evaluation more
    assert [command["SEED"] for command in commands] == ["1"] * 3 + ["3"] * 3
    assert run(tmp_path) == summary
    assert len(commands) == 6
    assert summary == json.loads((tmp_path / "fashionnet.json").read_text()) | {
        "plan": summary["plan"]
    }


def test_a_run_of_other_settings_is_refused(commands, tmp_path):
    run(tmp_path)
    other = FashionNetPlan(rows=PLAN.rows, seeds=PLAN.seeds, opts=("SOLVER.MAX_ITER", "7"))
    with pytest.raises(ValueError, match=r"made with other settings \(SOLVER.MAX_ITER was '540'"):
        run(tmp_path, other)


def test_an_unknown_row(tmp_path):
    with pytest.raises(ValueError, match=r"--rows must be of FashionNet, .*; got Best"):
        run(tmp_path, FashionNetPlan(rows=("Best",)))


def test_the_table(commands, tmp_path):
    text = markdown(run(tmp_path))
    rows = {line.split(" | ")[0]: line for line in text.splitlines() if line.startswith("| ")}
    assert rows["| FashionNet"] == "| FashionNet | - | 20.0 ± 14.1 | - | - | - | 7.0 ± 0.0 | 2 |"
    assert "21.0 ± 14.1" in rows[f"| FashionNet{ORACLE}"]
    assert "over the seeds 1, 3" in text


def test_rows_change_keys_that_there_are():
    plain = training_settings(CONFIG, ())
    changed = {row: training_settings(CONFIG, options) for row, options in ROWS.items()}
    differ = {row: sum(found[k] != plain[k] for k in plain) for row, found in changed.items()}
    assert list(differ.values()) == [0, 1, 2, 4]
