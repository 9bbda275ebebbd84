import copy

import pytest
import torch
from torch import nn

from match_rcnn.engine.evaluations import WeightAverage, averaged_weights


@pytest.fixture
def model():
    return nn.Sequential(nn.Linear(2, 1, bias=False), nn.BatchNorm1d(1))


def set_weight(model, value):
    with torch.no_grad():
        model[0].weight.fill_(value)


def weight(module):
    return module[0].weight.flatten().tolist()


def test_the_average_by_hand(model):
    average = WeightAverage(model, decay=0.75)
    for value in (4.0, 8.0, 0.0):
        set_weight(model, value)
        average.after_step()
    # 4; 0.75 * 4 + 0.25 * 8 = 5; 0.75 * 5 + 0.25 * 0 = 3.75
    assert weight(average.averaged) == [3.75, 3.75]
    assert weight(model) == [0.0, 0.0]


def test_running_statistics_are_the_model_s(model):
    average = WeightAverage(model, decay=0.75)
    average.after_step()
    model[1].running_mean.fill_(7.0)
    average.after_step()
    assert average.averaged[1].running_mean.item() == 7.0


def test_before_any_step_it_is_the_model_as_it_was_loaded(model):
    average = WeightAverage(model, decay=0.75)
    set_weight(model, 3.0)
    assert weight(average.averaged) == [3.0, 3.0]


def test_its_state_goes_on_in_another_one(model):
    whole = WeightAverage(model, decay=0.9)
    set_weight(model, 1.0)
    whole.after_step()
    resumed = WeightAverage(copy.deepcopy(model), decay=0.9)
    resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
    resumed._model = model
    set_weight(model, 2.0)
    whole.after_step()
    resumed.after_step()
    assert weight(resumed.averaged) == weight(whole.averaged)


def test_evaluations_see_the_average_and_training_the_model(model):
    class Trainer:
        pass

    trainer = Trainer()
    trainer.model = model
    average = WeightAverage(model, decay=0.5)
    with average.evaluated(trainer):
        assert trainer.model is average.averaged
    assert trainer.model is model
    with pytest.raises(KeyError), average.evaluated(trainer):
        raise KeyError
    assert trainer.model is model


def test_the_average_of_a_checkpoint_has_the_model_s_names(model):
    average = WeightAverage(model, decay=0.5)
    average.after_step()
    found = averaged_weights({"trainer": {"hooks": {"WeightAverage": average.state_dict()}}})
    assert found.keys() == model.state_dict().keys()
    assert averaged_weights({"trainer": {"iteration": 3}}) == averaged_weights({}) == {}


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_that_makes_no_average_is_refused(model, decay):
    with pytest.raises(ValueError, match=r"MODEL_EMA\.DECAY"):
        WeightAverage(model, decay)
