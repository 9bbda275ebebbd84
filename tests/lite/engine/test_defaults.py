import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from match_rcnn.lite.config import get_cfg
from match_rcnn.lite.data import MetadataCatalog
from match_rcnn.lite.engine import (
    DefaultPredictor,
    DefaultTrainer,
    HookBase,
    default_argument_parser,
    default_setup,
    hooks,
)
from match_rcnn.lite.engine.setup import default_writers
from match_rcnn.lite.evaluation import DatasetEvaluator
from match_rcnn.lite.modeling import META_ARCH_REGISTRY


class LiteEngineTestLine(nn.Module):
    """The line of conftest, as a registered model."""

    def __init__(self, cfg):
        super().__init__()
        self.layer = nn.Linear(1, 1)
        nn.init.constant_(self.layer.weight, 0.0)
        nn.init.constant_(self.layer.bias, 0.0)

    def forward(self, batch):
        if not self.training:
            return [{"value": x.item()} for x in self.layer(batch)]
        error = self.layer(batch) - 3 * batch
        return {"loss_square": error.square().mean(), "loss_absolute": error.abs().mean()}


class Mean(DatasetEvaluator):
    def reset(self):
        self.values = []

    def process(self, inputs, outputs):
        self.values += [output["value"] for output in outputs]

    def evaluate(self):
        return {"line": {"mean": sum(self.values) / len(self.values)}}


@pytest.fixture(autouse=True, scope="module")
def registered():
    META_ARCH_REGISTRY.register(LiteEngineTestLine)


@pytest.fixture
def cfg(tmp_path):
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = "LiteEngineTestLine"
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.OUTPUT_DIR = str(tmp_path / "output")
    cfg.DATASETS.TEST = ("lite_engine_test",)
    cfg.SOLVER.MAX_ITER = 12
    cfg.SOLVER.STEPS = (8,)
    cfg.SOLVER.BASE_LR = 0.1
    cfg.SOLVER.WARMUP_ITERS = 3
    cfg.SOLVER.CHECKPOINT_PERIOD = 4
    return cfg


@pytest.fixture
def trainer_class(batches):
    class Trainer(DefaultTrainer):
        @classmethod
        def build_train_loader(cls, cfg):
            return batches()

        @classmethod
        def build_test_loader(cls, cfg, dataset_name):
            return [torch.ones(2, 1)] * 3

        @classmethod
        def build_evaluator(cls, cfg, dataset_name):
            return Mean()

    return Trainer


def final_weights(trainer):
    return {name: param.clone() for name, param in trainer.model.state_dict().items()}


class Stop(HookBase):
    def __init__(self, iteration):
        self.iteration = iteration

    def before_step(self):
        if self.trainer.iter == self.iteration:
            raise KeyboardInterrupt


@pytest.mark.parametrize("amp", [False, True])
def test_interrupted_and_resumed_is_uninterrupted(cfg, trainer_class, tmp_path, amp):
    cfg.SOLVER.AMP.ENABLED = amp
    whole = trainer_class(cfg)
    whole.resume_or_load(resume=False)
    whole.train()

    cfg.OUTPUT_DIR = str(tmp_path / "interrupted")
    first = trainer_class(cfg)
    first.register_hooks([Stop(10)])
    with pytest.raises(KeyboardInterrupt):
        first.train()

    second = trainer_class(cfg)
    second.resume_or_load(resume=True)
    assert second.start_iter == 8  # after the checkpoint of iteration 7
    second.data_loader.start = second.start_iter
    second.train()
    for name, weight in final_weights(whole).items():
        assert torch.equal(weight, final_weights(second)[name]), name
    histories = [t.storage.history("lr").values() for t in (whole, second)]
    assert histories[0][8:] == histories[1]


def test_files_of_a_training(cfg, trainer_class, tmp_path):
    cfg.TEST.EVAL_PERIOD = 5
    trainer = trainer_class(cfg)
    trainer.train()
    files = {name for name in os.listdir(cfg.OUTPUT_DIR) if not name.startswith("events.")}
    assert files == {
        "last_checkpoint",
        "metrics.json",
        "model_0000003.pth",
        "model_0000007.pth",
        "model_0000011.pth",
        "model_final.pth",
    }
    checkpoint = torch.load(tmp_path / "output" / "model_0000007.pth", weights_only=True)
    # The layout of detectron2 02b5c4e2.
    assert list(checkpoint) == ["model", "trainer", "iteration"]
    assert checkpoint["iteration"] == checkpoint["trainer"]["iteration"] == 7
    assert checkpoint["trainer"]["hooks"] == {"LRScheduler": {"base_lrs": [0.1], "last_epoch": 8}}
    assert set(checkpoint["trainer"]["_trainer"]) == {"iteration", "optimizer"}

    lines = [
        json.loads(line) for line in (tmp_path / "output" / "metrics.json").read_text().splitlines()
    ]
    assert [row["iteration"] for row in lines] == [9, 11, 12]
    assert "line/mean" in lines[0]
    assert {"total_loss", "loss_square", "loss_absolute", "lr", "time", "data_time"} <= set(
        lines[1]
    )


def test_evaluation_sees_the_model_in_evaluation_and_gives_it_back(cfg, trainer_class):
    cfg.TEST.EVAL_PERIOD = 1
    trainer = trainer_class(cfg)
    trainer.train()
    assert trainer.model.training
    line = trainer.model.layer
    expected = line.weight.item() + line.bias.item()
    assert trainer.storage.latest()["line/mean"][0] == pytest.approx(expected)
    assert len(trainer.storage.history("line/mean").values()) == 12


def test_expected_results_are_verified(cfg, trainer_class):
    cfg.TEST.EXPECTED_RESULTS = [["line", "mean", 0.0, 100.0]]
    assert set(trainer_class(cfg).train()) == {"line"}
    cfg.TEST.EXPECTED_RESULTS = [["line", "mean", 1e6, 1.0]]
    with pytest.raises(SystemExit):
        trainer_class(cfg).train()


def test_a_data_set_without_evaluator(cfg, trainer_class, caplog):
    cfg.DATASETS.TEST = ("lite_a", "lite_b")
    model = trainer_class.build_model(cfg)
    assert set(trainer_class.test(cfg, model)) == {"lite_a", "lite_b"}
    assert DefaultTrainer.test(cfg, model) == {"lite_a": {}, "lite_b": {}}
    assert "lite_a is not evaluated" in caplog.text
    with pytest.raises(ValueError, match="1 evaluators for 2 data sets"):
        trainer_class.test(cfg, model, Mean())


def test_inner_model_can_be_exchanged(cfg, trainer_class):
    trainer = trainer_class(cfg)
    other = trainer_class.build_model(cfg)
    trainer.model = other
    assert trainer.model is trainer._trainer.model is other
    assert trainer.optimizer is trainer._trainer.optimizer


def test_hooks_are_called_as_upstream_calls_them(cfg, trainer_class):
    """Only the inner trainer knows of the backward pass, and it has no hooks."""
    seen = []

    class Every(HookBase):
        def before_train(self):
            seen.append("before_train")

        def before_step(self):
            seen.append("before_step")

        def after_backward(self):
            seen.append("after_backward")

        def after_step(self):
            seen.append("after_step")

        def after_train(self):
            seen.append("after_train")

    trainer = trainer_class(cfg)
    trainer.register_hooks([Every()])
    trainer.train()
    assert seen == ["before_train", *["before_step", "after_step"] * 12, "after_train"]


def test_order_of_hooks(cfg, trainer_class):
    assert [type(hook) for hook in trainer_class(cfg).build_hooks()] == [
        hooks.IterationTimer,
        hooks.LRScheduler,
        hooks.PeriodicCheckpointer,
        hooks.EvalHook,
        hooks.PeriodicWriter,
    ]


# detectron2 02b5c4e2 gives these for IMS_PER_BATCH 16, BASE_LR 0.001, MAX_ITER 40000,
# STEPS (30001,), WARMUP_ITERS 1000, EVAL_PERIOD 33, CHECKPOINT_PERIOD 5000.
@pytest.mark.parametrize(
    ("workers", "expected"),
    [
        (2, (4, 0.00025, 160000, (120004,), 4000, 132, 20000)),
        (16, (32, 0.002, 20000, (15000,), 500, 16, 2500)),
        (3, (6, 0.000375, 106667, (80003,), 2667, 88, 13333)),
    ],
)
def test_scaling_to_the_number_of_processes(workers, expected):
    cfg = get_cfg()
    cfg.SOLVER.REFERENCE_WORLD_SIZE = 8
    cfg.SOLVER.STEPS = (30001,)
    cfg.TEST.EVAL_PERIOD = 33
    cfg.freeze()
    scaled = DefaultTrainer.auto_scale_workers(cfg, workers)
    s = scaled.SOLVER
    found = (s.IMS_PER_BATCH, s.BASE_LR, s.MAX_ITER, s.STEPS, s.WARMUP_ITERS)
    assert (*found, scaled.TEST.EVAL_PERIOD, s.CHECKPOINT_PERIOD) == expected
    assert workers == s.REFERENCE_WORLD_SIZE
    assert scaled.is_frozen()
    assert cfg.SOLVER.IMS_PER_BATCH == 16


def test_no_scaling_without_reference():
    cfg = get_cfg()
    assert DefaultTrainer.auto_scale_workers(cfg, 4) is cfg
    cfg.SOLVER.REFERENCE_WORLD_SIZE = 7
    assert DefaultTrainer.auto_scale_workers(cfg, 7) is cfg
    with pytest.raises(ValueError, match="IMS_PER_BATCH 16 cannot be split among the 7"):
        DefaultTrainer.auto_scale_workers(cfg, 2)


def test_arguments():
    parser = default_argument_parser()
    args = parser.parse_args([])
    assert vars(args) == {
        "config_file": "",
        "resume": False,
        "eval_only": False,
        "num_gpus": 1,
        "num_machines": 1,
        "machine_rank": 0,
        "dist_url": "auto",
        "opts": [],
    }
    args = parser.parse_args(["--resume", "--num-gpus", "2", "SOLVER.BASE_LR", "-1"])
    assert (args.resume, args.num_gpus, args.opts) == (True, 2, ["SOLVER.BASE_LR", "-1"])
    assert default_argument_parser("my examples").format_help().endswith("my examples\n")


def test_setup(cfg):
    cfg.SEED = 5
    args = SimpleNamespace(config_file="", eval_only=True)
    default_setup(cfg, args)
    drawn = torch.rand(1), np.random.rand(1)  # noqa: NPY002
    default_setup(cfg, args)
    assert (torch.rand(1), np.random.rand(1)) == drawn  # noqa: NPY002
    loaded = get_cfg()
    loaded.merge_from_file(os.path.join(cfg.OUTPUT_DIR, "config.yaml"))
    assert loaded.dump() == cfg.dump()
    with open(os.path.join(cfg.OUTPUT_DIR, "log.txt")) as file:
        text = file.read()
    assert "Process 0 of 1" in text
    assert "LiteEngineTestLine" in text


@pytest.fixture
def _backends_as_before():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.mark.usefixtures("_backends_as_before")
@pytest.mark.parametrize(
    ("precision", "tf32"), [("highest", False), ("high", True), ("medium", True)]
)
def test_precision_is_that_of_the_gpu(cfg, precision, tf32):
    a = torch.rand(256, 256, generator=torch.Generator().manual_seed(0))
    product = a @ a
    # Whatever was set before.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = not tf32
    cfg.FLOAT32_PRECISION = precision
    default_setup(cfg, SimpleNamespace())
    assert torch.backends.cuda.matmul.allow_tf32 == tf32
    assert torch.backends.cudnn.allow_tf32 == tf32
    assert torch.equal(a @ a, product)
    # What would round to bfloat16 on processors that have it.
    assert torch.get_float32_matmul_precision() != "medium"


def test_precision_has_three_values(cfg):
    cfg.FLOAT32_PRECISION = "low"
    with pytest.raises(ValueError, match=r"FLOAT32_PRECISION must be .* got 'low'"):
        default_setup(cfg, SimpleNamespace())


def test_writers(tmp_path):
    kinds = [type(w).__name__ for w in default_writers(str(tmp_path / "new"), 10)]
    assert kinds == ["CommonMetricPrinter", "JSONWriter", "TensorboardXWriter"]


class LiteEngineTestPicture(nn.Module):
    """Returns what it was given."""

    def __init__(self, cfg):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, batch):
        assert not self.training
        assert not torch.is_grad_enabled()
        return [{**item, "weight": self.weight.item()} for item in batch]


@pytest.mark.parametrize("order", ["BGR", "RGB"])
def test_predictor(cfg, tmp_path, order):
    if "LiteEngineTestPicture" not in META_ARCH_REGISTRY:
        META_ARCH_REGISTRY.register(LiteEngineTestPicture)
    torch.save({"model": {"weight": torch.ones(1)}}, tmp_path / "weights.pth")
    cfg.MODEL.META_ARCHITECTURE = "LiteEngineTestPicture"
    cfg.MODEL.WEIGHTS = str(tmp_path / "weights.pth")
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST, cfg.INPUT.FORMAT = 40, 60, order
    MetadataCatalog.get("lite_engine_test")
    image = np.zeros((30, 90, 3), np.uint8)
    image[:, :, 0] = 200  # blue
    predictor = DefaultPredictor(cfg)
    found = predictor(image)
    assert found["weight"] == 1.0
    assert (found["height"], found["width"]) == (30, 90)
    # 40 for the short side would make the long one 120, over 60.
    assert found["image"].shape == (3, 20, 60)
    assert found["image"].dtype == torch.float32
    blue = 0 if order == "BGR" else 2
    assert found["image"][blue].unique().tolist() == [200.0]
    assert found["image"].sum().item() == 200.0 * 20 * 60
    assert predictor.metadata.name == "lite_engine_test"
