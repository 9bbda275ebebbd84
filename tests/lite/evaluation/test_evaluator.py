import logging

import pytest
import torch
from torch import nn

from match_rcnn.lite.evaluation import (
    DatasetEvaluator,
    DatasetEvaluators,
    evaluator,
    inference_context,
    inference_on_dataset,
)


class Collect(DatasetEvaluator):
    def __init__(self, name="found"):
        self.name = name
        self.pairs = ["left over"]

    def reset(self):
        self.pairs = []

    def process(self, inputs, outputs):
        self.pairs.append((inputs, outputs))

    def evaluate(self):
        return {self.name: list(self.pairs)}


class Nothing(DatasetEvaluator):
    pass


def test_every_batch_once_and_in_order():
    assert inference_on_dataset(lambda x: 10 * x, [1, 2, 3], Collect()) == {
        "found": [(1, 10), (2, 20), (3, 30)]
    }


def test_empty_data_set():
    assert inference_on_dataset(lambda x: x, [], Collect()) == {"found": []}


def test_several_none_and_silent_evaluators():
    several = [Collect("a"), Nothing(), Collect("b")]
    assert set(inference_on_dataset(lambda x: x, [1], several)) == {"a", "b"}
    assert inference_on_dataset(lambda x: x, [1], None) == {}
    assert inference_on_dataset(lambda x: x, [1], Nothing()) == {}


def test_results_of_one_name():
    with pytest.raises(ValueError, match=r"\['found'\]"):
        DatasetEvaluators([Collect(), Collect()]).evaluate()


def test_callbacks():
    called = []
    names = ("on_start", "before_inference", "after_inference", "on_end")
    callbacks = {name: lambda name=name: called.append(name) for name in names}
    inference_on_dataset(lambda x: called.append(x), [1, 2], None, callbacks)
    assert called == [
        "on_start",
        *("before_inference", 1, "after_inference"),
        *("before_inference", 2, "after_inference"),
        "on_end",
    ]


class Mode(nn.Module):
    def forward(self, x):
        return self.training, torch.is_grad_enabled()


@pytest.mark.parametrize("training", [True, False])
def test_mode_during_and_after(training):
    model = Mode().train(training)
    found = inference_on_dataset(model, [1], Collect())["found"]
    assert found == [(1, (False, False))]
    assert model.training == training


def test_mode_after_an_error():
    model = Mode().train()

    def fail():
        with inference_context(model):
            assert not model.training
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert model.training


def test_progress_is_logged(caplog, monkeypatch):
    monkeypatch.setattr(evaluator, "LOG_SECONDS", 0)
    with caplog.at_level(logging.INFO):
        inference_on_dataset(lambda x: x, list(range(12)), None)
    lines = [r.message for r in caplog.records]
    assert lines[0] == "Start inference on 12 batches"
    assert lines[1].startswith("Inference done 6/12. Dataloading: 0.0")
    assert all(part in lines[1] for part in ("Inference: ", "Eval: ", "Total: ", "ETA=0:00:00"))
    # Seven batches come after the warm-up of five.
    assert sum(line.startswith("Inference done") for line in lines) == 7
    assert lines[-2].startswith("Total inference time: 0:00:00")
    assert "on 1 devices" in lines[-1]
