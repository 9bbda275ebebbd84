import logging
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from match_rcnn.lite.checkpoint import DetectionCheckpointer, PeriodicCheckpointer


def net(value=0.0):
    model = nn.Sequential()
    model.add_module("body", nn.Linear(2, 2))
    model.add_module("head", nn.Linear(2, 1))
    for param in model.parameters():
        nn.init.constant_(param, value)
    return model


def sums(model):
    return {name: param.sum().item() for name, param in model.state_dict().items()}


class Counter:
    def __init__(self, count=0):
        self.count = count

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


def test_saved_and_resumed(tmp_path):
    DetectionCheckpointer(net(1.0), str(tmp_path), trainer=Counter(7)).save("first", iteration=3)
    assert (tmp_path / "last_checkpoint").read_text() == "first.pth"

    model, counter = net(), Counter()
    checkpointer = DetectionCheckpointer(model, str(tmp_path), trainer=counter)
    assert checkpointer.resume_or_load("", resume=True) == {"iteration": 3}
    assert counter.count == 7
    assert sums(model) == sums(net(1.0))


def test_without_resume_only_the_model_loads(tmp_path):
    DetectionCheckpointer(net(1.0), str(tmp_path), trainer=Counter(7)).save("first", iteration=3)
    model, counter = net(), Counter()
    checkpointer = DetectionCheckpointer(model, str(tmp_path), trainer=counter)
    rest = checkpointer.resume_or_load(str(tmp_path / "first.pth"), resume=False)
    assert counter.count == 0
    assert rest == {"iteration": 3, "trainer": {"count": 7}}
    assert sums(model) == sums(net(1.0))


def test_resume_without_a_checkpoint_takes_the_weights(tmp_path):
    torch.save(net(2.0).state_dict(), tmp_path / "bare.pth")
    model = net()
    checkpointer = DetectionCheckpointer(model, str(tmp_path / "output"))
    checkpointer.resume_or_load(str(tmp_path / "bare.pth"), resume=True)
    assert sums(model) == sums(net(2.0))


def test_no_path_loads_nothing(tmp_path):
    model = net(3.0)
    assert DetectionCheckpointer(model).load("") == {}
    assert sums(model) == sums(net(3.0))


def test_a_failed_save_leaves_the_last_checkpoint(tmp_path):
    DetectionCheckpointer(net(1.0), str(tmp_path)).save("first")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    class Bomb:
        def __reduce__(self):
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        DetectionCheckpointer(net(2.0), str(tmp_path)).save("first", extra=Bomb())
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_names_with_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"'\.\./x'"):
        DetectionCheckpointer(net(), str(tmp_path)).save("../x")


def test_nothing_is_saved_when_told_so(tmp_path):
    DetectionCheckpointer(net(), str(tmp_path), save_to_disk=False).save("first")
    DetectionCheckpointer(net()).save("first")
    assert not list(tmp_path.iterdir())


def test_wrong_shapes_missing_and_unexpected_names(tmp_path, caplog):
    weights = net(1.0).state_dict()
    weights["head.weight"] = torch.ones(5, 2)
    del weights["body.bias"], weights["body.weight"]
    weights["old.weight"] = weights["old.bias"] = torch.ones(1)
    torch.save({"model": weights}, tmp_path / "a.pth")
    model = net()
    with caplog.at_level(logging.WARNING):
        DetectionCheckpointer(model).load(str(tmp_path / "a.pth"))
    assert sums(model) == {"body.weight": 0, "body.bias": 0, "head.weight": 0, "head.bias": 1}
    assert "'head.weight'" in caplog.text
    assert "(5, 2) in the checkpoint but (1, 2) in the model" in caplog.text
    assert "body.{bias, weight}" in caplog.text
    assert "old.{bias, weight}" in caplog.text


class WithConstants(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.register_buffer("pixel_mean", torch.zeros(3))


def test_constants_of_the_config_are_not_missed(tmp_path, caplog):
    weights = WithConstants().layer.state_dict(prefix="layer.")
    weights["proposal_generator.anchor_generator.cell_anchors.0"] = torch.zeros(3, 4)
    torch.save({"model": weights}, tmp_path / "a.pth")
    with caplog.at_level(logging.WARNING):
        DetectionCheckpointer(WithConstants()).load(str(tmp_path / "a.pth"))
    assert not caplog.text


def test_model_zoo_pickle_with_heuristics(tmp_path):
    arrays = {
        "body.weight": np.full((2, 2), 4, np.float32),
        "other": np.zeros(1, np.float32),
    }
    model = nn.Sequential()
    model.add_module("backbone", net())
    path = tmp_path / "a.pkl"
    path.write_bytes(
        pickle.dumps({"model": arrays, "__author__": "torchvision", "matching_heuristics": True})
    )
    rest = DetectionCheckpointer(model).load(str(path))
    assert model.backbone.body.weight.tolist() == [[4.0, 4.0], [4.0, 4.0]]
    assert rest["__author__"] == "torchvision"


def test_model_zoo_pickle_without_heuristics(tmp_path):
    weights = {name: param.numpy() for name, param in net(2.0).state_dict().items()}
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"model": weights, "__author__": "Detectron2 Model Zoo"}))
    model = net()
    DetectionCheckpointer(model).load(str(path))
    assert sums(model) == sums(net(2.0))


@pytest.mark.parametrize("wrapped", [True, False])
def test_caffe2_blobs(tmp_path, wrapped):
    blobs = {
        "conv1_w": np.full((1, 1), 6, np.float32),
        "conv1_w_momentum": np.zeros((1, 1), np.float32),
    }
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"blobs": blobs, "cfg": "text"} if wrapped else blobs))
    model = nn.Sequential()
    model.add_module("stem", nn.Sequential())
    model.stem.add_module("conv1", nn.Linear(1, 1))
    DetectionCheckpointer(model).load(str(path))
    assert model.stem.conv1.weight.item() == 6.0


def test_heuristics_on_request(tmp_path):
    torch.save({"model": net(1.0).state_dict()}, tmp_path / "a.pth")
    model = nn.Sequential()
    model.add_module("backbone", net())
    checkpointer = DetectionCheckpointer(model)
    checkpointer.load(str(tmp_path / "a.pth"))
    assert model.backbone.head.bias.item() == 0.0
    checkpointer.load(f"{tmp_path / 'a.pth'}?matching_heuristics=True")
    assert model.backbone.head.bias.item() == 1.0
    with pytest.raises(ValueError, match="unknown options strict"):
        checkpointer.load(f"{tmp_path / 'a.pth'}?strict=True")


def test_weights_of_a_wrapped_model_lose_their_prefix(tmp_path):
    weights = net(1.0).state_dict(prefix="module.")
    torch.save({"model": weights}, tmp_path / "a.pth")
    model = net()
    DetectionCheckpointer(model).load(str(tmp_path / "a.pth"))
    assert sums(model) == sums(net(1.0))


class Evil:
    def __reduce__(self):
        return print, ("code from a checkpoint ran",)


@pytest.mark.parametrize("suffix", ["pth", "pkl"])
def test_code_in_a_file_is_not_run(tmp_path, capsys, suffix):
    path = tmp_path / f"a.{suffix}"
    data = {"model": {"body.bias": Evil()}, "__author__": "x"}
    with path.open("wb") as file:
        torch.save(data, file) if suffix == "pth" else pickle.dump(data, file)
    with pytest.raises(ValueError, match=f"a.{suffix} cannot be read as plain weights: .*print"):
        DetectionCheckpointer(net()).load(str(path))
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize("suffix", ["pth", "pkl"])
def test_broken_files_are_named(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    with path.open("wb") as file:
        (torch.save if suffix == "pth" else pickle.dump)({"model": {}}, file)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=f"a.{suffix} cannot be read as plain weights"):
        DetectionCheckpointer(net()).load(str(path))
    with pytest.raises(FileNotFoundError, match=f"no weights at .*none.{suffix}"):
        DetectionCheckpointer(net()).load(str(tmp_path / f"none.{suffix}"))


def test_periodic_checkpoints_keep_the_newest(tmp_path):
    checkpointer = DetectionCheckpointer(net(), str(tmp_path))
    periodic = PeriodicCheckpointer(checkpointer, period=2, max_iter=7, max_to_keep=2)
    for iteration in range(7):
        periodic.step(iteration)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "last_checkpoint",
        "model_0000003.pth",
        "model_0000005.pth",
        "model_final.pth",
    ]
    assert checkpointer.get_checkpoint_file().endswith("model_final.pth")
    assert torch.load(tmp_path / "model_0000005.pth", weights_only=True)["iteration"] == 5


@pytest.mark.parametrize("suffix", ["pth", "pkl"])
@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({1: 2}, "a int by the name of 1"),
        ({"model": {1: torch.zeros(1)}, "__author__": "x"}, "a Tensor by the name of 1"),
        ({"model": {"w": "text"}, "__author__": "x"}, "a str by the name of 'w'"),
        ({"model": [1], "__author__": "x"}, "no weights by name, but a list"),
        ([1, 2], "no weights by name, but a list"),
        ("text", "no weights by name, but a str"),
    ],
)
def test_files_of_something_else_are_named(tmp_path, suffix, content, named):
    path = tmp_path / f"a.{suffix}"
    if suffix == "pth":
        torch.save(content, path)
    else:
        named = named.replace("Tensor", "ndarray")
        path.write_bytes(pickle.dumps(as_arrays(content)))
    with pytest.raises(ValueError, match=rf"a\.{suffix} holds .*{named}"):
        DetectionCheckpointer(net()).load(str(path))


def as_arrays(content):
    if isinstance(content, dict):
        return {k: as_arrays(v) for k, v in content.items()}
    return content.numpy() if isinstance(content, torch.Tensor) else content


@pytest.mark.parametrize("suffix", ["pth", "pkl"])
@pytest.mark.parametrize(
    "content", [b"", b"notes on what I trained\n", b"PK\x03\x04 zip", b"\x80\x02"]
)
def test_a_file_that_holds_no_weights_takes_one_line(tmp_path, suffix, content):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.{suffix} cannot be read as plain weights") as raised:
        DetectionCheckpointer(net()).load(str(path))
    message = str(raised.value).removeprefix(str(path))
    assert len(message) < 120
    assert "\n" not in message
