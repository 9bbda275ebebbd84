import math

import numpy as np
import pytest
import torch

from match_rcnn.modeling.attribute_loss import attribute_loss, attribute_weights

# Attributes that 1 of 4, 2 of 4 and 0 of 4 garments have; of the last two are unknown.
COUNTS = torch.tensor([[3, 2, 2], [1, 2, 0]])


@pytest.mark.parametrize(
    ("balance", "expected"),
    [
        ("none", [[1, 1, 1], [1, 1, 1]]),
        # 7 negatives and 3 positives: each side weighs 5.
        ("all", [[5 / 7] * 3, [5 / 3] * 3]),
        # 3 and 1: 2 each; nobody has the last.
        ("each", [[4 / 6, 1, 1], [4 / 2, 1, 1]]),
    ],
)
def test_weights_by_hand(balance, expected):
    found = attribute_weights(COUNTS, balance)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    labels_weigh = (COUNTS * found).sum() / COUNTS.sum()
    assert float(labels_weigh) == pytest.approx(1)


def test_an_unknown_balance():
    with pytest.raises(ValueError, match="one of all, each, none; got 'some'"):
        attribute_weights(COUNTS, "some")


def slow_loss(logits, labels, weights):
    values = []
    for row, own in zip(logits.tolist(), labels.tolist(), strict=True):
        for a, (logit, label) in enumerate(zip(row, own, strict=True)):
            if label:
                chance = 1 / (1 + math.exp(-logit))
                value = -math.log(chance if label == 1 else 1 - chance)
                values.append(value * float(weights[int(label == 1), a]))
    return sum(values) / len(values)


def test_loss_and_gradient():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 3, generator=generator, requires_grad=True)
    labels = torch.randint(-1, 2, (5, 3), generator=generator).to(torch.int8)
    weights = attribute_weights(COUNTS, "each")
    loss = attribute_loss(logits, labels, weights)
    assert float(loss.detach()) == pytest.approx(slow_loss(logits, labels, weights), rel=1e-5)
    loss.backward()
    assert torch.equal(logits.grad == 0, labels == 0)
    with torch.no_grad():
        logits[labels == 0] = 50.0
    assert float(attribute_loss(logits, labels, weights).detach()) == pytest.approx(
        float(loss.detach()), rel=1e-6
    )


@pytest.mark.parametrize("count", [0, 2])
def test_nothing_known_costs_nothing_and_has_gradients(count):
    logits = torch.ones(count, 3, requires_grad=True)
    loss = attribute_loss(logits, torch.zeros(count, 3, dtype=torch.int8), torch.ones(2, 3))
    loss.backward()
    assert loss == 0
    assert not logits.grad.any()
