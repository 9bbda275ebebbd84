"""``kill -9`` costs the iterations since the last checkpoint, and nothing else."""

import json

import pytest

# Everything that has a state, a checkpoint every other iteration, an evaluation every third.
OPTS = (
    *("SOLVER.MAX_ITER", 10, "SOLVER.CHECKPOINT_PERIOD", 2, "TEST.EVAL_PERIOD", 3),
    *("MODEL_EMA.ENABLED", True, "MODEL_EMA.DECAY", 0.5, "SOLVER.ACCUMULATION_STEPS", 2),
    *("SOLVER.MOMENTUM", 0.5, "DATALOADER.NUM_WORKERS", 0),
)
KILLED = -9


@pytest.fixture(scope="module")
def whole(run_tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert run_tiny(folder, *OPTS).code == 0
    return folder


@pytest.mark.parametrize(
    ("faults", "done", "resumed_at", "evaluated_anew"),
    [
        # done: iterations that had ended; the evaluations after 3, 6, 9 and 10 of them.
        pytest.param("kill=5", 5, 4, 3, id="in a step"),
        pytest.param("break=kill:model_0000005:1", 6, 4, 3, id="writing a checkpoint"),
        pytest.param("break=kill:last_checkpoint:4", 6, 4, 3, id="naming a checkpoint"),
        pytest.param("break=kill:model_best:1", 3, 3, 4, id="writing the best checkpoint"),
        pytest.param("kill_in_evaluation=5", 6, 6, 3, id="in an evaluation"),
        pytest.param("break=kill:model_final:1", 10, 10, 1, id="writing the last checkpoint"),
    ],
)
def test_a_killed_run_goes_on_as_if_nothing_had_been(
    run, whole, load, evaluations, assert_equal, tmp_path, faults, done, resumed_at, evaluated_anew
):
    folder = tmp_path / "run"
    assert run(folder, *OPTS, faults=faults).code == KILLED
    last = (folder / "last_checkpoint").read_text()
    assert load(folder, last.removesuffix(".pth"))["iteration"] == resumed_at - 1
    before = len((folder / "evaluated.txt").read_text().split()) if resumed_at > 3 else 0

    resumed = run(folder, *OPTS, resume=True)
    assert resumed.code == 0, resumed.log
    assert resumed.start == resumed_at
    assert 0 <= done - resumed_at <= 2
    if before:
        after = len((folder / "evaluated.txt").read_text().split())
        assert after - before == evaluated_anew
    for name in ("model_final", "model_best", "model_ema"):
        assert_equal(load(folder, name), load(whole, name))
    assert evaluations(folder) == evaluations(whole)
    assert [e["iteration"] for e in evaluations(folder)] == [2, 5, 8, 9]
    assert not list(folder.glob(".*")), "leftovers of the killed process"


def test_killed_again_and_again(run, whole, load, evaluations, assert_equal, tmp_path):
    folder = tmp_path / "run"
    starts = []
    for i, faults in enumerate(["kill=1", "kill=3", "break=kill:model_0000005:1", "kill=8", ""]):
        ended = run(folder, *OPTS, faults=faults, resume=i > 0)
        starts.append(ended.start)
        assert ended.code == (KILLED if faults else 0)
    assert starts == [0, 0, 3, 4, 8]
    assert_equal(load(folder), load(whole))
    assert evaluations(folder) == evaluations(whole)
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    assert [line["iteration"] for line in lines if "total_loss" in line] == list(range(10))


def test_what_a_checkpoint_restores(load, whole):
    """The comparisons above are of these."""
    state = load(whole)
    assert state.keys() == {"model", "trainer", "iteration", "taxonomy"}
    trainer = state["trainer"]
    assert trainer["iteration"] == 9
    assert trainer["hooks"].keys() == {"DeterministicSteps", "LRScheduler", "WeightAverage"}
    assert trainer["hooks"]["WeightAverage"]["n_averaged"] == 10
    assert trainer["_trainer"]["optimizer"]["state"]
    best = load(whole, "model_best")["best"]
    assert best["name"] == "bbox/AP"


def test_the_best_before_a_resume_is_not_forgotten(run, load, tmp_path):
    folder = tmp_path / "run"
    opts = ("TEST.EVAL_PERIOD", 2)
    metrics = "metrics=1,5,3,2,4"
    assert run(folder, *opts, faults=f"{metrics} kill=5").code == KILLED
    assert load(folder, "model_best")["best"]["iteration"] == 3
    assert run(folder, *opts, faults=metrics, resume=True).code == 0
    assert load(folder, "model_best")["best"] == {"name": "bbox/AP", "value": 5.0, "iteration": 3}


def test_a_run_from_the_start_forgets_the_evaluations_of_the_one_before(
    run, load, evaluations, tmp_path
):
    folder = tmp_path / "run"
    opts = ("TEST.EVAL_PERIOD", 2, "SOLVER.MAX_ITER", 4)
    run(folder, *opts, faults="metrics=9,8")
    run(folder, *opts, faults="metrics=1,2")
    assert [e["metrics"]["bbox/AP"] for e in evaluations(folder)] == [1, 2]
    assert load(folder, "model_best")["best"]["value"] == 2


@pytest.mark.parametrize("resumed", [False, True])
def test_training_stops_when_the_metric_gets_no_better(run, load, tmp_path, resumed):
    folder = tmp_path / "run"
    opts = ("TEST.EVAL_PERIOD", 2, "TEST.EARLY_STOP_PATIENCE", 2, "SOLVER.MAX_ITER", 20)
    metrics = "metrics=1,5,3,4,9,9,9,9,9,9"
    if resumed:  # the evaluations before the kill count
        assert run(folder, *opts, faults=f"{metrics} kill=6").code == KILLED
    ended = run(folder, *opts, faults=metrics, resume=resumed)
    assert ended.code == 0
    assert "bbox/AP did not get better in the last 2 evaluations" in ended.log
    assert load(folder)["iteration"] == 7
    again = run(folder, *opts, faults=metrics, resume=True)
    assert again.code == 0
    assert "Training had stopped: bbox/AP" in again.log
    assert load(folder)["iteration"] == 7


def test_old_checkpoints_make_room(run, tmp_path):
    folder = tmp_path / "run"
    opts = ("SOLVER.CHECKPOINTS_KEPT", 2)
    assert run(folder, *opts, faults="kill=7").code == KILLED
    assert run(folder, *opts, resume=True).code == 0
    names = {path.name for path in folder.glob("*.pth")}
    assert names == {"model_0000007.pth", "model_0000009.pth", "model_final.pth"}
