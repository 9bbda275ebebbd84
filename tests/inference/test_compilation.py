import pytest
import torch
from torch import nn

from match_rcnn.inference import switches
from match_rcnn.inference.switches import compile_backbone, missing_compiler


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        return {"p2": self.conv(x).relu()}


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = Backbone()

    def forward(self, x):
        return self.backbone(x)["p2"]


@pytest.mark.skipif(bool(missing_compiler("cpu")), reason="no compiler here")
def test_the_backbone_runs_compiled_on_images_of_all_sizes():
    torch.manual_seed(0)
    plain, compiled = Model(), Model()
    compiled.load_state_dict(plain.state_dict())
    compile_backbone(compiled)
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph

    # Another backend than the default one: what matters here is what is compiled, and how often.
    compiled.backbone.compile(dynamic=True, backend=count)
    for height, width in ((16, 24), (24, 16), (20, 28)):
        images = torch.randn(2, 3, height, width)
        torch.testing.assert_close(compiled(images), plain(images))
    assert len(graphs) == 1
    assert list(compiled.state_dict()) == list(plain.state_dict())


def test_without_a_compiler_the_message_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(switches.shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match=r"needs a C\+\+ compiler .* or set MODEL.COMPILE False"):
        compile_backbone(Model())


def test_gpus_need_triton(monkeypatch):
    monkeypatch.setattr(switches.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(switches.importlib.util, "find_spec", lambda name: None)
    assert missing_compiler("cuda") == "triton"
    assert missing_compiler("cpu") == ""
