import math

import pytest
import torch
from torch import nn

from match_rcnn.lite.engine import AMPTrainer, HookBase, SimpleTrainer, TrainerBase
from match_rcnn.lite.utils.events import EventStorage, get_event_storage


class Recorder(HookBase):
    """Notes when it was called; keeps a number in the checkpoint."""

    def __init__(self, log, state=None):
        self.log = log
        self.state = state

    def _note(self, event):
        self.log.append((event, self.trainer.iter, self.trainer.storage.iter))

    def before_train(self):
        self._note("before_train")

    def after_train(self):
        self._note("after_train")

    def before_step(self):
        self._note("before_step")

    def after_step(self):
        self._note("after_step")

    def state_dict(self):
        return {} if self.state is None else {"state": self.state}

    def load_state_dict(self, state):
        self.state = state["state"]


class Stepper(TrainerBase):
    def __init__(self, fail_at=None):
        super().__init__()
        self.steps = []
        self.fail_at = fail_at

    def run_step(self):
        if self.iter == self.fail_at:
            raise RuntimeError("step failed")
        assert get_event_storage() is self.storage
        self.steps.append(self.iter)


def test_order_of_hooks_and_iterations():
    log = []
    trainer = Stepper()
    trainer.register_hooks([Recorder(log), None])
    trainer.train(3, 5)
    assert trainer.steps == [3, 4]
    assert trainer.start_iter == 3
    assert log == [
        ("before_train", 3, 3),
        ("before_step", 3, 3),
        ("after_step", 3, 3),
        ("before_step", 4, 4),
        ("after_step", 4, 4),
        ("after_train", 5, 5),
    ]


def test_a_failed_step_ends_with_after_train():
    log = []
    trainer = Stepper(fail_at=1)
    trainer.register_hooks([Recorder(log)])
    with pytest.raises(RuntimeError, match="step failed"):
        trainer.train(0, 5)
    assert log[-1] == ("after_train", 1, 1)


def test_training_of_no_iterations():
    trainer = Stepper()
    trainer.train(5, 5)
    assert trainer.steps == []
    assert trainer.iter == 5


class Other(Recorder):
    pass


def test_state_of_hooks(caplog):
    trainer = Stepper()
    trainer.iter = 8
    assert trainer.state_dict() == {"iteration": 8}
    trainer.register_hooks([Recorder([]), Recorder([], 1), Recorder([], 2), Other([], 3)])
    state = trainer.state_dict()
    # By class name; the first with a state wins.
    assert state == {"iteration": 8, "hooks": {"Recorder": {"state": 1}, "Other": {"state": 3}}}

    resumed, hook = Stepper(), Recorder([])
    resumed.register_hooks([hook])
    resumed.load_state_dict(state)
    assert resumed.iter == 8
    assert hook.state == 1
    assert "No hook 'Other'" in caplog.text


def test_simple_step_by_hand(line):
    model = line(weight=1.0)
    trainer = SimpleTrainer(
        model, iter([torch.tensor([[2.0]])]), torch.optim.SGD(model.parameters(), lr=0.1)
    )
    trainer.train(0, 1)
    # error = 1*2 - 3*2 = -4: losses 16 and 4; d/dw = 2*(-4)*2 - 2 = -18, d/db = -8 - 1 = -9.
    assert model.layer.weight.item() == pytest.approx(2.8)
    assert model.layer.bias.item() == pytest.approx(0.9)
    latest = {name: value for name, (value, _) in trainer.storage.latest().items()}
    assert latest.pop("data_time") == latest.pop("rank_data_time") >= 0
    assert latest == {"total_loss": 20.0, "loss_square": 16.0, "loss_absolute": 4.0}


class Single(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, batch):
        return self.weight * batch


def test_one_loss_and_fresh_gradients():
    model = Single()
    trainer = SimpleTrainer(
        model,
        iter([torch.tensor(1.0), torch.tensor(1.0)]),
        torch.optim.SGD(model.parameters(), lr=0.5),
    )
    trainer.train(0, 2)
    assert model.weight.item() == 1.0  # 2 - 0.5 - 0.5
    assert [v for v, _ in trainer.storage.history("total_loss").values()] == [2.0, 1.5]


def test_metrics_are_written_every_period(line, batches):
    model = line()
    trainer = SimpleTrainer(
        model,
        batches(),
        torch.optim.SGD(model.parameters(), lr=0.1),
        gather_metric_period=3,
    )
    trainer.train(0, 10)
    for name in ("total_loss", "loss_square", "data_time"):
        assert [i for _, i in trainer.storage.history(name).values()] == [2, 5, 8]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_training(value):
    model = Single()
    trainer = SimpleTrainer(
        model,
        iter([torch.tensor(1.0), torch.tensor(value), torch.tensor(1.0)]),
        torch.optim.SGD(model.parameters(), lr=0.5),
    )
    with pytest.raises(FloatingPointError, match=rf"iteration 1 .* not finite.*{value}"):
        trainer.train(0, 3)
    # It never reached the weights.
    assert model.weight.item() == 1.5


def test_loader_starts_late_and_once():
    made = []

    class Loader:
        def __iter__(self):
            made.append(1)
            return iter([torch.tensor(1.0)] * 5)

    model = Single()
    trainer = SimpleTrainer(model, Loader(), torch.optim.SGD(model.parameters(), lr=0.1))
    assert made == []
    trainer.train(0, 2)
    trainer.train(2, 4)
    assert made == [1]


def test_a_model_left_in_evaluation_is_noticed(line, batches):
    model = line()
    trainer = SimpleTrainer(model, batches(), torch.optim.SGD(model.parameters(), lr=0.1))
    model.eval()
    with pytest.raises(AssertionError, match="switched to evaluation"):
        trainer.train(0, 1)


def test_after_backward_sees_the_gradients(line, batches):
    seen = []

    class Gradients(HookBase):
        def after_backward(self):
            seen.append(self.trainer.model.layer.weight.grad.item())

    model = line()
    trainer = SimpleTrainer(model, batches(), torch.optim.SGD(model.parameters(), lr=0.0))
    trainer.register_hooks([Gradients()])
    trainer.train(0, 2)
    assert len(seen) == 2
    assert all(gradient < 0 for gradient in seen)


def test_resumed_is_uninterrupted(line, batches):
    def trainer(start):
        model = line()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        return SimpleTrainer(model, batches(start), optimizer)

    whole = trainer(0)
    whole.train(0, 9)

    first = trainer(0)
    first.train(0, 4)
    first.iter = 3  # as in a checkpoint after the last step
    second = trainer(4)
    second.model.load_state_dict(first.model.state_dict())
    second.load_state_dict(first.state_dict())
    second.train(second.iter + 1, 9)
    for one, other in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_amp_forward_is_in_low_precision(line, batches):
    seen = []

    class Spy(type(line())):
        def forward(self, batch):
            seen.append(self.layer(batch).dtype)
            return super().forward(batch)

    model = Spy()
    trainer = AMPTrainer(model, batches(), torch.optim.SGD(model.parameters(), lr=0.1))
    trainer.train(0, 1)
    assert seen == [torch.bfloat16]
    assert model.layer.weight.dtype == torch.float32
    assert model.layer.weight.item() > 0.0


def test_amp_scales_float16_and_unscales_its_gradients():
    model = Single()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    trainer = AMPTrainer(
        model,
        iter([torch.tensor(1.0), torch.tensor(math.inf)]),
        torch.optim.SGD(model.parameters(), lr=0.5),
        grad_scaler=scaler,
        precision=torch.float16,
    )
    trainer.train(0, 1)
    assert model.weight.item() == 1.5
    assert trainer.state_dict()["grad_scaler"]["scale"] == 1024.0


def test_amp_state_round_trip(line, batches):
    def trainer(precision, scale=None):
        model = line()
        scaler = None if scale is None else torch.amp.GradScaler("cpu", init_scale=scale)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        return AMPTrainer(model, batches(), optimizer, grad_scaler=scaler, precision=precision)

    half = trainer(torch.float16, scale=64.0)
    with EventStorage():
        half.run_step()  # a scale is there after the first step
    other = trainer(torch.float16)
    other.load_state_dict(half.state_dict())
    assert other.grad_scaler.get_scale() == 64.0
    # A bfloat16 checkpoint has no scale, and leaves the one that is there.
    half.load_state_dict(trainer(torch.bfloat16).state_dict())
    assert half.grad_scaler.get_scale() == 64.0


def test_amp_refuses_data_parallel(line, batches):
    model = nn.DataParallel(line())
    with pytest.raises(ValueError, match="one process a GPU"):
        AMPTrainer(model, batches(), torch.optim.SGD(model.parameters(), lr=0.1))
