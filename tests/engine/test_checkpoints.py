import pytest
import torch
from torch import nn

from match_rcnn.engine.checkpoints import EnduringCheckpointer
from match_rcnn.engine.faults import NonFiniteFault


@pytest.fixture
def model():
    return nn.Linear(2, 2)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_numbered_checkpoints_make_room_for_newer_ones(model, tmp_path):
    (tmp_path / "model_0000099.pth").touch()  # of a longer run before
    checkpointer = EnduringCheckpointer(model, str(tmp_path), kept=2)
    for iteration in (4, 9, 14):
        checkpointer.save_iteration(iteration)
    checkpointer.save("model_best", resumable=False, iteration=14)
    checkpointer.save("model_final", iteration=15)
    assert names(tmp_path) == [
        "last_checkpoint",
        *("model_0000009.pth", "model_0000014.pth", "model_0000099.pth"),
        *("model_best.pth", "model_final.pth"),
    ]


def test_zero_keeps_all(model, tmp_path):
    checkpointer = EnduringCheckpointer(model, str(tmp_path), kept=0)
    for iteration in range(3):
        checkpointer.save_iteration(iteration)
    assert len(names(tmp_path)) == 4


def test_an_iteration_is_saved_once(model, tmp_path):
    checkpointer = EnduringCheckpointer(model, str(tmp_path))
    checkpointer.save("model_final", iteration=4)
    checkpointer.save_iteration(4)
    assert names(tmp_path) == ["last_checkpoint", "model_final.pth"]


def test_other_weights_and_no_resumption(model, tmp_path):
    checkpointer = EnduringCheckpointer(model, str(tmp_path))
    weights = {"weight": torch.ones(2, 2), "bias": torch.zeros(2)}
    checkpointer.save("model_ema", resumable=False, weights=weights)
    assert not checkpointer.has_checkpoint()
    checkpointer.load(str(tmp_path / "model_ema.pth"))
    assert torch.equal(model.weight, torch.ones(2, 2))


def test_weights_that_are_not_finite_are_not_saved(model, tmp_path):
    checkpointer = EnduringCheckpointer(model, str(tmp_path))
    checkpointer.save_iteration(1)
    with torch.no_grad():
        model.bias[1] = float("nan")
    with pytest.raises(NonFiniteFault, match=r"model_0000002.pth .* 1 weights .* bias"):
        checkpointer.save_iteration(2)
    assert names(tmp_path) == ["last_checkpoint", "model_0000001.pth"]
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000001.pth"


def test_leftovers_of_killed_processes_go_and_nothing_else(model, tmp_path):
    for name in (".model_0000004.pth.a1b2", ".last_checkpoint.x", ".hidden", "model_0000004.pth"):
        (tmp_path / name).touch()
    EnduringCheckpointer(model, str(tmp_path)).remove_leftovers()
    assert names(tmp_path) == [".hidden", "model_0000004.pth"]


def test_a_number_that_makes_no_sense_is_refused(model, tmp_path):
    with pytest.raises(ValueError, match="CHECKPOINTS_KEPT"):
        EnduringCheckpointer(model, str(tmp_path), kept=-1)
