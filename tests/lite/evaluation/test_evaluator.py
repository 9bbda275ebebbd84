import logging
import re

import pytest
import torch
from torch import nn

from match_rcnn.lite.evaluation import (
    DatasetEvaluator,
    DatasetEvaluators,
    evaluator,
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

    class Fails(DatasetEvaluator):
        def process(self, inputs, outputs):
            assert not model.training
            raise KeyError

    with pytest.raises(KeyError):
        inference_on_dataset(model, [1], Fails())
    assert model.training


def test_progress_is_logged(caplog, monkeypatch):
    monkeypatch.setattr(evaluator, "LOG_SECONDS", 0)
    with caplog.at_level(logging.INFO):
        inference_on_dataset(lambda x: x, list(range(12)), None)
    lines = [r.message for r in caplog.records]
    assert lines[0] == "Inference on 12 batches, in each of 1 processes"
    # Seven batches come after the warm-up of five.
    done = [line.split(",")[0] for line in lines[1:-1]]
    assert done == [f"{n} of 12 batches" for n in range(6, 13)]
    form = r"12 of 12 batches, 0\.\d{4} s each \(loading 0\.\d{4}, model .*\); 0:00:00 left"
    assert re.fullmatch(form, lines[-1])


def test_seconds_are_told_apart(caplog, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(evaluator.time, "perf_counter", lambda: next(clock))
    watch = evaluator._Stopwatch(10)
    for done in range(1, 8):
        for part in ("loading", "model", "evaluator"):
            watch.lap(part)
        watch.end_batch(done)
    with caplog.at_level(logging.INFO):
        watch.log(7)
    # After the warm-up, where the clock was read once more: 2 batches of 3 laps of a second each.
    found = "7 of 10 batches, 3.0000 s each (loading 1.5000, model 1.0000, evaluator 1.0000)"
    assert caplog.messages[-1].startswith(found)
