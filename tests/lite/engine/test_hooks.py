import json
import logging

import pytest
import torch
from torch import nn

from match_rcnn.lite.engine import HookBase, SimpleTrainer, TrainerBase, hooks
from match_rcnn.lite.utils.events import JSONWriter, get_event_storage


class Idle(TrainerBase):
    def run_step(self):
        pass


def run(hook_list, iterations, start=0):
    trainer = Idle()
    trainer.register_hooks(hook_list)
    trainer.train(start, iterations)
    return trainer


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


def test_the_error_of_an_earlier_hook_is_the_one_that_is_raised():
    class Fail(HookBase):
        def before_train(self):
            raise RuntimeError("no data")

    with pytest.raises(RuntimeError, match="no data"):
        run([Fail(), hooks.IterationTimer()], 3)


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
    trainer.optimizer = optimizer
    trainer.scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 4)
    trainer.register_hooks(
        [
            hooks.LRScheduler(),
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


def test_learning_rate_is_that_of_the_step():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
    hook = hooks.LRScheduler()

    class Steps(TrainerBase):
        def run_step(self):
            optimizer.step()

    trainer = Steps()
    trainer.optimizer, trainer.scheduler = optimizer, scheduler
    trainer.register_hooks([hook])
    trainer.train(0, 5)
    assert [v for v, _ in trainer.storage.history("lr").values()] == [2.0, 2.0, 1.0, 1.0, 0.5]
    assert trainer.storage.latest_with_smoothing_hint()["lr"] == (0.5, 4)  # not a median
    assert hook.state_dict()["last_epoch"] == 5


def test_the_schedule_is_in_the_checkpoint():
    def trainer():
        made = Idle()
        made.optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        made.scheduler = torch.optim.lr_scheduler.StepLR(made.optimizer, 1)
        made.register_hooks([hooks.LRScheduler()])
        made.optimizer.step()
        return made

    first, resumed = trainer(), trainer()
    first.train(0, 3)
    assert first.scheduler.last_epoch == 3
    resumed.load_state_dict(first.state_dict())
    assert resumed.scheduler.last_epoch == 3


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
    class Fail(HookBase):
        def after_step(self):
            if self.trainer.iter == 2:
                raise RuntimeError

    called = []
    with pytest.raises(RuntimeError):
        run([hooks.EvalHook(0, lambda: called.append(1)), Fail()], 9)
    assert called == []


@pytest.mark.parametrize(
    ("results", "message"),
    [({"a": {"b": "high"}}, "'a/b' is 'high'"), ({"a": None}, "'a' is None"), ([1], "dict")],
)
def test_results_must_be_numbers(results, message):
    with pytest.raises(ValueError, match=message):
        run([hooks.EvalHook(1, lambda: results)], 2)


def test_results_may_be_none():
    assert "a" not in run([hooks.EvalHook(1, lambda: None)], 2).storage.histories()
