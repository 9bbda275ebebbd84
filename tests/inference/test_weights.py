"""Weights by name: shipped, a file, an address with a checksum, a hub."""

import functools
import http.server
import sys
import threading
import types
from hashlib import sha256

import pytest
import torch

from match_rcnn.inference import weights
from match_rcnn.inference.predictor import MatchRCNNPredictor
from match_rcnn.inference.weights import find_weights, pack_model


@pytest.fixture
def address(model_file):
    """Of the model file's folder."""
    handler = functools.partial(_Quiet, directory=str(model_file.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/{model_file.name}"
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_shipped_models_by_name_but_files_first(model_file, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(weights, "shipped_models", lambda: {"coat": model_file})
    assert find_weights("coat") == model_file
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at hat.*\(coat\)"):
        find_weights("hat")
    (tmp_path / "coat").touch()
    assert find_weights("coat").name == "coat"


def test_an_address_needs_its_checksum_and_is_fetched_once(
    address, model_file, monkeypatch, tmp_path
):
    monkeypatch.setenv("MATCH_RCNN_CACHE", str(tmp_path))
    digest = sha256(model_file.read_bytes()).hexdigest()
    found = find_weights(f"{address}#sha256={digest}")
    assert found.read_bytes() == model_file.read_bytes()
    found.write_bytes(b"kept")
    assert find_weights(f"{address}#sha256={digest}").read_bytes() == b"kept"
    with pytest.raises(ValueError, match="say what is expected"):
        find_weights(address)
    other = "0" * 64
    with pytest.raises(ValueError, match=f"its sha256 is {digest}, not {other}"):
        find_weights(f"{address}#sha256={other}")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [found]


def test_a_hubs_file(model_file, monkeypatch):
    asked = []
    hub = types.SimpleNamespace(hf_hub_download=lambda *w: asked.append(w) or str(model_file))
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert find_weights("hf://shop/models/deep/coat.safetensors") == model_file
    assert asked == [("shop/models", "deep/coat.safetensors")]
    with pytest.raises(ValueError, match="expected hf://owner/repository/file"):
        find_weights("hf://shop/models")


def test_a_checkpoint_becomes_a_model_file(model_file, tmp_path):
    predictor = MatchRCNNPredictor.pretrained(model_file)
    state = predictor._predictor.model.state_dict()
    torch.save(
        {"model": state, "taxonomy": predictor.taxonomy.to_dict()}, tmp_path / "model_final.pth"
    )
    with pytest.raises(ValueError, match="says no config"):
        MatchRCNNPredictor.pretrained(tmp_path / "model_final.pth")
    (tmp_path / "config.yaml").write_text(predictor.cfg.dump())
    packed = tmp_path / "coat.safetensors"
    assert pack_model(tmp_path / "model_final.pth", packed) == len(state)
    again = MatchRCNNPredictor.pretrained(packed)
    found = again._predictor.model.state_dict()
    assert all(torch.equal(found[name], state[name]) for name in state)
    assert again.taxonomy == MatchRCNNPredictor.pretrained(tmp_path / "model_final.pth").taxonomy
