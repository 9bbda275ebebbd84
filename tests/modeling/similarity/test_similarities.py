"""Similarities against plain loops: values, gradients, chunks, bad input."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from match_rcnn.config import similarity_keys
from match_rcnn.d2 import ShapeSpec
from match_rcnn.modeling.similarity import (
    CATEGORY,
    PairNetwork,
    ProductSimilarity,
    RegionGraph,
    build_similarity,
)

CLOSE = {"rtol": 1e-9, "atol": 1e-9}


def generator(seed):
    return torch.Generator().manual_seed(seed)


def filled(module, seed=0):
    """In double precision, with every parameter drawn, so that none hides behind a 0."""
    module = module.double()
    with torch.no_grad():
        for i, parameter in enumerate(module.parameters()):
            values = torch.randn(parameter.shape, generator=generator(100 * seed + i))
            parameter.copy_(values / max(1, parameter.shape[-1] if parameter.dim() else 1) ** 0.5)
    return module


def drawn(similarity, *leading, seed=0, categories=3):
    found = {}
    for i, (name, shape) in enumerate(similarity.features().items()):
        own = generator(1000 * seed + i)
        if name == CATEGORY:
            found[name] = torch.randint(-1, categories, leading, generator=own)
        else:
            found[name] = torch.randn(*leading, *shape, generator=own).double()
    return found


def slow_product(similarity, q, g):
    score = similarity.bias
    for w, a, b in zip(similarity.weight, q["vector"], g["vector"], strict=True):
        score = score + w * (a - b) ** 2
    return score


def slow_network(similarity, q, g):
    query, item = (2 * x["vector"] / sum(v * v for v in x["vector"]) ** 0.5 for x in (q, g))
    x = [*query, *item]
    if similarity.pair_input == "symmetric":
        both = list(zip(query, item, strict=True))
        x = [abs(a - b) for a, b in both] + [a * b for a, b in both]
    for i, layer in enumerate(similarity.layers):
        weight, bias = layer.weight, layer.bias
        if similarity.copies and q[CATEGORY] >= 0:
            weight = weight + similarity.differences[2 * i][q[CATEGORY]]
            bias = bias + similarity.differences[2 * i + 1][q[CATEGORY]]
        outputs = [sum(w * a for w, a in zip(row, x, strict=True)) for row in weight]
        x = [a + b for a, b in zip(outputs, bias, strict=True)]
        if i < len(similarity.layers) - 1:
            x = [a.clamp(min=0) for a in x]
    return x[0]


def slow_step(step, nodes):
    """One reasoning step, edge by edge."""
    seen = [step.inward.weight @ node for node in nodes]
    heard = []
    for node in nodes:
        looking = step.outward.weight @ node
        edges = [(looking @ other).exp() for other in seen]
        total = sum(edges)
        summed = sum(edge / total * other for edge, other in zip(edges, nodes, strict=True))
        heard.append((step.mix.weight @ summed + step.mix.bias).clamp(min=0))
    return heard


def slow_graph(similarity, q, g):
    nodes, start = [], 0
    for scale in similarity.scales:
        own = range(start, start + scale**2)
        for i in own:
            for j in own:
                square = (q["regions"][i] - g["regions"][j]) ** 2
                node = similarity.project.weight @ square + similarity.project.bias
                nodes.append(node / node.norm())
        start += scale**2
    for step in similarity.steps:
        nodes = slow_step(step, nodes)
    return similarity.score.weight[0] @ nodes[0] + similarity.score.bias[0]


def graph(scales=(1, 2), steps=2):
    return RegionGraph(channels=5, scales=scales, region_dim=4, node_dim=3, steps=steps)


CASES = {
    "product": (lambda: ProductSimilarity(dim=4), slow_product),
    "symmetric": (lambda: PairNetwork(dim=4, hidden_dims=[5, 3]), slow_network),
    "concat": (lambda: PairNetwork(dim=4, hidden_dims=[5], pair_input="concat"), slow_network),
    "copies": (lambda: PairNetwork(dim=4, hidden_dims=[5, 3], copies=3), slow_network),
    "graph": (graph, slow_graph),
    "a graph of other scales": (lambda: graph((1, 3), 0), slow_graph),
    "a graph of one node": (lambda: graph((1,), 1), slow_graph),
}


@pytest.mark.parametrize("case", CASES)
@settings(max_examples=3, deadline=None)
@given(
    seed=st.integers(0, 99),
    queries=st.integers(1, 2),
    candidates=st.integers(1, 2),
    at_once=st.integers(1, 5),
)
def test_scores_equal_a_plain_loop_whatever_is_computed_at_once(
    case, seed, queries, candidates, at_once
):
    make, slow = CASES[case]
    similarity = filled(make(), seed)
    similarity.pairs_at_once = at_once
    q, g = drawn(similarity, queries, seed=seed), drawn(similarity, queries, candidates, seed=1)
    found = similarity(q, g)
    for i in range(queries):
        for j in range(candidates):
            own = {name: value[i] for name, value in q.items()}
            offered = {name: value[i, j] for name, value in g.items()}
            torch.testing.assert_close(found[i, j], slow(similarity, own, offered), **CLOSE)


@pytest.mark.parametrize("case", ["symmetric", "copies", "graph"])
def test_gradients_equal_the_loop_s(case):
    make, slow = CASES[case]
    similarity = filled(make())
    q, g = drawn(similarity, 1), drawn(similarity, 1, 2, seed=1)
    if case == "copies":
        q[CATEGORY][0] = 1
    name = next(iter(q))
    leaves = [q[name].requires_grad_(), g[name].requires_grad_()]
    made_before = "reduce"  # by describe
    leaves += [
        p
        for n, p in similarity.named_parameters()
        if p.requires_grad and not n.startswith(made_before)
    ]
    weights = torch.tensor([1.0, -2.0]).double()
    found = torch.autograd.grad(similarity(q, g)[0] @ weights, leaves)
    rows = [{n: v[0, j] for n, v in g.items()} for j in range(2)]
    own = {n: v[0] for n, v in q.items()}
    slowly = weights @ torch.stack([slow(similarity, own, row) for row in rows])
    for one, other in zip(found, torch.autograd.grad(slowly, leaves), strict=True):
        torch.testing.assert_close(one, other, **CLOSE)


def test_a_step_with_all_nodes_equals_a_loop():
    step = filled(graph().steps[0])
    nodes = torch.randn(2, 6, 3, generator=generator(3)).double()
    found = step(nodes, nodes)
    for one, own in zip(found, nodes, strict=True):
        torch.testing.assert_close(one, torch.stack(slow_step(step, list(own))), **CLOSE)


def test_nodes_of_equal_regions_have_finite_gradients():
    similarity = graph()
    torch.nn.init.zeros_(similarity.project.bias)
    regions = torch.ones(1, 5, 4, requires_grad=True)
    similarity({"regions": regions}, {"regions": regions[:, None]}).sum().backward()
    assert torch.isfinite(regions.grad).all()


def test_regions_are_windows_of_length_1():
    similarity = graph((1, 2))
    maps = torch.randn(2, 5, 4, 4, generator=generator(0))
    found = similarity.describe(torch.zeros(2, 9), maps)["regions"]
    windows = [maps, *(maps[:, :, y : y + 2, x : x + 2] for y in (0, 2) for x in (0, 2))]
    expected = torch.stack([similarity.reduce(w.mean((2, 3))) for w in windows], 1)
    expected = expected / expected.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(found, expected)


def test_a_symmetric_network_does_not_ask_who_asks():
    similarity = filled(PairNetwork(dim=4))
    one, other = (drawn(similarity, 3, seed=seed)["vector"] for seed in (0, 1))
    there = similarity({"vector": one}, {"vector": other[:, None]})
    back = similarity({"vector": other}, {"vector": one[:, None]})
    torch.testing.assert_close(there, back, **CLOSE)


def test_copies_start_as_the_shared_network_and_learn_alone():
    shared, copied = PairNetwork(dim=4), PairNetwork(dim=4, copies=2)
    missing = copied.load_state_dict(shared.state_dict(), strict=False).missing_keys
    assert all(name.startswith("differences") for name in missing)
    q, g = drawn(copied, 3, categories=2), drawn(copied, 3, 2, seed=1, categories=2)
    q, g = ({n: v.float() if v.is_floating_point() else v for n, v in x.items()} for x in (q, g))
    torch.testing.assert_close(copied(q, g), shared(q, g))
    learning = [name for name, p in copied.named_parameters() if p.requires_grad]
    assert learning == missing


@pytest.mark.parametrize("case", CASES)
def test_without_candidates_there_are_no_scores(case):
    similarity = CASES[case][0]().double()
    assert similarity(drawn(similarity, 2), drawn(similarity, 2, 0)).shape == (2, 0)
    assert similarity(drawn(similarity, 0), drawn(similarity, 0, 4)).shape == (0, 4)


@pytest.mark.parametrize(
    ("queries", "items", "message"),
    [
        ({}, {}, "the queries have no feature 'regions', which the similarity RegionGraph"),
        (
            {"regions": torch.zeros(1, 5, 4)},
            {"vector": torch.zeros(1, 1, 4)},
            "the candidates have no feature 'regions'.* there is vector",
        ),
        (
            {"regions": torch.zeros(1, 5, 4)},
            {"regions": torch.zeros(1, 1, 21, 4)},
            r"the candidates have a feature 'regions' of shape \(21, 4\).* takes \(5, 4\)",
        ),
    ],
)
def test_features_that_are_not_there(queries, items, message):
    with pytest.raises(ValueError, match=message):
        graph()(queries, items)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["NAME", "Nothing"], "SIMILARITY.NAME must be one of PairNetwork, ProductSimilarity, Reg"),
        (["GRAPH.SCALES", [2, 4]], r"windows a side that begin with 1.*got \[2, 4\]"),
        (["GRAPH.SCALES", [1, 4, 2]], "and rise"),
        (["GRAPH.SCALES", []], "begin with 1"),
        (["GRAPH.STEPS", -1], "0 or more, got -1"),
        (["NAME", "PairNetwork", "PAIR.INPUT", "both"], "PAIR.INPUT must be one of"),
        (["NAME", "PairNetwork", "PAIR.HIDDEN_DIMS", []], "HIDDEN_DIMS is empty"),
        (["NAME", "PairNetwork", "PAIR.PER_CATEGORY", True], "needs categories"),
    ],
)
def test_bad_settings(keys, message):
    node = similarity_keys()
    node.merge_from_list(keys)
    with pytest.raises(ValueError, match=message):
        build_similarity(node, 4, ShapeSpec(5, 4, 4), 0)


def test_a_graph_needs_maps():
    with pytest.raises(ValueError, match="RegionGraph needs maps"):
        build_similarity(similarity_keys(), 4, None, 0)


@pytest.mark.parametrize("name", ["RegionGraph", "PairNetwork", "ProductSimilarity"])
def test_what_is_described_is_what_is_needed(name):
    node = similarity_keys()
    node.merge_from_list(["NAME", name])
    similarity = build_similarity(node, 4, ShapeSpec(5, 6, 6), 3)
    found = similarity.describe(torch.rand(2, 4), torch.rand(2, 5, 6, 6))
    assert {n: tuple(v.shape[1:]) for n, v in found.items()} == similarity.features()
