"""Landmark pooling against plain loops, gates, and losses worked out by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from match_rcnn.data.sources.deepfashion import SLOTS
from match_rcnn.modeling.recognition.landmarks import (
    Landmarks,
    LocalBranch,
    landmark_pool,
    position_loss,
    visibility_loss,
)

UNKNOWN = -1


def slow_pool(maps, xy, gate, window, resolution):
    """One garment, one landmark, one part of its window after the other."""
    n, channels, height, width = maps.shape
    rows = []
    for i in range(n):
        for j in range(xy.shape[1]):
            x, y = (min(max(float(v), 0.0), 1.0) for v in xy[i, j])
            left = math.floor(x * width - window / 2 + 0.5)
            top = math.floor(y * height - window / 2 + 0.5)
            parts = []
            for p in range(resolution):
                for q in range(resolution):
                    ys = part(top, p, window, resolution, height)
                    xs = part(left, q, window, resolution, width)
                    cells = [maps[i, :, y, x] for y in ys for x in xs]
                    none = maps.new_zeros(channels)
                    parts.append(torch.stack(cells).amax(0) if cells else none)
            pooled = torch.stack(parts, 1).view(channels, resolution, resolution)
            rows.append(pooled * gate[i, j])
    return torch.stack(rows).view(n, xy.shape[1], channels, resolution, resolution)


def part(first, p, window, resolution, side):
    begin = first + math.floor(p * window / resolution)
    end = first + math.ceil((p + 1) * window / resolution)
    return [cell for cell in range(begin, end) if 0 <= cell < side]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    height=st.integers(3, 9),
    width=st.integers(3, 9),
    window=st.integers(1, 5),
    data=st.data(),
)
def test_pooling_equals_a_loop_and_so_does_its_gradient(seed, height, width, window, data):
    resolution = data.draw(st.integers(1, window))
    generator = torch.Generator().manual_seed(seed)
    xy = 1.4 * torch.rand(2, 3, 2, generator=generator) - 0.2  # some beyond the edges
    gate = (torch.rand(2, 3, generator=generator) > 0.4).float()
    # Distinct values: the loop and the kernel must choose the same maximum.
    maps = torch.randperm(2 * 4 * height * width, generator=generator).float()
    one = maps.view(2, 4, height, width).requires_grad_()
    other = one.detach().clone().requires_grad_()
    found = landmark_pool(one, xy, gate, window=window, resolution=resolution)
    expected = slow_pool(other, xy, gate, window, resolution)
    assert torch.equal(found, expected)
    weights = torch.rand(found.shape, generator=generator)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(one.grad, other.grad, rtol=1e-6, atol=1e-6)


def test_a_gradient_in_double_precision():
    maps = torch.rand(1, 2, 6, 6, dtype=torch.double, requires_grad=True)
    xy, gate = torch.rand(1, 3, 2, dtype=torch.double), torch.tensor([[1.0, 0.0, 0.5]])
    for pooler in ("max", "align"):
        torch.autograd.gradcheck(
            lambda m, p=pooler: landmark_pool(m, xy, gate, window=3, resolution=2, pooler=p),
            (maps,),
            nondet_tol=1e-9,
        )


def test_align_of_a_constant_map_is_the_constant():
    maps = torch.full((1, 2, 8, 8), 3.0)
    xy = torch.full((1, 1, 2), 0.5)
    found = landmark_pool(maps, xy, torch.ones(1, 1), window=4, resolution=2, pooler="align")
    torch.testing.assert_close(found, torch.full((1, 1, 2, 2, 2), 3.0))


def test_hidden_landmarks_respond_with_0_and_no_gradient_moves_them():
    maps = 1 + torch.rand(1, 2, 6, 6)
    xy = torch.full((1, 2, 2), 0.5, requires_grad=True)
    found = landmark_pool(maps, xy, torch.tensor([[1.0, 0.0]]), window=3, resolution=3)
    assert (found[0, 1] == 0).all()
    assert (found[0, 0] > 0).all()
    assert not found.requires_grad


@pytest.mark.parametrize(
    ("kind", "expected"), [("hard", [1.0, 0.0]), ("soft", [0.7, 0.5]), ("none", [1.0, 1.0])]
)
def test_gates(kind, expected):
    landmarks = Landmarks(torch.zeros(1, 2, 2), torch.tensor([[0.7, 0.5]]))
    torch.testing.assert_close(landmarks.gate(kind), torch.tensor([expected]))


def test_an_oracle_is_sure_of_what_is_visible():
    slots = torch.tensor([[[0.2, 0.3, v] for v in (0.0, 1.0, 2.0, 3.0)]])
    given = Landmarks.given(slots)
    assert given.gate("hard").tolist() == [[1, 0, 0, 0]]
    assert torch.equal(given.xy, slots[..., :2])


def test_positions_count_where_visible_and_garments_where_labelled():
    xy = torch.full((3, 8, 2), 0.5)
    slots = torch.zeros(3, 8, 3)
    slots[..., 2] = 3
    slots[0, 0] = torch.tensor([0.5, 0.7, 0])  # 0.04
    slots[0, 1] = torch.tensor([0.2, 0.1, 0])  # 0.09 + 0.16
    slots[0, 2] = torch.tensor([0.0, 0.0, 1])  # occluded
    slots[2, :, 2] = UNKNOWN  # a garment without landmarks
    torch.testing.assert_close(position_loss(xy, slots), torch.tensor(0.29 / 2))


def test_visibility_is_a_choice_among_four_and_unlabelled_ones_cost_nothing():
    logits = torch.zeros(2, 8, 4)
    logits[0, 0] = torch.tensor([math.log(3.0), 0, 0, 0])
    slots = torch.zeros(2, 8, 3)
    slots[1, :, 2] = UNKNOWN
    expected = (math.log(6 / 3) + 7 * math.log(4)) / 8
    torch.testing.assert_close(visibility_loss(logits, slots), torch.tensor(expected))
    slots[0, :, 2] = UNKNOWN
    logits.requires_grad_()
    loss = visibility_loss(logits, slots)
    loss.backward()
    assert loss == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gate": "some"}, "GATE must be one of hard, soft, none; got 'some'"),
        ({"pooler": "mean"}, "POOLER must be one of max, align; got 'mean'"),
        ({"window": 0}, "WINDOW and RESOLUTION must be at least 1, got 0 and 2"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        LocalBranch(**{"channels": 2, "fc_dims": [4], "window": 4, "resolution": 2, **options})


def test_the_local_branch_sees_all_windows():
    branch = LocalBranch(channels=2, fc_dims=[5], window=3, resolution=2)
    assert branch.fcs[0].in_features == len(SLOTS) * 2 * 4
    landmarks = Landmarks(torch.rand(3, len(SLOTS), 2), torch.ones(3, len(SLOTS)))
    assert branch(torch.rand(3, 2, 6, 6), landmarks).shape == (3, 5)
