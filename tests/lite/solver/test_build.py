import logging
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from match_rcnn.lite.config import get_cfg
from match_rcnn.lite.solver import (
    build_lr_scheduler,
    build_optimizer,
    get_default_optimizer_params,
    maybe_add_gradient_clipping,
)


def solver_cfg(**values):
    cfg = get_cfg()
    for key, value in values.items():
        cfg.SOLVER[key] = value
    return cfg


def schedule(**values):
    """The learning rate of every iteration, and one more."""
    cfg = solver_cfg(**values)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=cfg.SOLVER.BASE_LR)
    scheduler = build_lr_scheduler(cfg, optimizer)
    found = [optimizer.param_groups[0]["lr"]]
    for _ in range(cfg.SOLVER.MAX_ITER):
        optimizer.step()
        scheduler.step()
        found.append(optimizer.param_groups[0]["lr"])
    return found


# Every row's values are what detectron2 02b5c4e2 gives for it (BASE_LR 1, MAX_ITER 10).
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # A step beyond MAX_ITER is dropped; the drop comes exactly at STEPS.
        (
            {"STEPS": (5, 12), "WARMUP_ITERS": 2},
            [0.001, 0.5005, 1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1],
        ),
        ({"STEPS": (), "WARMUP_ITERS": 0}, [1.0] * 11),
        # A warm-up longer than the training ends at the training's last value.
        (
            {"STEPS": (5, 8), "WARMUP_ITERS": 20},
            [0.001, 0.0019, 0.0028, 0.0037, 0.0046, 0.0055, 0.0064, 0.0073, 0.0082, 0.0091, 0.01],
        ),
        (
            {"STEPS": (5, 8), "WARMUP_ITERS": 3, "WARMUP_METHOD": "constant"},
            [0.001, 0.001, 0.001, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01],
        ),
        (
            {"STEPS": (5, 8), "WARMUP_ITERS": 3, "RESCALE_INTERVAL": True},
            [0.001, 0.334, 0.667, 1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01],
        ),
        (
            {"LR_SCHEDULER_NAME": "WarmupCosineLR", "WARMUP_ITERS": 3, "BASE_LR_END": 0.1},
            [
                0.001,
                0.27217,
                0.54334,
                0.8145,
                0.68906,
                0.55,
                0.41094,
                0.2855,
                0.18594,
                0.12202,
                0.1,
            ],
        ),
    ],
)
def test_schedules(settings, expected):
    found = schedule(MAX_ITER=10, BASE_LR=1.0, **settings)
    assert found == pytest.approx(expected, abs=1e-5)


@given(
    warmup=st.integers(1, 60),
    max_iter=st.integers(61, 200),
    steps=st.lists(st.integers(60, 200), max_size=3, unique=True),
)
def test_multi_step_is_warmup_times_drops(warmup, max_iter, steps):
    found = schedule(
        MAX_ITER=max_iter, STEPS=tuple(sorted(steps)), WARMUP_ITERS=warmup, BASE_LR=0.02
    )
    for iteration, lr in enumerate(found[:-1]):
        part = min(iteration / warmup, 1.0)
        factor = 0.001 * (1 - part) + part
        drops = sum(iteration >= step for step in steps)
        assert lr == pytest.approx(0.02 * factor * 0.1**drops, rel=1e-6)


def test_a_step_at_max_iter_is_ignored_and_said(caplog):
    with caplog.at_level(logging.WARNING):
        found = schedule(MAX_ITER=10, STEPS=(10,), WARMUP_ITERS=0, BASE_LR=1.0)
    assert found == [1.0] * 11
    assert "SOLVER.STEPS (10,)" in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"LR_SCHEDULER_NAME": "Cosine"}, "'Cosine'; there are WarmupMultiStepLR"),
        ({"LR_SCHEDULER_NAME": "WarmupCosineLR", "BASE_LR_END": 2.0}, "between 0 and.*got 2.0"),
        ({"WARMUP_METHOD": "exp"}, "'exp'"),
    ],
)
def test_wrong_schedules(settings, message):
    with pytest.raises(ValueError, match=message):
        schedule(MAX_ITER=10, STEPS=(5,), BASE_LR=1.0, **settings)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(2))
        self.conv = nn.Conv2d(2, 2, 1)
        self.bn = nn.BatchNorm1d(2)
        self.frozen = nn.Linear(1, 1).requires_grad_(False)
        self.gn = nn.GroupNorm(1, 2)
        self.head = nn.Linear(2, 2)
        self.again = self.head


def named_groups(model, **settings):
    names = {param: name for name, param in model.named_parameters()}
    return [
        {**group, "params": [names[p] for p in group["params"]]}
        for group in get_default_optimizer_params(model, **settings)
    ]


def test_one_group_when_nothing_differs():
    assert named_groups(Net()) == [
        {
            "params": [
                "scale",
                "conv.weight",
                "conv.bias",
                "bn.weight",
                "bn.bias",
                "gn.weight",
                "gn.bias",
                "head.weight",
                "head.bias",
            ]
        }
    ]


def test_normalisation_layers_have_their_own_decay():
    assert named_groups(Net(), base_lr=1.0, weight_decay=0.1, weight_decay_norm=0.0) == [
        {
            "lr": 1.0,
            "weight_decay": 0.1,
            "params": ["scale", "conv.weight", "conv.bias", "head.weight", "head.bias"],
        },
        {
            "lr": 1.0,
            "weight_decay": 0.0,
            "params": ["bn.weight", "bn.bias", "gn.weight", "gn.bias"],
        },
    ]


def test_every_kind_of_normalisation_counts():
    kinds = [
        nn.BatchNorm1d(2),
        nn.BatchNorm2d(2),
        nn.BatchNorm3d(2),
        nn.SyncBatchNorm(2),
        nn.GroupNorm(1, 2),
        nn.LayerNorm(2),
        nn.InstanceNorm2d(2, affine=True),
    ]
    for kind in kinds:
        (group,) = get_default_optimizer_params(kind, weight_decay_norm=0.0, weight_decay=1.0)
        assert group["weight_decay"] == 0.0, kind


def test_biases_win_over_normalisation():
    groups = named_groups(
        Net(),
        base_lr=1.0,
        weight_decay_norm=0.5,
        bias_lr_factor=2.0,
        weight_decay_bias=0.0,
    )
    assert groups == [
        {"lr": 1.0, "params": ["scale", "conv.weight", "head.weight"]},
        {
            "lr": 2.0,
            "weight_decay": 0.0,
            "params": ["conv.bias", "bn.bias", "gn.bias", "head.bias"],
        },
        {"lr": 1.0, "weight_decay": 0.5, "params": ["bn.weight", "gn.weight"]},
    ]


def test_a_factor_of_nothing():
    with pytest.raises(ValueError, match=r"bias_lr_factor 2.0 of no base_lr"):
        get_default_optimizer_params(Net(), bias_lr_factor=2.0)


def test_sgd_step_by_hand():
    model = nn.Linear(1, 1)
    nn.init.constant_(model.weight, 2.0)
    nn.init.constant_(model.bias, 1.0)
    cfg = solver_cfg(
        BASE_LR=0.1, MOMENTUM=0.5, WEIGHT_DECAY=0.2, WEIGHT_DECAY_BIAS=0.0, BIAS_LR_FACTOR=2.0
    )
    optimizer = build_optimizer(cfg, model)
    for _ in range(2):
        optimizer.zero_grad()
        (3 * model.weight.sum() + model.bias.sum()).backward()
        optimizer.step()
    # weight: d = 3 + 0.2w; w1 = 2 - 0.1*3.4 = 1.66; v = 0.5*3.4 + 3.332 = 5.032; w2 = 1.1568
    assert model.weight.item() == pytest.approx(1.1568)
    # bias: no decay, rate 0.2; b1 = 0.8; v = 1.5; b2 = 0.5
    assert model.bias.item() == pytest.approx(0.5)


def gradients_after_clipping(optimizer_class, clip_type, value, norm_type=2.0):
    cfg = solver_cfg()
    clip = cfg.SOLVER.CLIP_GRADIENTS
    clip.ENABLED, clip.CLIP_TYPE, clip.CLIP_VALUE, clip.NORM_TYPE = (
        True,
        clip_type,
        value,
        norm_type,
    )
    params = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))]
    optimizer = maybe_add_gradient_clipping(cfg, optimizer_class(params, lr=1.0))
    params[0].grad, params[1].grad = torch.tensor([3.0, -4.0]), torch.tensor([0.5])
    optimizer.step()
    return [-p.detach() for p in params]  # plain SGD with rate 1 subtracts the gradient


def test_clipping_by_value():
    first, second = gradients_after_clipping(torch.optim.SGD, "value", 1.0)
    assert first.tolist() == [1.0, -1.0]
    assert second.tolist() == [0.5]


@pytest.mark.parametrize(
    ("norm_type", "expected"), [(2.0, [0.6, -0.8]), (1.0, [3 / 7, -4 / 7]), (math.inf, [0.75, -1])]
)
def test_clipping_by_the_norm_of_each_parameter(norm_type, expected):
    first, second = gradients_after_clipping(torch.optim.SGD, "norm", 1.0, norm_type)
    assert first.tolist() == pytest.approx(expected, abs=1e-5)
    assert second.tolist() == [0.5]  # its own norm is below 1


def test_clipping_an_optimizer_in_place():
    cfg = solver_cfg()
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))])
    assert maybe_add_gradient_clipping(cfg, optimizer) is optimizer
    assert type(optimizer) is torch.optim.AdamW
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    assert maybe_add_gradient_clipping(cfg, optimizer) is optimizer
    assert type(optimizer).__name__ == "AdamWWithGradientClip"
    assert isinstance(optimizer, torch.optim.AdamW)


def test_unknown_clipping_is_refused():
    cfg = solver_cfg()
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = "full_model"
    with pytest.raises(ValueError, match="full_model"):
        maybe_add_gradient_clipping(cfg, torch.optim.SGD([nn.Parameter(torch.zeros(1))]))


def test_overrides_by_name_win_over_all_else():
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    groups = get_default_optimizer_params(
        model,
        base_lr=0.1,
        weight_decay=0.01,
        weight_decay_norm=0.0,
        overrides={"weight": {"weight_decay": 0.5}, "bias": {"lr": 0.2}},
    )
    assert [(g["lr"], g["weight_decay"], len(g["params"])) for g in groups] == [
        (0.1, 0.5, 2),
        (0.2, 0.01, 1),
        (0.2, 0.0, 1),
    ]
