"""Recurrence along chains of landmarks against a loop over nodes, and which chains there may be."""

import pytest
import torch
from torch.nn import functional as F

from match_rcnn.data.sources.deepfashion import KINEMATIC_CHAINS, SLOTS, SYMMETRY_CHAINS
from match_rcnn.modeling.recognition.grammar import Grammar, numbers

CHAINS = numbers((*KINEMATIC_CHAINS, *SYMMETRY_CHAINS), SLOTS)


def grammar(chains, number, dim=2, kernel=3):
    torch.manual_seed(0)
    found = Grammar(chains, number, dim, kernel).double()
    with torch.no_grad():
        found.leave.normal_()
        found.bias.normal_()
    return found


def slow_chain(maps, chain, layer, direction, dim):
    """The messages of one chain, one way: a loop over its nodes with plain convolutions."""
    own = slice(direction * dim, (direction + 1) * dim)
    enter, hidden, bias = layer.enter[own], layer.hidden[own], layer.bias[own]
    leave, padding = layer.leave[direction : direction + 1], layer.enter.shape[-1] // 2
    state = torch.zeros(len(maps), dim, *maps.shape[2:], dtype=maps.dtype)
    for step, node in enumerate(chain):
        total = F.conv2d(maps[:, node : node + 1], enter, bias, padding=padding)
        if step:
            total = total + F.conv2d(state, hidden, padding=padding)
        state = F.relu(total)
        yield node, F.conv2d(state, leave, padding=padding)


def slow_grammar(maps, chains, layer, dim):
    """Of each landmark, the mean over its chains of what they say both ways, added to its map."""
    rows = []
    for node in range(maps.shape[1]):
        said = [torch.zeros_like(maps[:, :1])]
        # Weights are in the order of the chains' lengths, forth and back beside each other.
        for i, chain in enumerate(sorted(chains, key=len, reverse=True)):
            forth = dict(slow_chain(maps, chain, layer, 2 * i, dim))
            back = dict(slow_chain(maps, chain[::-1], layer, 2 * i + 1, dim))
            if node in chain:
                said.append(forth[node] + back[node])
        rows.append(maps[:, node : node + 1] + sum(said) / max(len(said) - 1, 1))
    return torch.cat(rows, 1)


@pytest.mark.parametrize(
    ("chains", "number", "kernel"),
    [
        ([(0, 1, 2)], 3, 3),
        ([(2, 0), (0, 1, 3, 2)], 5, 1),  # of several lengths; landmark 4 is in none
        (CHAINS, 8, 5),
    ],
)
def test_the_recurrence_equals_a_loop_over_nodes(chains, number, kernel):
    layer = grammar(chains, number, kernel=kernel)
    one = torch.randn(2, number, 4, 5, dtype=torch.float64, requires_grad=True)
    other = one.detach().clone().requires_grad_()
    fast, slow = layer(one), slow_grammar(other, chains, layer, 2)
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-10)
    weights = torch.randn_like(fast)
    found = torch.autograd.grad((weights * fast).sum(), [one, *layer.parameters()])
    expected = torch.autograd.grad((weights * slow).sum(), [other, *layer.parameters()])
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9 * float(b.abs().max()))


def test_gradients_by_differences():
    layer = grammar([(0, 1, 2), (1, 2)], 3)
    maps = torch.randn(1, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (maps,))


def test_a_message_reaches_the_chain_s_other_end_and_no_other_chain():
    layer = grammar([(0, 1, 2), (3, 4)], 5, dim=8)
    maps = torch.randn(1, 5, 4, 4, dtype=torch.float64)
    changed = maps.clone()
    changed[:, 0] = torch.randn(4, 4)
    moved = (layer(changed) - layer(maps)).abs().amax((0, 2, 3)) > 0
    assert moved.tolist() == [True, True, True, False, False]


def test_the_chains_of_the_paper():
    left, right = (0, 4, 6), (1, 5, 7)
    assert [left, (0, 2), right, (1, 3), (0, 1), (2, 3), (4, 5), (6, 7)] == CHAINS
    mirrored = {tuple(sorted(i ^ 1 for i in chain)) for chain in CHAINS}
    assert mirrored == {tuple(sorted(chain)) for chain in CHAINS}


@pytest.mark.parametrize(
    ("chain", "message"),
    [
        (["left_hem", "left_knee"], "names no landmark by 'left_knee'; there are left_collar, "),
        (["left_hem"], "expected chains of two landmarks or more, got"),
        (["left_hem", "right_hem", "left_hem"], "expected chains of two landmarks or more"),
        ("left_hem", "expected chains of two landmarks or more, got 'left_hem'"),
    ],
)
def test_a_chain_that_is_none(chain, message):
    with pytest.raises(ValueError, match="LANDMARKS.CHAINS: .*" + message):
        numbers([["left_hem", "right_hem"], chain], SLOTS)


@pytest.mark.parametrize(("dim", "kernel"), [(0, 3), (4, 2)])
def test_bad_sizes(dim, kernel):
    with pytest.raises(ValueError, match="GRAMMAR_KERNEL must be odd"):
        Grammar([(0, 1)], 2, dim, kernel)
