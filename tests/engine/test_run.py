import pytest
import torch
from torch import nn

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.engine import run
from match_rcnn.engine.evaluations import WeightAverage


@pytest.fixture
def checkpoint(tmp_path):
    """Of a layer whose weight was 8 and then 0, averaged to 6."""
    model = nn.Linear(1, 1)
    average = WeightAverage(model, decay=0.75)
    for value in (8.0, 0.0):
        nn.init.constant_(model.weight, value)
        average.after_step()
    hooks = {"WeightAverage": average.state_dict()}
    file = tmp_path / "model_final.pth"
    torch.save({"model": model.state_dict(), "trainer": {"hooks": hooks}}, file)
    return file


@pytest.mark.parametrize(("is_averaged", "expected"), [(True, 6.0), (False, 0.0)])
def test_eval_only_takes_the_average_while_it_is_on(checkpoint, monkeypatch, is_averaged, expected):
    cfg = get_match_rcnn_cfg()
    cfg.MODEL.WEIGHTS, cfg.MODEL_EMA.ENABLED = str(checkpoint), is_averaged
    cfg.TEST.EXPECTED_RESULTS = [["bbox", "AP", expected, 1e-6]]

    class Trainer:
        build_model = staticmethod(lambda cfg: nn.Linear(1, 1))
        test = staticmethod(lambda cfg, model: {"bbox": {"AP": model.weight.item()}})

    monkeypatch.setattr(run, "MatchRCNNTrainer", Trainer)
    assert run._evaluate(cfg, resume=False) == {"bbox": {"AP": expected}}


def test_results_that_were_not_expected_end_the_program(checkpoint, monkeypatch):
    cfg = get_match_rcnn_cfg()
    cfg.MODEL.WEIGHTS = str(checkpoint)
    cfg.TEST.EXPECTED_RESULTS = [["bbox", "AP", 50.0, 1.0]]

    class Trainer:
        build_model = staticmethod(lambda cfg: nn.Linear(1, 1))
        test = staticmethod(lambda cfg, model: {"bbox": {"AP": 40.0}})

    monkeypatch.setattr(run, "MatchRCNNTrainer", Trainer)
    with pytest.raises(SystemExit) as ended:
        run._evaluate(cfg, resume=False)
    assert ended.value.code == 1
