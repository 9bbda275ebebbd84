import pickle

import pytest

from match_rcnn.d2 import DetectionCheckpointer, build_model
from match_rcnn.inference.predictor import MatchRCNNPredictor


@pytest.fixture
def cfg(inputs):
    return inputs.config(inputs.TINY)


class Evil:
    def __reduce__(self):
        return print, ("code from a file of weights ran",)


@pytest.mark.parametrize("suffix", ["pkl", "pth"])
def test_neither_host_runs_what_a_file_of_weights_says(cfg, tmp_path, capsys, suffix):
    path = tmp_path / f"weights.{suffix}"
    path.write_bytes(pickle.dumps({"model": {"w": Evil()}, "__author__": "x"}, protocol=2))
    cfg.MODEL.WEIGHTS = str(path)
    for load in (
        lambda: MatchRCNNPredictor(cfg),
        lambda: DetectionCheckpointer(build_model(cfg)).load(str(path)),
    ):
        with pytest.raises(ValueError, match=rf"weights\.{suffix} cannot be read as plain weights"):
            load()
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize("suffix", ["pkl", "pth"])
def test_both_hosts_say_in_a_line_that_a_file_holds_no_weights(cfg, tmp_path, suffix):
    path = tmp_path / f"notes.{suffix}"
    path.write_text("notes on what I trained")
    with pytest.raises(ValueError, match=rf"notes\.{suffix} cannot be read") as raised:
        DetectionCheckpointer(build_model(cfg)).load(str(path))
    assert "\n" not in str(raised.value)
    path.write_bytes(pickle.dumps({1: 2}, protocol=2))
    with pytest.raises(ValueError, match=rf"notes\.{suffix} (holds a int|cannot be read)"):
        DetectionCheckpointer(build_model(cfg)).load(str(path))
