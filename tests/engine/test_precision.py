import copy

import pytest
import torch
from torch import nn

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import HOST, EventStorage
from match_rcnn.data.datasets import register_deepfashion2
from match_rcnn.engine import MatchRCNNTrainer, steps
from match_rcnn.engine.steps import set_precision
from match_rcnn.inference.switches import bfloat16_is_fast, resolve_precision

LOSSES = (
    *("loss_cls", "loss_box_reg", "loss_mask", "loss_keypoint", "loss_match"),
    *("loss_rpn_cls", "loss_rpn_loc"),
)


@pytest.mark.parametrize(
    ("name", "device", "expected"),
    [
        ("", "cpu", torch.bfloat16),
        ("", "cuda", torch.float16),  # as detectron2's own AMP
        ("bfloat16", "cpu", torch.bfloat16),
        ("bfloat16", "cuda", torch.bfloat16),
        ("float16", "cuda", torch.float16),
    ],
)
def test_which_format_a_name_means(name, device, expected):
    assert resolve_precision(name, device) == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [("fp16", "'bfloat16' or 'float16'; got 'fp16'"), ("float16", "needs a GPU")],
)
def test_what_cannot_be_is_said(name, message):
    with pytest.raises(ValueError, match=message):
        resolve_precision(name, "cpu")


class InnerTrainer:
    precision, grad_scaler = None, None

    def __init__(self):
        self.model = nn.Linear(1, 1)


def test_detectron2_on_the_cpu_is_refused_before_the_first_step(monkeypatch):
    monkeypatch.setattr(steps, "HOST", "detectron2")
    with pytest.raises(ValueError, match="MATCH_RCNN_HOST=lite"):
        set_precision(InnerTrainer(), "")


def test_the_older_detectron2_has_no_bfloat16(monkeypatch):
    monkeypatch.setattr(steps, "HOST", "detectron2")
    trainer = type("Older", (), {"model": nn.Linear(1, 1, device="meta")})()
    with pytest.raises(ValueError, match=r"0\.6 knows float16 only"):
        set_precision(trainer, "bfloat16")
    set_precision(trainer, "float16")


def test_only_float16_scales_the_loss(monkeypatch):
    monkeypatch.setattr(steps, "HOST", "lite")
    trainer = InnerTrainer()
    set_precision(trainer, "bfloat16")
    assert trainer.precision == torch.bfloat16
    assert not trainer.grad_scaler.is_enabled()


@pytest.mark.skipif(HOST != "lite", reason="detectron2 trains in mixed precision on GPUs only")
def test_bfloat16_losses_are_near_the_float32_ones(
    generated_datasets, tiny_overrides, tmp_path, monkeypatch
):
    """All seven losses of one step of the quickstart's model: bfloat16 has 8 bits of mantissa, and
    proposals that change places by it are sampled otherwise."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(generated_datasets))
    register_deepfashion2()
    cfg = get_match_rcnn_cfg()
    cfg.merge_from_file("configs/quickstart.yaml")
    cfg.merge_from_list([*tiny_overrides, "OUTPUT_DIR", str(tmp_path)])
    cfg.DATALOADER.NUM_WORKERS = 0
    plain = MatchRCNNTrainer(cfg)
    cfg = copy.deepcopy(cfg)
    cfg.SOLVER.AMP.ENABLED = True
    mixed = MatchRCNNTrainer(cfg)
    mixed.model.load_state_dict(plain.model.state_dict())
    expected, found = (_losses_of_a_step(trainer) for trainer in (plain, mixed))
    assert set(LOSSES) <= set(expected)
    for name in LOSSES:
        assert found[name] == pytest.approx(expected[name], rel=0.05, abs=0.02), name
    # It did run in another format.
    assert any(found[name] != expected[name] for name in LOSSES)
    weights = mixed.model.state_dict().values()
    assert not any(w.dtype == torch.bfloat16 for w in weights)


def _losses_of_a_step(trainer):
    torch.manual_seed(0)
    inner = trainer._trainer
    inner.iter = 0
    with EventStorage() as storage:
        inner.run_step()
        return {name: value for name, (value, _) in storage.latest().items()}


@pytest.mark.parametrize(
    ("flags", "fast"),
    [("fpu avx512_bf16 amx_tile", True), ("amx_bf16", True), ("fpu avx512f avx512_fp16", False)],
)
def test_processors_that_compute_in_bfloat16(tmp_path, flags, fast):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor : 0\nflags : {flags}\nbugs : none\n")
    assert bfloat16_is_fast(cpuinfo) is fast


def test_without_linux_no_processor_is_known_to(tmp_path):
    assert not bfloat16_is_fast(tmp_path / "nothing")
