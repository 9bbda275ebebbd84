import pytest
import torch
from fvcore.common.param_scheduler import (
    ConstantParamScheduler,
    CosineParamScheduler,
    LinearParamScheduler,
    MultiStepParamScheduler,
)
from torch import nn

from match_rcnn.lite.solver import LRMultiplier, WarmupParamScheduler


def rates(multiplier, max_iter, base_lr=1.0):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=base_lr)
    scheduler = LRMultiplier(optimizer, multiplier, max_iter)
    found = []
    for _ in range(max_iter):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_linear_warmup_rises_to_the_value_that_follows():
    # A schedule that falls from 1 to 0 in 10 steps; the warm-up meets it after 4, at 0.6.
    warmup = WarmupParamScheduler(LinearParamScheduler(1.0, 0.0), 0.2, 0.4)
    expected = [0.2, 0.3, 0.4, 0.5, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
    assert rates(warmup, 10) == pytest.approx(expected)


def test_rescaled_schedule_begins_after_the_warmup():
    warmup = WarmupParamScheduler(
        LinearParamScheduler(1.0, 0.0), 0.2, 0.5, "linear", rescale_interval=True
    )
    # Up to the first value in 4 steps, then all of the schedule in the other 4.
    assert rates(warmup, 8) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 0.75, 0.5, 0.25])


def test_constant_warmup_jumps():
    warmup = WarmupParamScheduler(LinearParamScheduler(1.0, 1.0), 0.1, 0.3, "constant")
    assert rates(warmup, 10, base_lr=2.0) == pytest.approx([0.2] * 3 + [2.0] * 7)


def test_unknown_warmup_names_what_there_is():
    with pytest.raises(ValueError, match=r"'quadratic'.*'linear' or 'constant'"):
        WarmupParamScheduler(ConstantParamScheduler(1.0), 0.1, 0.3, "quadratic")


def test_multiplier_keeps_the_ratio_between_groups():
    params = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": params[:1], "lr": 4.0}, {"params": params[1:]}], lr=1.0)
    drop = MultiStepParamScheduler([1.0, 0.5], milestones=[2], num_updates=4)
    scheduler = LRMultiplier(optimizer, drop, 4)
    optimizer.step()
    scheduler.step()
    assert [g["lr"] for g in optimizer.param_groups] == [4.0, 1.0]
    scheduler.step()
    assert [g["lr"] for g in optimizer.param_groups] == [2.0, 0.5]


def test_multiplier_must_be_a_param_scheduler():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(ValueError, match="ParamScheduler, got float"):
        LRMultiplier(optimizer, 0.5, 10)


def test_state_is_the_iteration_and_base_rates_alone():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=3.0)
    scheduler = LRMultiplier(optimizer, CosineParamScheduler(1.0, 0.0), 10)
    for _ in range(5):
        optimizer.step()
        scheduler.step()
    assert scheduler.state_dict() == {"base_lrs": [3.0], "last_epoch": 5}

    # Resumed, the optimizer has the rate of its checkpoint; the next step sets it anew.
    fresh = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=3.0)
    resumed = LRMultiplier(fresh, CosineParamScheduler(1.0, 0.0), 10)
    resumed.load_state_dict(scheduler.state_dict())
    fresh.load_state_dict(optimizer.state_dict())
    for each, its in ((optimizer, scheduler), (fresh, resumed)):
        each.step()
        its.step()
    assert fresh.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
