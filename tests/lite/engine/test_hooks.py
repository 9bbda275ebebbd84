import json
import logging
import math

import pytest
import torch
from fvcore.common.param_scheduler import MultiStepParamScheduler
from torch import nn

from match_rcnn.lite.checkpoint import DetectionCheckpointer
from match_rcnn.lite.engine import SimpleTrainer, TrainerBase, hooks
from match_rcnn.lite.utils.events import EventStorage, JSONWriter, get_event_storage


class Idle(TrainerBase):
    def run_step(self):
        pass


def run(hook_list, iterations, start=0):
    trainer = Idle()
    trainer.register_hooks(hook_list)
    trainer.train(start, iterations)
    return trainer


def test_callbacks_get_the_trainer():
    seen = []
    trainer = run(
        [
            hooks.CallbackHook(
                before_train=lambda t: seen.append(("start", t.iter)),
                after_step=lambda t: seen.append(("step", t.iter)),
            ),
            hooks.CallbackHook(after_train=lambda t: seen.append(("end", t.iter))),
            hooks.CallbackHook(before_step=lambda t: None),
        ],
        2,
    )
    assert seen == [("start", 0), ("step", 0), ("step", 1), ("end", 2)]
    assert trainer._hooks[1]._after_train is None


def test_timer_leaves_out_the_warmup(caplog):
    with caplog.at_level(logging.INFO):
        trainer = run([hooks.IterationTimer(warmup_iter=3)], 10, start=4)
    assert [i for _, i in trainer.storage.history("time").values()] == [6, 7, 8, 9]
    assert "Overall training speed: 4 iterations" in caplog.text


def test_timer_survives_a_run_that_is_too_short(caplog):
    with caplog.at_level(logging.INFO):
        run([hooks.IterationTimer()], 1)
    assert "Overall" not in caplog.text
    assert "Total training time: 0:00:00" in caplog.text


class Writer:
    def __init__(self):
        self.written = []

    def write(self):
        self.written.append(get_event_storage().iter)

    def close(self):
        self.written.append("closed")


@pytest.mark.parametrize(
    ("iterations", "expected"),
    [
        (10, [3, 7, 9, 10, "closed"]),  # every fourth, the last, and what came after
        (8, [3, 7, 8, "closed"]),
        (0, [0, "closed"]),
    ],
)
def test_writers_write_every_period_and_at_the_end(iterations, expected):
    writer = Writer()
    run([hooks.PeriodicWriter([writer], period=4)], iterations)
    assert writer.written == expected


def test_metrics_file(tmp_path, line, batches):
    path = tmp_path / "metrics.json"
    model = line()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    trainer = SimpleTrainer(model, batches(), optimizer)
    drop = MultiStepParamScheduler([1.0, 0.1], milestones=[4], num_updates=6)
    trainer.register_hooks(
        [
            hooks.LRScheduler(optimizer, drop),
            hooks.EvalHook(0, lambda: {"bbox": {"AP": 50}}),
            hooks.PeriodicWriter([JSONWriter(str(path))], period=3),
        ]
    )
    trainer.train(0, 6)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["iteration"] for row in lines] == [2, 5, 6]
    assert [row.get("lr") for row in lines] == [0.5, 0.05, None]
    assert lines[2] == {"iteration": 6, "bbox/AP": 50.0}
    losses = [v for v, _ in trainer.storage.history("total_loss").values()]
    assert lines[0]["total_loss"] == sorted(losses[:3])[1]  # the median


class Checkpoints:
    save_dir = ""
    path_manager = None

    def __init__(self):
        self.saved = []

    def save(self, name, **extra):
        self.saved.append((name, extra))


def test_periodic_checkpoints():
    checkpoints = Checkpoints()
    run([hooks.PeriodicCheckpointer(checkpoints, 4)], 10)
    assert checkpoints.saved == [
        ("model_0000003", {"iteration": 3}),
        ("model_0000007", {"iteration": 7}),
        ("model_final", {"iteration": 9}),
    ]


@pytest.mark.parametrize(
    ("mode", "values", "saved"),
    [
        ("max", [0.3, 0.4, 0.35, 0.5], [9, 19, 40]),
        ("min", [1.0, 0.8, 0.9, 0.9], [9, 19]),
        ("max", [math.nan, 0.1, math.inf, 0.1], [19]),
        ("min", [-math.inf, math.nan, math.nan, math.nan], []),
    ],
)
def test_best_checkpoint(mode, values, saved):
    checkpoints, results = Checkpoints(), iter(values)
    run(
        [
            hooks.EvalHook(10, lambda: {"bbox": {"AP": next(results)}}),
            hooks.BestCheckpointer(10, checkpoints, "bbox/AP", mode, "best"),
        ],
        40,
    )
    assert [(name, extra["iteration"]) for name, extra in checkpoints.saved] == [
        ("best", iteration) for iteration in saved
    ]


def test_best_checkpoint_needs_its_metric(caplog):
    checkpoints = Checkpoints()
    run([hooks.BestCheckpointer(2, checkpoints, "bbox/AP")], 3)
    assert checkpoints.saved == []
    assert caplog.text.count("'bbox/AP' was not found") == 2
    with pytest.raises(ValueError, match="'best'"):
        hooks.BestCheckpointer(2, checkpoints, "bbox/AP", mode="best")


def test_best_checkpoint_is_remembered_over_a_resume(tmp_path):
    def train(values, start, end, metric="AP"):
        checkpointer = DetectionCheckpointer(nn.Linear(1, 1), str(tmp_path))
        best = hooks.BestCheckpointer(1, checkpointer, metric)
        results = iter(values)
        run([hooks.EvalHook(1, lambda: {metric: next(results)}), best], end, start=start)
        return best.best_metric, best.best_iter

    assert train([0.5, 0.6], 0, 2) == (0.6, 2)
    before = (tmp_path / "model_best.pth").read_bytes()
    assert train([0.55, 0.4], 2, 4) == (0.6, 2)
    assert (tmp_path / "model_best.pth").read_bytes() == before
    assert train([0.7], 4, 5) == (0.7, 5)
    # A run from the start, and another metric, do not compare with what is there.
    assert train([0.1], 0, 1) == (0.1, 1)
    assert train([0.05], 1, 2, metric="AR") == (0.05, 2)


def test_learning_rate_is_that_of_the_step():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
    hook = hooks.LRScheduler(optimizer, scheduler)

    class Steps(TrainerBase):
        def run_step(self):
            optimizer.step()

    trainer = Steps()
    trainer.register_hooks([hook])
    trainer.train(0, 5)
    assert [v for v, _ in trainer.storage.history("lr").values()] == [2.0, 2.0, 1.0, 1.0, 0.5]
    assert not trainer.storage.smoothing_hints()["lr"]
    assert hook.state_dict()["last_epoch"] == 5


def test_scheduler_of_the_trainer_is_the_default():
    trainer = Idle()
    trainer.optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    trainer.scheduler = torch.optim.lr_scheduler.StepLR(trainer.optimizer, 1)
    hook = hooks.LRScheduler()
    trainer.register_hooks([hook])
    trainer.optimizer.step()
    trainer.train(0, 3)
    assert trainer.scheduler.last_epoch == 3
    fresh = hooks.LRScheduler(scheduler=torch.optim.lr_scheduler.StepLR(trainer.optimizer, 1))
    fresh.load_state_dict(hook.state_dict())
    assert fresh.scheduler.last_epoch == 3


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ([(1, 1.0), (3, 2.0), (2, 3.0)], 1),  # the largest
        ([(1, 1.0), (1, 2.0), (1, 2.0)], 1),  # all of one: the most frequent rate
        ([(1, 1.0)], 0),
    ],
)
def test_group_whose_rate_is_shown(groups, expected):
    optimizer = torch.optim.SGD(
        [{"params": [nn.Parameter(torch.zeros(1)) for _ in range(n)], "lr": lr} for n, lr in groups]
    )
    assert hooks.LRScheduler.get_best_param_group_id(optimizer) == expected


@pytest.mark.parametrize(
    ("iterations", "period", "after_train", "expected"),
    [
        (30, 15, True, [14, 30]),  # the last one belongs to the end of training
        (31, 15, True, [14, 29, 31]),
        (20, 0, True, [20]),
        (30, 15, False, [14]),
    ],
)
def test_when_to_evaluate(iterations, period, after_train, expected):
    trainer = run([hooks.EvalHook(period, lambda: {"a": {"b": 1}}, after_train)], iterations)
    assert [i for _, i in trainer.storage.history("a/b").values()] == expected


def test_no_evaluation_after_a_failure():
    def fail(trainer):
        if trainer.iter == 2:
            raise RuntimeError

    called = []
    with pytest.raises(RuntimeError):
        run([hooks.EvalHook(0, lambda: called.append(1)), hooks.CallbackHook(after_step=fail)], 9)
    assert called == []


@pytest.mark.parametrize(
    ("results", "message"),
    [({"a": {"b": "high"}}, "Got 'a/b: high'"), ({"a": None}, "Got 'a: None'"), ([1], "dict")],
)
def test_results_must_be_numbers(results, message):
    with pytest.raises(ValueError, match=message):
        run([hooks.EvalHook(1, lambda: results)], 2)


def test_results_may_be_none():
    assert "a" not in run([hooks.EvalHook(1, lambda: None)], 2).storage.histories()


class Reporting(nn.Module):
    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm1d(1)

    def forward(self, batch):
        get_event_storage().put_scalar("seen", 1.0)
        return self.bn(batch)


def test_precise_bn_averages_over_batches():
    model = Reporting().train()
    data = [torch.tensor([[0.0], [2.0]]), torch.tensor([[10.0], [16.0]])]
    hook = hooks.PreciseBN(0, model, data, num_iter=2)
    trainer = run([hook], 3)
    # The mean of the batches' means 1 and 13; ((0-7)^2 + (2-7)^2 + (10-7)^2 + (16-7)^2) / 4 = 41.
    assert model.bn.running_mean.item() == pytest.approx(7.0)
    assert model.bn.running_var.item() == pytest.approx(41.0)
    assert "seen" not in trainer.storage.histories()


def test_precise_bn_without_bn_does_nothing():
    hook = hooks.PreciseBN(1, nn.Linear(1, 1), iter(()), num_iter=2)
    with EventStorage():
        hook.update_stats()


def test_profiler_writes_a_trace_of_the_chosen_step(tmp_path):
    hook = hooks.TorchProfiler(
        lambda t: t.iter == 1, str(tmp_path), activities=[torch.profiler.ProfilerActivity.CPU]
    )
    run([hook], 3)
    assert [p.name for p in tmp_path.iterdir()] == ["profiler-trace-iter1.json"]
