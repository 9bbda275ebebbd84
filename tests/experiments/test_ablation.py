import json
from itertools import product
from pathlib import Path

import pytest
import torch

from match_rcnn.experiments import ablation
from match_rcnn.experiments.ablation import (
    LOSSES,
    VARIANTS,
    Ablation,
    AblationPlan,
    Setting,
    markdown,
    spread,
)

OPTS = ("SOLVER.GAMMA", "0.3")
#: Variants and losses meet in one row.
ROWS = len(VARIANTS) + len(LOSSES) - 1


def test_the_marginals_share_their_common_row():
    settings = AblationPlan().settings()
    assert len(settings) == len(VARIANTS) + len(LOSSES) - 1
    assert settings.count(Setting("pose+class", "pair_ce")) == 1
    assert {s.features for s in settings} == set(VARIANTS)
    assert {s.loss for s in settings} == set(LOSSES)


def test_the_grid_has_every_cell():
    settings = AblationPlan(grid=True).settings()
    assert sorted(settings) == sorted(product(VARIANTS, LOSSES))


def test_spread_is_the_sample_s_standard_deviation():
    assert spread([10.0, 14.0]) == "12.0 ± 2.8"
    assert spread([10.04]) == "10.0"


def metrics_of(options):
    """A run's figures, told by its options: seed and features."""
    top = 10.0 * len(options["MODEL.ROI_MATCH_HEAD.FEATURES"]) + float(options["SEED"])
    found = {f"{task}/top{k}": top for task in ("retrieval", "retrieval_gt_boxes") for k in (1, 5)}
    return {**found, "retrieval/top20": 50.0, "retrieval_gt_boxes/top20": 60.0, "bbox/AP": 41.0}


@pytest.fixture
def train(monkeypatch):
    """Commands that were run instead of trainings; those whose folder is in ``train.fails`` do
    not finish."""
    ran = []

    class Train(list):
        fails = ()

    commands = Train(ran)

    def tool(self, name, *arguments):
        assert name == "train"
        words = list(arguments[arguments.index("OUTPUT_DIR") :])
        options = dict(zip(words[::2], words[1::2], strict=True))
        folder = Path(options["OUTPUT_DIR"])
        commands.append(options)
        folder.mkdir(parents=True, exist_ok=True)
        if folder.name in commands.fails:
            raise SystemExit("interrupted")
        match_on = options["MODEL.MATCH_ON"] == "True"
        metrics = metrics_of(options) if match_on else {"bbox/AP": 41.0}
        (folder / "metrics.json").write_text(json.dumps(metrics) + "\n")
        (folder / "model_final.pth").touch()

    monkeypatch.setattr(ablation.Steps, "tool", tool)
    rows = [
        {"boxes": "detected", "ranked by": name, "queries": 4, "missed": 1}
        | {f"top{k}": 7.0 for k in (1, 5, 10, 15, 20)}
        for name in ("match network", "chance")
    ]
    monkeypatch.setattr(ablation, "compare", lambda dataset, run: rows)
    monkeypatch.setattr(ablation, "register_deepfashion2", lambda root: None)
    return commands


@pytest.fixture(autouse=True)
def files(tmp_path):
    """A config of no keys, and a data set of one photo."""
    (tmp_path / "quick.yaml").write_text("VERSION: 2\n")
    data = tmp_path / "data" / "deepfashion2"
    for file in ("annotations/train.json", "train/image/000001.jpg"):
        (data / file).parent.mkdir(parents=True)
        (data / file).write_text("1")


def make(tmp_path, **plan):
    return Ablation(tmp_path, tmp_path / "quick.yaml", AblationPlan(**plan), tmp_path / "data")


def test_runs_start_from_one_detector_and_train_the_head_alone(tmp_path, train):
    plan = make(tmp_path, seeds=(1, 2), detector_iterations=70, iterations=9, opts=OPTS)
    summary = plan.run()
    detector, *runs = train
    assert detector["MODEL.MATCH_ON"] == "False"
    assert detector["SOLVER.MAX_ITER"] == "70"
    assert "MODEL.WEIGHTS" not in detector
    assert len(runs) == 2 * ROWS == len(summary["runs"])
    weights = str(tmp_path / "detector" / "model_final.pth")
    assert {run["MODEL.WEIGHTS"] for run in runs} == {weights}
    assert {run["MODEL.ROI_MATCH_HEAD.TRAIN_ALONE"] for run in runs} == {"True"}
    assert {run["SOLVER.MAX_ITER"] for run in runs} == {"9"}
    assert {run["SOLVER.GAMMA"] for run in train} == {"0.3"}
    assert len({run["OUTPUT_DIR"] for run in runs}) == 2 * ROWS
    assert json.loads((tmp_path / "ablation.json").read_text())["runs"] == summary["runs"]
    assert [row["ranked by"] for row in summary["baselines"]] == ["chance"]


def test_joint_runs_need_no_detector(tmp_path, train):
    make(tmp_path, seeds=(1,), joint=True).run()
    assert len(train) == ROWS
    assert all("MODEL.WEIGHTS" not in run for run in train)
    assert all("MODEL.ROI_MATCH_HEAD.TRAIN_ALONE" not in run for run in train)


def test_an_interrupted_ablation_goes_on_where_it_was(tmp_path, train):
    train.fails = ("mask-pair_ce-1",)
    with pytest.raises(SystemExit):
        make(tmp_path, seeds=(1,)).run()
    done = len(train) - 1
    assert len(json.loads((tmp_path / "ablation.json").read_text())["runs"]) == done - 1
    train.fails, before = (), len(train)
    summary = make(tmp_path, seeds=(1,)).run()
    assert len(train) - before == 1 + ROWS - done
    assert len(summary["runs"]) == ROWS


@pytest.mark.parametrize(
    ("plan", "file", "message"),
    [
        ({"iterations": 600}, None, "SOLVER.MAX_ITER was '4', is '600'"),
        ({"opts": OPTS}, None, "SOLVER.GAMMA was '0.1', is '0.3'"),
        ({}, "quick.yaml", "SOLVER.BASE_LR was '0.001', is '0.5'"),
        ({}, "detector/model_final.pth", "MODEL.WEIGHTS was"),
        ({}, "data/deepfashion2/annotations/train.json", "data, train.json was"),
        ({}, "data/deepfashion2/train/image/000001.jpg", "data, photos was"),
    ],
)
def test_runs_of_other_settings_weights_or_data_are_not_reused(
    tmp_path, train, plan, file, message
):
    make(tmp_path, seeds=(1,), iterations=4).run()
    before = len(train)
    if file:
        (tmp_path / file).write_text("SOLVER: {BASE_LR: 0.5}\n")
    with pytest.raises(ValueError, match=message) as raised:
        make(tmp_path, seeds=(1,), **{"iterations": 4, **plan}).run()
    assert "choose another output folder or delete this one" in str(raised.value)
    assert len(train) == before


def test_weights_that_nothing_tells_the_settings_of_are_not_reused(tmp_path, train):
    (tmp_path / "detector").mkdir()
    (tmp_path / "detector" / "model_final.pth").touch()
    with pytest.raises(ValueError, match=r"no made_with\.json says of what"):
        make(tmp_path, seeds=(1,)).run()
    assert not train


def test_a_detector_that_is_given_loses_its_match_head(tmp_path, train):
    state = {"backbone.a": torch.ones(1), "roi_heads.match_head.fc.weight": torch.ones(1)}
    torch.save({"model": state, "iteration": 7}, tmp_path / "given.pth")
    summary = make(tmp_path, seeds=(1,), detector=tmp_path / "given.pth").run()
    kept = torch.load(tmp_path / "detector" / "model_final.pth", weights_only=True)
    assert list(kept["model"]) == ["backbone.a"]
    assert len(train) == ROWS  # no detector was trained
    assert "One detector (`given.pth`, box AP 41.0)" in markdown(summary)
    torch.save({"model": {}}, tmp_path / "given.pth")
    with pytest.raises(ValueError, match="detector was"):
        make(tmp_path, seeds=(1,), detector=tmp_path / "given.pth").run()


def test_the_page_has_mean_and_spread_of_every_row(tmp_path, train):
    page = markdown(make(tmp_path, seeds=(1, 3), iterations=9).run())
    rows = [line for line in page.splitlines() if line.startswith("| ") and "---" not in line]
    # "mask": 4 letters, and seeds 1 and 3.
    cells = "42.0 ± 1.4 | 42.0 ± 1.4 | 50.0 ± 0.0 | 42.0 ± 1.4 | 42.0 ± 1.4 | 60.0 ± 0.0"
    assert f"| mask | `pair_ce` | {cells} | 41.0 ± 0.0 | 2 |" in rows
    assert len(rows) == 1 + len(VARIANTS) + 1 + len(LOSSES)
    assert "box AP 41.0" in page
    assert "9 iterations" in page
    assert "chance" in page


def test_the_page_of_a_joint_grid(tmp_path, train):
    page = markdown(make(tmp_path, seeds=(1,), joint=True, grid=True).run())
    assert page.count("`info_nce`") == len(VARIANTS)
    assert "Every run trains all losses of `quick.yaml`, as long as the config says." in page
