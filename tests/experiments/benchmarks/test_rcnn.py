"""The benchmarks of whole detectors, on models and images that are as small as can be."""

import argparse
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from match_rcnn.d2 import HOST
from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.experiments.benchmarks import hosts, inference, train, waits
from match_rcnn.experiments.benchmarks.rcnn import comparison, inputs
from match_rcnn.experiments.benchmarks.rcnn.driver import Measured, Runner, measure_in_turn
from match_rcnn.experiments.benchmarks.rcnn.models import fill
from match_rcnn.experiments.benchmarks.rcnn.stages import StageTimer
from match_rcnn.experiments.benchmarks.rcnn.steps import Step, as_arrays
from match_rcnn.experiments.benchmarks.rcnn.waits import WaitCounter
from match_rcnn.experiments.benchmarks.rcnn.workload import Workload

SMALL = (
    *("MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64"),
    *("MODEL.FPN.OUT_CHANNELS", "16", "MODEL.ROI_BOX_HEAD.FC_DIM", "32"),
    *("MODEL.ROI_MASK_HEAD.CONV_DIM", "16", "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", "(16,)"),
    *("MODEL.ROI_MATCH_HEAD.CONV_DIMS", "[16, 16]"),
)
WORK = Workload(
    "ours",
    "train",
    height=96,
    width=128,
    images=2,
    rois=16,
    proposals=80,
    detections=3,
    options=SMALL,
)
STAGES = ["normalise, pad", "backbone", "RPN", "box stream", "mask stream", "landmark stream"]


def first(workload):
    step = Step(workload)
    step.timer.active = True
    return as_arrays(step()), step


class TestTraining:
    def test_five_losses_and_all_stages(self):
        losses, step = first(WORK)
        assert len(losses) == 7  # the proposal network has two more
        assert all(np.isfinite(value) for value in losses.values())
        assert losses["loss_match"] > 0
        expected = [*STAGES, "sampling", "match stream", "backward", "optimizer"]
        assert sorted(step.timer.seconds) == sorted(expected)

    def test_stock_heads_learn_from_the_same(self):
        ours, _ = first(WORK)
        stock, _ = first(WORK.of("stock"))
        assert ours.keys() - stock.keys() == {"loss_match"}
        assert comparison.loss_difference(ours, stock) < comparison.LOSS_TOLERANCE

    def test_a_quarter_of_the_rois_is_positive(self):
        step = Step(WORK)
        sampled = []
        original = step.model.roi_heads.label_and_sample_proposals

        def spy(*args):
            sampled.extend(original(*args))
            return sampled

        step.model.roi_heads.label_and_sample_proposals = spy
        step()
        assert [len(image) for image in sampled] == [16, 16]
        assert [int((image.gt_classes < 13).sum()) for image in sampled] == [4, 4]


class TestInference:
    WORK = replace(WORK, task="inference", images=1)

    def test_every_model_gets_the_given_detections(self):
        ours, step = first(self.WORK)
        assert ours["pred_keypoints"].shape == (3, DEEPFASHION2.max_landmarks, 3)
        assert ours["embedding"].shape == (3, 256)
        assert sorted(step.timer.seconds) == sorted([*STAGES, "match stream"])
        stock, _ = first(self.WORK.of("stock"))
        places, score = comparison.landmark_differences(ours, stock)
        assert places == 1
        assert score < 1e-4

    def test_bfloat16_is_near(self):
        plain, _ = first(self.WORK)
        mixed, _ = first(replace(self.WORK, precision="bfloat16"))
        assert not np.array_equal(plain["embedding"], mixed["embedding"])
        distance = np.abs(plain["embedding"] - mixed["embedding"]).max()
        assert distance < 0.1 * np.abs(plain["embedding"]).max()


@pytest.mark.parametrize("task", ["train", "inference"])
def test_a_process_a_model(task):
    work = replace(WORK, task=task)
    (measured,) = measure_in_turn({"ours": Runner(work)}, runs=1, warmup=0).values()
    assert measured.seconds > 0
    assert measured.peak_mib > measured.work_mib > 0
    assert measured.about["workload"]["model"] == "ours"
    assert set(measured.stages) >= set(STAGES)
    here, _ = first(work)
    assert here.keys() == measured.outputs.keys()
    for name, value in here.items():
        np.testing.assert_allclose(measured.outputs[name], value, rtol=1e-4, atol=1e-5)


def test_a_process_that_fails_says_so():
    with pytest.raises(RuntimeError, match="measures nothing on"):
        measure_in_turn({"none": Runner(replace(WORK, model="nothing"))}, runs=1)


def test_workloads_survive_the_way_to_another_process():
    assert Workload.from_json(WORK.to_json()) == WORK


def test_weights_depend_on_names_and_shapes_alone():
    def network():
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))

    one, other = network(), network()
    fill(one)
    fill(other)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    assert one[0].weight.std().item() == pytest.approx(
        (2 / 27) ** 0.5, rel=0.2
    )  # keeps the variance


def test_proposals_lie_in_the_image_and_often_on_an_item():
    batch = inputs.training_batch(WORK)
    for boxes, image in zip(inputs.proposals(WORK, batch), batch, strict=True):
        assert boxes.shape == (80, 4)
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert boxes.min() >= 0
        assert boxes[:, 2].max() <= 128
        assert boxes[:, 3].max() <= 96
        near = image["instances"].gt_boxes.tensor
        assert ((boxes[:, None] - near).abs().amax(2).amin(1) < 20).sum() >= 48


def test_stages_count_only_while_active():
    class Model:
        def step(self, x):
            return x + 1

    model, timer = Model(), StageTimer("cpu")
    timer.watch(model, {"step": "one", "missing.method": "none"})
    assert model.step(1) == 2
    assert not timer.seconds
    timer.active = True
    assert model.step(1) == 2
    assert list(timer.seconds) == ["one"]


class TestWaits:
    @pytest.mark.parametrize(
        ("operation", "waits"),
        [
            (lambda x: x[0].item(), 1),
            (lambda x: bool((x > 0).any()), 1),
            (lambda x: x.tolist(), 1),
            (lambda x: x.cpu(), 1),
            (lambda x: x[x > 0], 1),
            (lambda x: (x > 0).nonzero(), 1),
            (lambda x: x.repeat_interleave(torch.tensor([1, 2, 3])), 1),
            (lambda x: x.unique(), 1),
            (lambda x: x[torch.tensor([0, 2])], 0),
            (lambda x: torch.where(x > 0, x, 0).sum(), 0),
            (lambda x: x.masked_fill(x > 0, 0).split([1, 2]), 0),
        ],
    )
    def test_what_waits(self, operation, waits):
        counter = WaitCounter(lambda: "here")
        x = torch.arange(3.0)
        with counter.counting():
            operation(x)
        assert counter.counts["here"] == waits
        operation(x)
        assert counter.counts["here"] == waits  # no longer counting

    @pytest.mark.skipif(HOST != "lite", reason="the bounds are of lite's streams")
    def test_a_step_by_stage(self):
        """Few, in the match stream and behind it above all, whatever the number of fields."""
        step = Step(WORK)
        counter = WaitCounter(lambda: step.timer.current)
        with counter.counting():
            step()
        assert counter.counts["RPN"] > 0
        assert counter.counts["match stream"] <= 7
        assert counter.counts["landmark stream"] <= 9
        assert counter.counts["backward"] == counter.counts["optimizer"] == 0

    def test_command(self, monkeypatch):
        counts = {"ours": {"RPN": 4, "sampling": 1, "match stream": 3}, "stock": {"RPN": 6}}

        class Worker:
            def __init__(self, runner):
                self.runner = runner

            def __enter__(self):
                return self

            def __exit__(self, *_):
                pass

            def waits(self):
                return counts[self.runner.workload.model]

        monkeypatch.setattr(waits, "Worker", Worker)
        parser = argparse.ArgumentParser()
        waits.add_arguments(parser)
        result = waits.run(parser.parse_args([]))
        assert [row["waits"] for row in result.rows] == [8, 6]
        assert result.rows[1]["match stream"] == 0
        assert list(result.ratios.values()) == [0.75]
        assert result.correct


def measured(seconds, mib, **outputs):
    arrays = {name: np.array(value) for name, value in outputs.items()}
    about = {"host": "lite", "host_version": "1", "machine": {"torch": "2", "torch_threads": 1}}
    return Measured(seconds, 2 * mib, mib, {"backbone": seconds / 2}, arrays, about)


def test_ratios_are_of_the_stock_models_over_ours():
    found = {"ours": measured(2.0, 100.0), "stock heads (lite)": measured(21.0, 600.0)}
    result = inference.Result("inference", comparison.rows(found, images=4))
    comparison.add_ratios(result, found, inference.GOALS["cpu"])
    assert result.ratios["stock heads (lite): time"] == 10.5
    assert result.ratios["stock heads (lite): memory"] == 6
    assert result.goals["stock heads (lite): time"] == 10
    assert result.rows[0]["images/s"] == 2
    assert result.rows[0]["backbone"] == 1


def test_loss_difference_is_the_worst_of_those_that_both_have():
    ours = measured(1, 1, a=1.0, b=2.0, only_ours=5.0).outputs
    assert comparison.loss_difference(ours, measured(1, 1, a=1.0, b=2.5).outputs) == 0.2


def test_landmarks_beyond_the_categorys_do_not_count():
    other = np.array([[[3.0, 4.0, 0.5], [8.0, 8.0, 0.25], [0.0, 0.0, 0.0]]])
    ours = other + np.array([[[0.001, 0, 0], [2, 0, 0], [9, 9, 0]]])
    places, score = comparison.landmark_differences(
        {"pred_keypoints": ours}, {"pred_keypoints": other}
    )
    assert (places, score) == (0.5, 0)


@pytest.mark.parametrize(
    ("module", "goal"),
    [(train, {"time": 1.0}), (inference, {"time": 10.0, "memory": 5.0})],
)
def test_arguments_and_goals(module, goal):
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    args = parser.parse_args(["MODEL.CHANNELS_LAST", "True"])
    assert args.options == ["MODEL.CHANNELS_LAST", "True"]
    assert module.GOALS["cpu"] == goal
    found = comparison.runners(args, WORK)
    assert found["ours"].workload.options[-2:] == ("MODEL.CHANNELS_LAST", "True")
    assert "MODEL.CHANNELS_LAST" not in found["torchvision Mask R-CNN"].workload.options


def test_hosts_ratios():
    found = {
        hosts.LITE: measured(2.0, 100.0, loss=1.0),
        hosts.UPSTREAM: measured(3.0, 150.0, loss=1.0),
        hosts.STOCK: measured(12.0, 300.0, loss=1.5),
    }
    result = hosts.Result("hosts", [])
    hosts._ratios(result, "train", found)
    assert list(result.ratios.values()) == [1.5, 1.5, 4.0, 2.0, 6.0, 3.0]
    hosts._check(result, "train", found)
    assert result.checks == {f"losses: {hosts.UPSTREAM}": True, f"losses: {hosts.STOCK}": False}
