"""The rows of docs/fashionnet.md, with commands that are noted and not run."""

import json
from pathlib import Path

import pytest

from match_rcnn.experiments import systems
from match_rcnn.experiments.fashionnet import (
    MARK,
    ORACLE,
    ROWS,
    FashionNetExperiment,
    FashionNetPlan,
    markdown,
    write_markdown,
)
from match_rcnn.experiments.steps import training_settings
from match_rcnn.utils.shipped import config_file

CONFIG = config_file(Path("fashionnet_quick"))
PLAN = FashionNetPlan(rows=("FashionNet", "no landmark pooling"), seeds=(1, 3))


@pytest.fixture
def commands(monkeypatch):
    """The options of each training and evaluation; in their place are made-up scores."""
    ran = []

    def tool(self, name, *arguments):
        assert name == "train"
        words = list(arguments[arguments.index("OUTPUT_DIR") :])
        options = dict(zip(words[::2], words[1::2], strict=True))
        ran.append(options)
        folder = Path(options["OUTPUT_DIR"])
        top = 10.0 * float(options["SEED"])
        oracle = "oracle_" if options.get("TEST.ORACLE_LANDMARKS") else ""
        for name, task in (("category", "category"), ("inshop", "inshop")):
            file = folder / "inference" / f"deepfashion_{name}_test" / "scores.json"
            file.parent.mkdir(parents=True)
            file.write_text(json.dumps({oracle + task: {"top3": top + bool(oracle), "hit20": 7.0}}))
        (folder / "model_final.pth").touch()

    monkeypatch.setattr(systems.RecognitionSteps, "tool", tool)
    monkeypatch.setattr(systems, "parameters", lambda run: {})
    return ran


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


def test_the_page_keeps_what_people_wrote(commands, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"# Mine\n\n{MARK}\nold\n<!-- end of the tables -->\nafter\n")
    write_markdown(page, run(tmp_path))
    text = page.read_text()
    assert text.startswith("# Mine")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| FashionNet |" in text


def test_rows_change_keys_that_there_are():
    plain = training_settings(CONFIG, ())
    changed = {row: training_settings(CONFIG, options) for row, options in ROWS.items()}
    differ = {row: sum(found[k] != plain[k] for k in plain) for row, found in changed.items()}
    assert list(differ.values()) == [0, 1, 2, 4]
