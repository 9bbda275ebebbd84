"""A graph over the similarities of regions (GRNet): all candidates of a query, against plain loops.

Windows of 1, 2 and 4 a side and 128 numbers: 273 nodes a pair. The plain way takes one pair of
garments after the other, one pair of regions and one node after the other.
"""

import argparse
from collections.abc import Callable
from typing import Any

import torch

from match_rcnn.experiments.benchmarks.harness import Result, alternate
from match_rcnn.modeling.similarity import RegionGraph

Tensor = torch.Tensor

#: Seconds for 100 candidates of a query.
LIMIT = 0.1
_TOLERANCE = 1e-5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--candidates", type=int, default=100, metavar="N")
    parser.add_argument("--reference", type=int, default=10, help="candidates of the plain way")
    parser.add_argument("--scales", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--dim", type=int, default=128, help="numbers of a region and of a node")
    parser.add_argument("--steps", type=int, default=2, help="of reasoning")
    parser.add_argument("--runs", type=int, default=5, help="timed runs; the median counts")


@torch.inference_mode()
def run(args: argparse.Namespace) -> Result:
    torch.manual_seed(0)
    widths = {"channels": args.dim, "region_dim": args.dim, "node_dim": args.dim}
    graph = RegionGraph(**widths, scales=args.scales, steps=args.steps).eval()
    maps = torch.rand(1 + args.candidates, args.dim, 14, 14)
    regions = graph.describe(maps.mean((2, 3)), maps)["regions"]
    query, items = regions[:1], regions[1:]
    few = items[: args.reference]
    ways: dict[str, Callable[[], Any]] = {
        "plain loops": lambda: plain_scores(graph, query[0], few),
        "ours": lambda: graph({"regions": query}, {"regions": items[None]}),
    }
    plain, ours = alternate(list(ways.values()), args.runs)
    difference = float((ways["ours"]()[0, : len(few)] - ways["plain loops"]()).abs().max())
    scale = len(items) / len(few)
    rows = [
        {"way": way, "candidates": n, "ms": 1000 * m.seconds, "peak MiB": m.peak_mib}
        for way, n, m in (("plain loops", len(few), plain), ("ours", len(items), ours))
    ]
    nodes = sum(side**4 for side in args.scales)
    return Result(
        "similarity",
        rows,
        ratios={
            "plain loops": scale * plain.seconds / ours.seconds,
            "100 ms for 100 candidates": LIMIT / (100 / len(items) * ours.seconds),
        },
        goals={"100 ms for 100 candidates": 1.0},
        checks={f"largest difference {difference:.1e} <= {_TOLERANCE}": difference <= _TOLERANCE},
        notes=[f"{nodes} nodes a pair, {args.steps} steps, {torch.get_num_threads()} threads"],
    )


def plain_scores(graph: RegionGraph, query: Tensor, items: Tensor) -> Tensor:
    """(R, C), (K, R, C) -> (K,) scores of the graph, by loops."""
    return torch.stack([_plain_score(graph, query, item) for item in items])


def _plain_score(graph: RegionGraph, query: Tensor, item: Tensor) -> Tensor:
    nodes, start = [], 0
    for count in graph.regions:
        own = range(start, start + count)
        squares = [(query[i] - item[j]) ** 2 for i in own for j in own]
        found = [graph.project(square) for square in squares]
        nodes += [node / node.norm() for node in found]
        start += count
    for step in graph.steps:
        looking, seen = step.get_submodule("outward"), step.get_submodule("inward")
        targets, values = torch.stack([seen(node) for node in nodes]), torch.stack(nodes)
        edges = ((targets @ looking(node)).softmax(0) for node in nodes)
        nodes = [torch.relu(step.get_submodule("mix")(edge @ values)) for edge in edges]
    score: Tensor = graph.score(nodes[0])[0]
    return score
