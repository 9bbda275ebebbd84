import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from match_rcnn.lite.modeling.box_regression import (
    Box2BoxTransform,
    dense_box_regression_loss,
)
from match_rcnn.lite.structures import Boxes

PLAIN = Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0))
WEIGHTED = Box2BoxTransform(weights=(10.0, 10.0, 5.0, 5.0))


def test_deltas_by_hand():
    source = torch.tensor([[0.0, 0.0, 10.0, 20.0]])
    target = torch.tensor([[5.0, 5.0, 25.0, 15.0]])
    # Centres (5, 10) and (15, 10), sizes (10, 20) and (20, 10).
    expected = [10 * (15 - 5) / 10, 0.0, 5 * math.log(2), 5 * math.log(0.5)]
    deltas = WEIGHTED.get_deltas(source, target)
    torch.testing.assert_close(deltas, torch.tensor([expected]))
    torch.testing.assert_close(WEIGHTED.apply_deltas(deltas, source), target)


def test_growth_is_bounded_and_shrinking_is_not():
    source = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    x1, y1, x2, y2 = PLAIN.apply_deltas(torch.tensor([[0.0, 0.0, 99.0, -99.0]]), source)[0]
    assert float(x2 - x1) == pytest.approx(1000, rel=1e-5)
    assert float(y2 - y1) == pytest.approx(0, abs=1e-5)


def test_decoding_is_in_float32():
    # 2049 has no half-precision neighbour but 2048 and 2050.
    source = torch.tensor([[2049.0, 0.0, 2051.0, 2.0]])
    boxes = PLAIN.apply_deltas(torch.zeros(1, 4, dtype=torch.float16), source)
    assert boxes.dtype == torch.float32
    assert boxes.tolist() == source.tolist()


def test_several_boxes_a_row():
    source = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 2.0, 4.0]])
    deltas = torch.tensor([[0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]]).repeat(2, 1)
    boxes = PLAIN.apply_deltas(deltas, source)
    assert boxes[:, :4].tolist() == source.tolist()
    assert boxes[:, 4:].tolist() == [[10.0, 0.0, 20.0, 10.0], [2.0, 0.0, 4.0, 4.0]]
    assert PLAIN.apply_deltas(deltas[:0], source[:0]).shape == (0, 8)


def test_a_source_without_width_is_an_error():
    flat = torch.tensor([[3.0, 0.0, 3.0, 5.0]])
    with pytest.raises(ValueError, match="remove empty ground-truth boxes"):
        PLAIN.get_deltas(flat, flat)


boxes_strategy = hnp.arrays(
    np.float32, st.tuples(st.integers(0, 5), st.just(4)), elements=st.integers(1, 60)
).map(lambda a: torch.from_numpy(np.concatenate([a[:, :2], a[:, :2] + a[:, 2:]], axis=1)))


@given(boxes_strategy, st.sampled_from([PLAIN, WEIGHTED]))
def test_round_trip(targets, transform):
    sources = torch.tensor([[10.0, 20.0, 40.0, 50.0]]).expand(len(targets), 4)
    deltas = transform.get_deltas(sources, targets)
    torch.testing.assert_close(
        transform.apply_deltas(deltas, sources), targets, atol=1e-3, rtol=1e-4
    )


def dense_loss(fg_mask, pred, beta=0.0):
    anchors = [Boxes(torch.tensor([[0.0, 0, 10, 10]])), Boxes(torch.tensor([[10.0, 10, 30, 30]]))]
    gt = torch.tensor([[5.0, 0, 15, 10], [10.0, 10, 50, 30]])
    # The second image's first anchor has no ground truth: rows outside the mask may be anything.
    gts = [gt, torch.tensor([[0.0, 0, 0, 0], [10.0, 10, 30, 30]])]
    return dense_box_regression_loss(anchors, PLAIN, pred, gts, fg_mask, beta)


def test_l1_by_hand():
    pred = [torch.zeros(2, 1, 4, requires_grad=True), torch.zeros(2, 1, 4, requires_grad=True)]
    mask = torch.tensor([[True, True], [False, True]])
    # Anchor 0: dx = 5/10. Anchor 1: dx = 10/20, dw = log 2. Image 1: nothing to move.
    loss = dense_loss(mask, pred)
    loss.backward()
    assert loss.item() == pytest.approx(0.5 + 0.5 + math.log(2))
    assert pred[0].grad.tolist() == [[[-1.0, 0, 0, 0]], [[0.0, 0, 0, 0]]]


def test_smooth_l1_by_hand():
    pred = [torch.zeros(2, 1, 4), torch.zeros(2, 1, 4)]
    mask = torch.tensor([[True, False], [False, False]])
    assert float(dense_loss(mask, pred, beta=1.0)) == pytest.approx(0.5 * 0.5**2)


def test_no_foreground_is_zero_with_a_gradient():
    pred = [torch.zeros(2, 1, 4, requires_grad=True), torch.zeros(2, 1, 4, requires_grad=True)]
    loss = dense_loss(torch.zeros(2, 2, dtype=torch.bool), pred)
    loss.backward()
    assert loss.item() == 0
    assert float(pred[0].grad.abs().sum()) == 0
