import pytest
import torch
from torch import nn

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import maybe_add_gradient_clipping
from match_rcnn.engine.steps import accumulate_step, check_accumulation
from match_rcnn.lite.engine import AMPTrainer, SimpleTrainer
from match_rcnn.lite.utils.events import EventStorage


class Model(nn.Module):
    """Two losses that are means over the batch's images."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 3)
        self.sizes = []

    def forward(self, batch):
        self.sizes.append(len(batch))
        out = self.layer(torch.stack(batch))
        return {"loss_a": out.square().mean(), "loss_b": 0.5 * out.abs().mean()}


def batches():
    generator = torch.Generator().manual_seed(1)
    while True:
        yield list(torch.randn(8, 4, generator=generator))


def trained(steps, kind=SimpleTrainer, iterations=3, clip=None, **options):
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), 0.5, 0.9)
    if clip is not None:
        cfg = get_match_rcnn_cfg()
        clipping = cfg.SOLVER.CLIP_GRADIENTS
        clipping.ENABLED, clipping.CLIP_TYPE, clipping.CLIP_VALUE = True, "norm", clip
        optimizer = maybe_add_gradient_clipping(cfg, optimizer)
    trainer = kind(model, batches(), optimizer, **options)
    with EventStorage() as storage:
        for trainer.iter in range(iterations):
            storage.iter = trainer.iter
            accumulate_step(trainer, steps)
        losses = storage.history("total_loss").values()
    return model, [value for value, _ in losses]


@pytest.mark.parametrize("steps", [2, 4, 8])
def test_parts_give_the_weights_and_losses_of_the_whole_batch(steps):
    (whole, losses), (parts, losses_of_parts) = trained(1), trained(steps)
    assert parts.sizes == [8 // steps] * steps * 3
    torch.testing.assert_close(parts.layer.weight, whole.layer.weight, rtol=1e-5, atol=1e-6)
    assert losses_of_parts == pytest.approx(losses, rel=1e-5)


@pytest.mark.parametrize("kind", [SimpleTrainer, AMPTrainer])
def test_clipping_is_of_the_whole_batch_s_gradient(kind):
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if kind is SimpleTrainer else {"rtol": 0, "atol": 4e-3}
    start, free = Model().layer.weight, trained(1, kind, 1)[0].layer.weight
    whole, parts = (trained(steps, kind, 1, clip=0.1)[0].layer.weight for steps in (1, 4))
    assert (free - start).norm() > 2 * (whole - start).norm()  # it did clip
    torch.testing.assert_close(parts, whole, **tolerance)
    assert (whole - start).norm() <= 0.5 * 0.1 + 1e-6  # rate times norm


def test_one_part_is_the_host_s_own_step():
    model = Model()
    trainer = SimpleTrainer(model, batches(), torch.optim.SGD(model.parameters(), 0.5, 0.9))
    with EventStorage():
        for trainer.iter in range(3):
            trainer.run_step()
    assert torch.equal(model.layer.weight, trained(1)[0].layer.weight)


def test_with_mixed_precision():
    whole, parts = trained(1, AMPTrainer)[0], trained(4, AMPTrainer)[0]
    assert not torch.equal(trained(1)[0].layer.weight, whole.layer.weight)  # bfloat16 was used
    torch.testing.assert_close(parts.layer.weight, whole.layer.weight, rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("images", "steps", "sampler", "message"),
    [
        (16, 1, "TrainingSampler", None),
        (16, 4, "TrainingSampler", None),
        (16, 4, "PairSampler", None),
        (16, 8, "PairSampler", "would split pairs"),  # two processes: parts of one image
        (16, 3, "TrainingSampler", "the 8 images .* must be a multiple of it"),
        (16, 0, "TrainingSampler", "ACCUMULATION_STEPS is 0"),
    ],
)
def test_what_cannot_be_cut_is_refused(images, steps, sampler, message):
    cfg = get_match_rcnn_cfg()
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.ACCUMULATION_STEPS = images, steps
    cfg.DATALOADER.SAMPLER_TRAIN = sampler
    if message is None:
        check_accumulation(cfg, world_size=2)
    else:
        with pytest.raises(ValueError, match=message):
            check_accumulation(cfg, world_size=2)
