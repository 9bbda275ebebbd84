import copy

import pytest
import torch
from torch import nn

from match_rcnn.lite.layers import (
    CNNBlockBase,
    Conv2d,
    FrozenBatchNorm2d,
    get_norm,
)


def trained_batch_norm(channels: int = 4) -> nn.BatchNorm2d:
    generator = torch.Generator().manual_seed(0)
    norm = nn.BatchNorm2d(channels, eps=1e-3)
    for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        tensor.copy_(torch.rand(channels, generator=generator) + 0.5)
    return norm.eval()


class TestFrozenBatchNorm2d:
    def test_fresh_is_the_identity(self):
        variance = torch.ones(3) - 1e-5  # as detectron2 writes it, bit for bit
        assert torch.equal(FrozenBatchNorm2d(3).running_var, variance)
        x = torch.rand(2, 3, 4, 5)
        torch.testing.assert_close(FrozenBatchNorm2d(3)(x), x)

    def test_by_hand(self):
        norm = FrozenBatchNorm2d(2, eps=1e-12)
        norm.weight.copy_(torch.tensor([2.0, 1]))
        norm.bias.copy_(torch.tensor([10.0, 0]))
        norm.running_mean.copy_(torch.tensor([1.0, 5]))
        norm.running_var.copy_(torch.tensor([4.0, 9]))
        x = torch.tensor([3.0, 11]).reshape(1, 2, 1, 1)
        # (3 - 1) / 2 * 2 + 10 and (11 - 5) / 3
        torch.testing.assert_close(norm(x).flatten(), torch.tensor([12.0, 2]))

    @pytest.mark.parametrize("learning_input", [False, True])
    def test_is_a_batch_norm_at_rest(self, learning_input):
        live = trained_batch_norm()
        frozen = FrozenBatchNorm2d.convert_frozen_batchnorm(copy.deepcopy(live))
        x = torch.rand(2, 4, 3, 3, requires_grad=learning_input)
        torch.testing.assert_close(frozen(x), live(x))
        if learning_input:
            frozen(x).sum().backward()
            expected = live.weight / (live.running_var + live.eps).sqrt()
            torch.testing.assert_close(x.grad[0, :, 0, 0], expected)

    def test_learns_nothing_and_keeps_its_statistics(self):
        norm = FrozenBatchNorm2d(3).train()
        assert not list(norm.parameters())
        assert sorted(norm.state_dict()) == ["bias", "running_mean", "running_var", "weight"]
        before = copy.deepcopy(norm.state_dict())
        norm(torch.rand(4, 3, 5, 5) * 100)
        assert all(torch.equal(before[k], v) for k, v in norm.state_dict().items())

    def test_half_precision_input(self):
        x = torch.rand(1, 3, 2, 2).to(torch.bfloat16).requires_grad_()
        assert FrozenBatchNorm2d(3)(x).dtype == torch.bfloat16

    def test_converts_deep_inside(self):
        net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(trained_batch_norm(), nn.ReLU()))
        x = torch.rand(1, 3, 5, 5)
        expected = net.eval()(x)
        assert FrozenBatchNorm2d.convert_frozen_batchnorm(net) is net
        assert isinstance(net[1][0], FrozenBatchNorm2d)
        torch.testing.assert_close(net(x), expected)

    def test_a_layer_that_learned_keeps_its_counter(self):
        net = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3, track_running_stats=False))
        net(torch.rand(2, 3, 2, 2))
        before = list(net[:1].state_dict())
        FrozenBatchNorm2d.convert_frozen_batchnorm(net)
        assert list(net[:1].state_dict()) == before  # detectron2 02b5c4e2 does so, 0.6 does not
        assert net[0].num_batches_tracked.item() == 1
        net[0].load_state_dict({**net[0].state_dict(), "num_batches_tracked": torch.tensor(7)})
        assert net[0].num_batches_tracked.item() == 7
        assert "1.num_batches_tracked" not in net.state_dict()

    def test_loads_a_learning_layer_s_state(self):
        live = trained_batch_norm()
        frozen = FrozenBatchNorm2d(4, eps=live.eps)
        frozen.load_state_dict(live.state_dict())  # strict: the counter is no surprise
        x = torch.rand(1, 4, 2, 2)
        torch.testing.assert_close(frozen(x), live(x))

    def test_files_without_version_need_no_statistics(self):
        frozen = FrozenBatchNorm2d(2)
        frozen.running_mean.fill_(7)
        frozen.load_state_dict({"weight": torch.ones(2), "bias": torch.zeros(2)})
        assert frozen.running_mean.tolist() == [0, 0]
        assert frozen.running_var.tolist() == [1, 1]

    def test_a_new_file_without_statistics_is_incomplete(self):
        state = FrozenBatchNorm2d(2).state_dict()
        del state["running_mean"]
        with pytest.raises(RuntimeError, match="running_mean"):
            FrozenBatchNorm2d(2).load_state_dict(state)


class TestGetNorm:
    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("BN", nn.BatchNorm2d),
            ("SyncBN", nn.SyncBatchNorm),
            ("FrozenBN", FrozenBatchNorm2d),
            ("GN", nn.GroupNorm),
        ],
    )
    def test_by_name(self, name, kind):
        norm = get_norm(name, 64)
        assert type(norm) is kind
        assert norm.train()(torch.rand(2, 64, 4, 4)).shape == (2, 64, 4, 4)

    def test_none_and_functions(self):
        assert get_norm("", 4) is None
        assert get_norm(None, 4) is None
        norm = get_norm(lambda channels: nn.GroupNorm(2, channels), 4)
        assert (norm.num_groups, norm.num_channels) == (2, 4)
        assert get_norm("GN", 64).num_groups == 32

    def test_unknown(self):
        with pytest.raises(ValueError, match=r"FrozenBN.*got 'Frozen'"):
            get_norm("Frozen", 4)


class _Block(CNNBlockBase):
    def __init__(self):
        super().__init__(3, 4, 2)
        self.conv = Conv2d(3, 4, 3, norm=get_norm("BN", 4))


class TestBlocks:
    def test_freeze(self):
        block = _Block()
        assert (block.in_channels, block.out_channels, block.stride) == (3, 4, 2)
        assert block.freeze() is block
        assert isinstance(block.conv.norm, FrozenBatchNorm2d)
        assert not any(p.requires_grad for p in block.parameters())
