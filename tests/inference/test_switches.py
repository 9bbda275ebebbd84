import copy

import pytest
import torch
from torch import nn

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import Boxes, Instances
from match_rcnn.inference.switches import apply_switches, infer_in


class Model(nn.Module):
    """In place of a detector: what its convolution gives is an embedding."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.seen = []

    def forward(self, x):
        return {"loss": self._maps(x).sum()} if self.training else self.inference(x)

    def inference(self, x, do_postprocess=True):
        found = Instances((8, 8), pred_boxes=Boxes(torch.ones(1, 4)))
        found.embedding = self._maps(x).flatten(1)
        found.pred_classes = torch.tensor([2])
        return [{"instances": found}] if do_postprocess else [found]

    def _maps(self, x):
        y = self.conv(x)
        self.seen.append(y.dtype)
        if x.sum() == 0:
            raise RuntimeError("no image")
        return y


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Model()


def config(**values):
    cfg = get_match_rcnn_cfg()
    cfg.merge_from_list(
        [x for key, value in values.items() for x in (key.replace("__", "."), value)]
    )
    return cfg


IMAGE = torch.linspace(0, 1, 3 * 64).view(1, 3, 8, 8)


def test_inference_alone_is_in_low_precision_and_gives_float32(model):
    expected = model.eval()(IMAGE)[0]["instances"].embedding
    apply_switches(model, config(TEST__PRECISION="bfloat16"))
    found = model(IMAGE)[0]["instances"]
    assert model.seen == [torch.float32, torch.bfloat16]
    assert found.embedding.dtype == torch.float32
    assert found.pred_classes.dtype == torch.int64
    assert not torch.equal(found.embedding, expected)
    torch.testing.assert_close(found.embedding, expected, rtol=0.02, atol=0.02)

    assert model.train()(IMAGE)["loss"].dtype == torch.float32
    assert model.seen[-1] == torch.float32


def test_given_boxes_are_embedded_in_the_same_precision_as_found_ones(model):
    apply_switches(model.eval(), config(TEST__PRECISION="bfloat16"))
    found = model(IMAGE)[0]["instances"]
    (given,) = model.inference(IMAGE, do_postprocess=False)
    assert model.seen == [torch.bfloat16, torch.bfloat16]
    assert given.embedding.dtype == torch.float32
    assert torch.equal(given.embedding, found.embedding)


def test_a_copy_of_the_model_runs_its_own_weights(model):
    infer_in(model.eval(), "bfloat16")
    other = copy.deepcopy(model)
    other.conv.weight.data.zero_()
    other.conv.bias.data.zero_()
    assert not other(IMAGE)[0]["instances"].embedding.any()
    assert model(IMAGE)[0]["instances"].embedding.any()
    assert other.seen == [torch.bfloat16]


def test_a_model_without_an_inference_path_is_refused():
    with pytest.raises(ValueError, match=r"TEST\.PRECISION: Conv2d has no method inference"):
        infer_in(nn.Conv2d(3, 4, 3), "bfloat16")


def test_autocast_ends_with_the_forward_pass_even_if_that_fails(model):
    infer_in(model.eval(), "bfloat16")
    with pytest.raises(RuntimeError, match="no image"):
        model(torch.zeros(1, 3, 8, 8))
    assert not torch.is_autocast_enabled("cpu")
    model(IMAGE)
    assert not torch.is_autocast_enabled("cpu")


def test_channels_last(model):
    expected = model.eval()(IMAGE)[0]["instances"].embedding
    apply_switches(model, config(MODEL__CHANNELS_LAST=True))
    assert model.conv.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(model(IMAGE)[0]["instances"].embedding, expected)


def test_the_defaults_change_nothing(model):
    apply_switches(model.eval(), get_match_rcnn_cfg())
    model(IMAGE)
    assert model.seen == [torch.float32]
    assert "inference" not in vars(model)


def test_float16_needs_a_gpu(model):
    with pytest.raises(ValueError, match=r"TEST\.PRECISION float16 needs a GPU"):
        apply_switches(model, config(TEST__PRECISION="float16"))
