from types import SimpleNamespace

import pytest
import torch
from torch import nn

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.engine.match_alone import KeepStatistics, check_match_alone, train_match_head_alone


class Model(nn.Module):
    def __init__(self, match_on=True):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.roi_heads = nn.Module()
        self.roi_heads.train_only = lambda stream: None
        if match_on:
            self.roi_heads.match_head = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2))

    def forward(self, x):
        return self.roi_heads.match_head(self.backbone(x).mean((2, 3)))


def test_only_the_match_head_changes():
    torch.manual_seed(0)
    model = Model()
    train_match_head_alone(model)
    hook = KeepStatistics()
    hook.trainer = SimpleNamespace(model=model)
    learned = [p for p in model.parameters() if p.requires_grad]
    assert len(learned) == 4
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(learned, lr=0.1)
    for _ in range(2):
        model.train()  # as an evaluation in between leaves it
        hook.before_step()
        loss = model(torch.randn(5, 3, 4, 4)).pow(3).sum()
        loss.backward()
        optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not value.equal(before[name])}
    assert {name.split(".")[0] for name in changed} == {"roi_heads"}
    assert {"roi_heads.match_head.0.weight", "roi_heads.match_head.1.running_mean"} <= changed


def test_a_model_without_match_head_is_refused():
    with pytest.raises(ValueError, match=r"TRAIN_ALONE needs a match head: MODEL\.MATCH_ON"):
        train_match_head_alone(Model(match_on=False))


def test_a_detector_s_weights_are_asked_for():
    cfg = get_match_rcnn_cfg()
    cfg.MODEL.WEIGHTS = ""
    check_match_alone(cfg)
    cfg.MODEL.ROI_MATCH_HEAD.TRAIN_ALONE = True
    with pytest.raises(ValueError, match=r"in MODEL\.WEIGHTS"):
        check_match_alone(cfg)
    cfg.MODEL.WEIGHTS = "detector.pth"
    check_match_alone(cfg)
