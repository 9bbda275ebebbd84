"""Searching a gallery on disk: all items exactly, and through approximate FAISS indexes.

The embeddings are random: a point of their category, one of their product, and noise for each
photo, all but the noise in few directions, and weights of the pair score that are mostly negative.
Queries are further photos of some of the products. Needs the [index] extra.
Times are medians of single searches (one query a call) with warm caches, metadata of the results
read. Recall is the share of the exact search's results that are found. "one category": only items
of the query's own category are searched for; "one in 1,000": only those with one value of a field,
each search with another.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.experiments.benchmarks.harness import Result
from match_rcnn.retrieval.gallery.gallery import Gallery
from match_rcnn.retrieval.gallery.index import KINDS
from match_rcnn.retrieval.gallery.items import GalleryItem, optional_module
from match_rcnn.retrieval.scoring import MatchScorer
from match_rcnn.utils.arrays import Float32Array

GOAL_MS = 10.0
_BLOCK = 2**14
_PHOTOS = 8  # of a product
_DIRECTIONS = 32
_NOISE = 0.4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--items", type=int, default=50_000, metavar="N")
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--queries", type=int, default=200, help="timed searches of an index")
    parser.add_argument("--top", type=int, default=20, metavar="K")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["ivf"])
    parser.add_argument("--target-recall", type=float, default=0.95)
    parser.add_argument("--folder", type=Path, help="for the gallery; a temporary one by default")


def run(args: argparse.Namespace) -> Result:
    optional_module("faiss")
    with tempfile.TemporaryDirectory(prefix="benchmark-gallery-", dir=args.folder) as folder:
        return _Benchmark(args, Path(folder) / "gallery").run()


class _Benchmark:
    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args = args
        self.folder = folder
        self.rng = np.random.default_rng(0)
        products = max(1, args.items // _PHOTOS)
        spread = self.rng.normal(size=(_DIRECTIONS, args.dim)) / np.sqrt(_DIRECTIONS)
        own = self.rng.normal(size=(products, _DIRECTIONS)) @ spread
        number = DEEPFASHION2.num_categories
        kinds = self.rng.normal(size=(number, _DIRECTIONS)) @ spread
        self.products = (own + kinds[np.arange(products) % number]).astype(np.float32)
        asked = self.rng.integers(0, products, args.queries)
        self.queries = self._photos(asked)
        self.categories = (asked % DEEPFASHION2.num_categories + 1).tolist()
        self.rows: list[dict[str, Any]] = []

    def run(self) -> Result:
        gallery, filling = _timed(self._fill)
        opening = self._median(lambda _: Gallery.open(self.folder), 5)
        disk = Gallery.open(self.folder, cache_bytes=0)
        self._note("exact, from disk", filling, self._time(disk, 3, "exact"), 1.0)
        memory = Gallery.open(self.folder, cache_bytes=2**62)
        exact = self._time(memory, 10, "exact")
        self._note("exact, in memory", filling, exact, 1.0)
        best = float("inf")
        for kind in self.args.kinds:
            took = self._measure(gallery, memory, kind)
            best = min(best, took if kind != "flat" else best)
        return self._result(exact, best, opening)

    def _measure(self, gallery: Gallery, memory: Gallery, kind: str) -> float:
        """Note an index's times and recall; returns the seconds of a search of all items."""
        index, number = partial(self._index, gallery, kind), self.args.queries
        info, building = _timed(index)
        gallery = Gallery.open(self.folder)  # as who only searches
        memory.refresh()
        took = self._time(gallery, number, "index")
        recall = memory.measure_recall(self.queries, self.args.top)
        self._note(f"{kind}, effort {info['effort']}", building, took, recall)
        filtered = self._time(gallery, number, "index", own_category=True)
        recalls = [
            memory.measure_recall(self.queries[np.equal(self.categories, c)], self.args.top, c)
            for c in set(self.categories)
        ]
        self._note(f"{kind}, one category", building, filtered, float(np.mean(recalls)))
        rare = self._median(lambda i: self._rare(gallery, i + 1, "index"), min(number, 500))
        same = [self._rare(gallery, 0, way) for way in ("index", "exact")]
        self._note(f"{kind}, one in 1,000", building, rare, float(same[0] == same[1]))
        return took

    def _rare(self, gallery: Gallery, value: int, method: str) -> Any:
        query = self.queries[value % len(self.queries)]
        return gallery.search(query, self.args.top, where=f"rare = {value % 1000}", method=method)

    def _result(self, exact: float, best: float, opening: float) -> Result:
        ratios = {} if best == float("inf") else {"exact in memory / index": exact / best}
        found = all(row["recall"] >= self.args.target_recall - 0.05 for row in self.rows)
        size = sum(p.stat().st_size for p in self.folder.rglob("*") if p.is_file())
        return Result(
            "gallery",
            self.rows,
            ratios,
            checks={f"every recall at least {self.args.target_recall - 0.05:.2f}": found},
            notes=[
                f"{self.args.items} items of {self.args.dim} numbers, top {self.args.top}",
                f"goal at 1,000,000 items on two cores: at most {GOAL_MS:g} ms a search",
                f"opening takes {1000 * opening:.1f} ms; {size / 2**20:.0f} MiB on disk",
                "build: filling the gallery for exact search, building and tuning for an index",
            ],
        )

    def _fill(self) -> Gallery:
        weight = -self.rng.uniform(0.2, 1, self.args.dim)
        weight[:: max(1, self.args.dim // 12)] *= -0.2
        gallery = Gallery.create(self.folder, MatchScorer(torch.from_numpy(weight)))
        gallery.add(self._items(), self._vectors())
        return gallery

    def _product(self, numbers: Any) -> Any:
        return np.minimum(numbers // _PHOTOS, len(self.products) - 1)

    def _items(self) -> Iterator[GalleryItem]:
        for n in range(self.args.items):
            kind = DEEPFASHION2.categories[self._product(n) % DEEPFASHION2.num_categories]
            fields = {"rare": n % 1000}
            yield GalleryItem(f"item-{n}", kind, f"{n}.jpg", (10, 20, 200, 300), 0.9, fields=fields)

    def _vectors(self) -> Iterator[Float32Array]:
        for start in range(0, self.args.items, _BLOCK):
            numbers = np.arange(start, min(start + _BLOCK, self.args.items))
            yield from self._photos(self._product(numbers))

    def _photos(self, products: Any) -> Float32Array:
        noise = self.rng.normal(0, _NOISE, (len(products), self.args.dim))
        return np.asarray(self.products[products] + noise, np.float32)

    def _time(self, gallery: Gallery, runs: int, method: str, own_category: bool = False) -> float:
        def search(i: int) -> None:
            i %= len(self.queries)
            category = self.categories[i] if own_category else None
            gallery.search(self.queries[i], self.args.top, category=category, method=method)

        return self._median(search, runs)

    def _index(self, gallery: Gallery, kind: str) -> dict[str, Any]:
        return gallery.build_index(kind, target_recall=self.args.target_recall, k=self.args.top)

    @staticmethod
    def _median(search: Callable[[int], Any], runs: int) -> float:
        search(0)
        return float(np.median([_timed(partial(search, i))[1] for i in range(runs)]))

    def _note(self, way: str, build: float, seconds: float, recall: float) -> None:
        row = {"search": way, "build s": build, "ms a search": 1000 * seconds, "recall": recall}
        self.rows.append(row)


def _timed(function: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start
