import pytest
import torch
from torch import nn
from torch.nn import functional as F

from match_rcnn.lite import layers
from match_rcnn.lite.layers import (
    Conv2d,
    ShapeSpec,
    cat,
    cross_entropy,
    nonzero_tuple,
)


class TestConv2d:
    def test_order_is_convolution_norm_activation(self):
        conv = Conv2d(1, 1, 1, bias=False, norm=nn.BatchNorm2d(1), activation=F.relu).eval()
        with torch.no_grad():
            conv.weight.fill_(2.0)
            conv.norm.bias.fill_(-3.0)
            conv.norm.running_var.fill_(1 - conv.norm.eps)
        x = torch.tensor([[[[1.0, 2, 5]]]])
        torch.testing.assert_close(conv(x), torch.tensor([[[[0.0, 1, 7]]]]))

    def test_names_of_parameters(self):
        conv = Conv2d(3, 4, 3, norm=nn.GroupNorm(2, 4))
        assert list(conv.state_dict()) == ["weight", "bias", "norm.weight", "norm.bias"]

    def test_alone_it_is_torch_s(self):
        conv = Conv2d(2, 3, 3, stride=2, padding=1)
        x = torch.rand(1, 2, 7, 7)
        assert torch.equal(conv(x), F.conv2d(x, conv.weight, conv.bias, 2, 1))

    def test_empty_batch_keeps_its_gradient(self):
        conv = Conv2d(2, 3, 3, padding=1, norm=nn.GroupNorm(1, 3))
        out = conv(torch.zeros(0, 2, 8, 8))
        assert out.shape == (0, 3, 8, 8)
        out.sum().backward()
        assert conv.weight.grad is not None
        assert not conv.weight.grad.any()


def test_torch_s_own():
    assert layers.ConvTranspose2d is nn.ConvTranspose2d
    assert layers.Linear is nn.Linear
    assert layers.BatchNorm2d is nn.BatchNorm2d
    assert layers.interpolate is F.interpolate


def test_cat():
    one = torch.rand(2, 3)
    assert cat([one]) is one
    assert cat([one, one], dim=1).shape == (2, 6)
    assert cat((one, one)).shape == (4, 3)
    with pytest.raises(ValueError, match="generator"):
        cat(t for t in [one])


class TestCrossEntropy:
    def test_as_torch_s(self):
        logits, target = torch.rand(4, 3), torch.tensor([0, 2, 1, 1])
        for reduction in ("mean", "sum", "none"):
            expected = F.cross_entropy(logits, target, reduction=reduction)
            assert torch.equal(cross_entropy(logits, target, reduction=reduction), expected)
        weight = torch.tensor([1.0, 2, 3])
        expected = F.cross_entropy(logits, target, weight=weight)
        assert torch.equal(cross_entropy(logits, target, weight=weight), expected)

    def test_nothing_gives_0_with_a_gradient(self):
        logits = torch.zeros(0, 3, requires_grad=True)
        loss = cross_entropy(logits, torch.zeros(0, dtype=torch.long))
        assert loss.item() == 0
        loss.backward()
        assert logits.grad is not None
        assert cross_entropy(logits, torch.zeros(0).long(), reduction="none").shape == (0,)


def test_nonzero_tuple():
    rows, columns = nonzero_tuple(torch.tensor([[0, 1], [2, 0]]))
    assert (rows.tolist(), columns.tolist()) == ([0, 1], [1, 0])
    (scalar,) = nonzero_tuple(torch.tensor(True))
    assert scalar.tolist() == [0]
    (scalar,) = nonzero_tuple(torch.tensor(False))
    assert scalar.tolist() == []


def test_shape_spec():
    spec = ShapeSpec(channels=256, stride=4)
    assert (spec.channels, spec.stride, spec.height, spec.width) == (256, 4, None, None)
    assert spec == ShapeSpec(channels=256, stride=4)
