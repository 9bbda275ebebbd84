"""Match scores and the best 20 of each query: the pairwise network against one matrix product.

Ways, on the same embeddings, all in blocks of bounded memory:

- the pairwise network: differences of all pairs, squared, through the layer of two logits, then
  top-k; for some queries only, and scaled to all of them (it is linear in their number);
- a plain matrix product of that size, with top-k and without, in torch and in numpy;
- ours: exact scores in exact order (``MatchScorer.top_k``).
"""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from match_rcnn.experiments.benchmarks.harness import Measurement, Result, alternate
from match_rcnn.retrieval.scoring import MatchScorer, TopK

Tensor = torch.Tensor

GOALS = {"pairwise network": 50.0, "plain product with top-k": 0.8}
TOP = 20
_ROWS = 256
_PAIRS = 2**15


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--queries", type=int, default=12377, metavar="Q")
    parser.add_argument("--gallery", type=int, default=36961, metavar="G")
    parser.add_argument("--dim", type=int, default=256, metavar="D")
    parser.add_argument("--pairwise-queries", type=int, default=100, help="measured pair by pair")
    parser.add_argument("--runs", type=int, default=3, help="timed runs; the median counts")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")


def run(args: argparse.Namespace) -> Result:
    queries, gallery, classifier = _problem(args.queries, args.gallery, args.dim, args.device)
    few = queries[: args.pairwise_queries]
    weight, bias = classifier.weight.detach(), classifier.bias.detach()
    scorer = MatchScorer(weight[1].double() - weight[0].double(), bias.double().diff())
    found: dict[str, Any] = {}
    ways: dict[str, Callable[[], Any]] = {
        "pairwise network": lambda: found.update(pairwise=pairwise_top(few, gallery, classifier)),
        "plain product": lambda: plain_product(queries, gallery, top=0),
        "plain product with top-k": lambda: plain_product(queries, gallery, TOP),
        "ours": lambda: found.update(ours=scorer.top_k(queries, gallery, TOP)),
    }
    if args.device == "cpu":
        ways["plain product, numpy"] = lambda: numpy_product(queries.numpy(), gallery.numpy())
    timed = {name: _synchronized(way, args.device) for name, way in ways.items()}
    measured = dict(zip(ways, alternate(list(timed.values()), args.runs), strict=True))
    seconds = {name: m.seconds for name, m in measured.items()}
    scale = len(queries) / len(few)
    ratios = {name: s / seconds["ours"] for name, s in seconds.items() if name != "ours"}
    ratios["pairwise network"] *= scale
    return Result(
        "retrieval",
        [
            _row(name, m, len(few) if "pairwise" in name else len(queries), args.gallery)
            for name, m in measured.items()
        ],
        ratios=ratios,
        goals=dict(GOALS),
        checks=_checks(few, gallery, scorer, found["ours"], found["pairwise"]),
        notes=[
            f"d = {args.dim}; the pairwise network's ratio is its time for {len(few)} queries, "
            f"times {scale:g}"
        ],
    )


def _row(name: str, measured: Measurement, queries: int, gallery: int) -> dict[str, Any]:
    return {
        "way": name,
        "queries": queries,
        "gallery": gallery,
        "seconds": measured.seconds,
        "peak MiB": measured.peak_mib,
    }


def _synchronized(way: Callable[[], Any], device: str) -> Callable[[], Any]:
    if device == "cpu":
        return way

    def whole() -> None:
        way()
        torch.cuda.synchronize()

    return whole


def _problem(queries: int, gallery: int, dim: int, device: str) -> tuple[Tensor, Tensor, nn.Linear]:
    """Embeddings of photos of products, far from 0 as a layer's outputs may be, and a layer of two
    logits whose weights' difference has either sign."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    products = 2 + normal(max(1, gallery // 3), dim)
    photos = [
        products[torch.randint(len(products), (number,), generator=generator)]
        + 0.7 * normal(number, dim)
        for number in (queries, gallery)
    ]
    classifier = nn.Linear(dim, 2)
    with torch.no_grad():
        classifier.weight.copy_(0.1 * normal(2, dim))
        classifier.weight[0] += 0.1
        classifier.bias.copy_(normal(2))
    return photos[0].to(device), photos[1].to(device), classifier.to(device)


@torch.no_grad()
def pairwise_top(queries: Tensor, gallery: Tensor, classifier: nn.Linear) -> TopK:
    """The match network as it is written down, pair by pair."""
    step = max(1, _PAIRS // len(queries))
    scores = []
    for items in gallery.split(step):
        logits = classifier((queries[:, None] - items[None]).square())
        scores.append(logits[..., 1] - logits[..., 0])
    return TopK(*torch.cat(scores, dim=1).topk(min(TOP, len(gallery)), dim=1))


def plain_product(queries: Tensor, gallery: Tensor, top: int) -> None:
    """A product of this size, with nothing around it."""
    for rows in queries.split(_ROWS):
        block = rows @ gallery.T
        if top:
            block.topk(min(top, len(gallery)), dim=1)


def numpy_product(queries: np.ndarray[Any, Any], gallery: np.ndarray[Any, Any]) -> None:
    """The same with numpy's library."""
    for start in range(0, len(queries), _ROWS):
        np.matmul(queries[start : start + _ROWS], gallery.T)


def _checks(
    few: Tensor, gallery: Tensor, scorer: MatchScorer, ours: TopK, pairwise: TopK
) -> dict[str, bool]:
    """Ours against the difference form in float64; the pairwise network's places may be off by its
    own rounding."""
    weight = scorer.weight.to(few.device)
    exact = torch.stack(
        [((gallery.double() - q.double()).square() * weight).sum(1) + scorer.bias for q in few]
    )
    order = exact.sort(dim=1, descending=True, stable=True).indices[:, :TOP]
    size = (exact.abs().amax() + 1).item()
    off = (exact.gather(1, pairwise.indices) - exact.gather(1, order)).abs().amax().item()
    mine = ours.indices[: len(few)]
    return {
        f"top-{TOP} of {len(few)} queries are those of float64": bool((mine == order).all()),
        f"the pairwise network's are the same but for ties ({off / size:.0e} of the scores)": (
            off < 1e-5 * size
        ),
    }
