import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import DefaultTrainer
from match_rcnn.engine import MatchRCNNTrainer


@pytest.fixture
def model():
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm1d(4))


def decays(optimizer):
    return {group["weight_decay"] for group in optimizer.param_groups}


@pytest.mark.parametrize(("name", "kind"), [("SGD", torch.optim.SGD), ("AdamW", torch.optim.AdamW)])
def test_optimizers_leave_normalisation_layers_without_decay(model, name, kind):
    cfg = get_match_rcnn_cfg()
    cfg.SOLVER.OPTIMIZER = name
    cfg.SOLVER.WEIGHT_DECAY = 0.25
    optimizer = MatchRCNNTrainer.build_optimizer(cfg, model)
    assert isinstance(optimizer, kind)
    assert decays(optimizer) == {0.0, 0.25}
    undecayed = {
        id(p) for g in optimizer.param_groups if g["weight_decay"] == 0 for p in g["params"]
    }
    assert undecayed == {id(p) for layer in model[1:] for p in layer.parameters()}


def clipping_optimizer(model):
    """SGD with a rate of 1 that clips values at 0.5."""
    cfg = get_match_rcnn_cfg()
    cfg.SOLVER.BASE_LR, cfg.SOLVER.MOMENTUM, cfg.SOLVER.WEIGHT_DECAY = 1.0, 0.0, 0.0
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = 0.5
    return MatchRCNNTrainer.build_optimizer(cfg, model)


def test_gradient_clipping_reaches_the_optimizer(model):
    optimizer = clipping_optimizer(model)
    weight = model[0].weight
    before = weight.detach().clone()
    for parameter in model.parameters():  # upstream's clipping by value wants them all
        parameter.grad = torch.full_like(parameter, 7.0)
    optimizer.step()
    assert torch.allclose(before - weight, torch.full_like(weight, 0.5))


def test_clipping_sees_gradients_without_the_scale_of_float16(model):
    optimizer = clipping_optimizer(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    weight = model[0].weight
    before = weight.detach().clone()
    scaler.scale(sum(7 * p.sum() for p in model.parameters())).backward()
    scaler.step(optimizer)
    assert torch.allclose(before - weight, torch.full_like(weight, 0.5))
    weight.grad.fill_(float("inf"))
    scaler.update()
    scaler.step(optimizer)
    assert torch.allclose(before - weight, torch.full_like(weight, 0.5))  # skipped


@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
def test_the_fused_optimizer_gives_the_plain_one_s_bits(kind):
    cfg = get_match_rcnn_cfg()
    cfg.SOLVER.OPTIMIZER = kind
    torch.manual_seed(0)
    fused_model = nn.Linear(40, 30)
    plain_model = copy.deepcopy(fused_model)
    fused = MatchRCNNTrainer.build_optimizer(cfg, fused_model)
    assert all(group["fused"] for group in fused.param_groups)
    options = {"lr": cfg.SOLVER.BASE_LR, "weight_decay": cfg.SOLVER.WEIGHT_DECAY}
    if kind == "SGD":
        plain = torch.optim.SGD(plain_model.parameters(), momentum=cfg.SOLVER.MOMENTUM, **options)
    else:
        plain = torch.optim.AdamW(plain_model.parameters(), **options)
    for _ in range(4):
        for a, b in zip(fused_model.parameters(), plain_model.parameters(), strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        fused.step()
        plain.step()
    tolerance = {"rtol": 0, "atol": 0} if kind == "SGD" else {"rtol": 1e-6, "atol": 1e-7}
    torch.testing.assert_close(fused_model.weight, plain_model.weight, **tolerance)


def test_an_unknown_optimizer_is_named(model):
    cfg = get_match_rcnn_cfg()
    cfg.SOLVER.OPTIMIZER = "Adagrad"
    with pytest.raises(ValueError, match="'SGD' or 'AdamW', got 'Adagrad'"):
        MatchRCNNTrainer.build_optimizer(cfg, model)


def test_checkpoints_of_detectron2_0_6_hold_the_optimizer_too(monkeypatch):
    """Its DefaultTrainer has neither method and leaves the inner trainer's state out."""
    for name in ("state_dict", "load_state_dict"):
        monkeypatch.delattr(DefaultTrainer, name, raising=False)
    taken = []
    trainer = MatchRCNNTrainer.__new__(MatchRCNNTrainer)
    trainer._hooks, trainer.iter = [], 4
    trainer._trainer = SimpleNamespace(
        state_dict=lambda: {"optimizer": 7}, load_state_dict=taken.append
    )
    state = trainer.state_dict()
    assert state == {"iteration": 4, "_trainer": {"optimizer": 7}}
    trainer.load_state_dict({**state, "iteration": 5})
    assert taken == [{"optimizer": 7}]
    assert trainer.iter == 5
