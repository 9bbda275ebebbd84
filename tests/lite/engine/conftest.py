import itertools

import pytest
import torch
from torch import nn


class Line(nn.Module):
    """y = w x + b with the loss dict of a detector."""

    def __init__(self, weight=0.0):
        super().__init__()
        self.layer = nn.Linear(1, 1)
        nn.init.constant_(self.layer.weight, weight)
        nn.init.constant_(self.layer.bias, 0.0)

    def forward(self, batch):
        error = self.layer(batch) - 3 * batch
        return {"loss_square": error.square().mean(), "loss_absolute": error.abs().mean()}


class Batches:
    """Endless batches, each a function of its iteration; ``start`` is the first one's."""

    def __init__(self, start=0):
        self.start = start

    def __iter__(self):
        for iteration in itertools.count(self.start):
            generator = torch.Generator().manual_seed(iteration)
            yield torch.rand(4, 1, generator=generator)


@pytest.fixture
def line():
    return Line


@pytest.fixture
def batches():
    return Batches
