"""DeepFashion (2016) scored at full size: attribute recall and consumer-to-shop ranks.

The references are the definitions in plain loops, for a part of the work, scaled to all of it (both
are linear in the images): a stable sort of an image's attributes and a look through its first k,
and a stable sort of all distances of a query in double precision.
"""

import argparse
from typing import Any

import numpy as np

from match_rcnn.data.sources.deepfashion import ATTRIBUTE_TYPES
from match_rcnn.evaluation.recognition.rankings import attribute_recall
from match_rcnn.evaluation.recognition.retrieval import ranks
from match_rcnn.experiments.benchmarks.harness import Measurement, Result, alternate
from match_rcnn.utils.arrays import Array

#: How many attributes of each type there are in the whole list of 1,000.
TYPE_SIZES = (156, 218, 180, 216, 230)
TOPS = (3, 5)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=int, default=40000, metavar="N")
    parser.add_argument("--queries", type=int, default=47000, metavar="Q")
    parser.add_argument("--gallery", type=int, default=45000, metavar="G")
    parser.add_argument("--dim", type=int, default=256, metavar="D")
    parser.add_argument("--reference-images", type=int, default=400, help="measured by plain loops")
    parser.add_argument("--runs", type=int, default=1, help="timed runs; the median counts")


def run(args: argparse.Namespace) -> Result:
    rng = np.random.default_rng(0)
    attributes = _Attributes(rng, args.images, args.reference_images)
    retrieval = _Retrieval(rng, args.queries, args.gallery, args.dim, args.reference_images // 10)
    rows, ratios, checks = [], {}, {}
    for name, work in (("attribute recall", attributes), ("consumer-to-shop ranks", retrieval)):
        plain, ours = alternate([work.plain, work.ours], args.runs, warmup=0)
        scale = work.total / work.part
        rows += [_row(name, "plain loops", work.part, plain), _row(name, "ours", work.total, ours)]
        ratios[name] = plain.seconds * scale / ours.seconds
        checks[f"{name}: equal on {work.part} images"] = work.agrees()
    notes = [f"plain loops: a part of the images, the ratio is scaled to all; d = {args.dim}"]
    return Result("recognition", rows, ratios=ratios, goals={}, checks=checks, notes=notes)


def _row(what: str, way: str, images: int, measured: Measurement) -> dict[str, Any]:
    seconds, peak = measured.seconds, measured.peak_mib
    return {"what": what, "way": way, "images": images, "seconds": seconds, "peak MiB": peak}


class _Attributes:
    """Scores with equals among them, three positives an image, some unknown."""

    def __init__(self, rng: np.random.Generator, images: int, part: int) -> None:
        self.total, self.part = images, min(part, images)
        width = sum(TYPE_SIZES)
        self.types = np.repeat(np.arange(1, len(TYPE_SIZES) + 1), TYPE_SIZES)
        self.scores = rng.integers(0, 2000, (images, width)).astype(np.float32)
        self.labels = np.full((images, width), -1, dtype=np.int8)
        self.labels[np.arange(images)[:, None], rng.integers(0, width, (images, 3))] = 1
        self.labels[np.arange(images)[:, None], rng.integers(0, width, (images, 5))] *= 0

    def ours(self) -> None:
        self._recall(slice(None))

    def _recall(self, rows: slice) -> dict[str, dict[int, float | None]]:
        labels, scores = self.labels[rows], self.scores[rows]
        return attribute_recall(scores, labels, self.types, ATTRIBUTE_TYPES, TOPS)

    def plain(self) -> None:
        groups = {
            name: np.flatnonzero(self.types == i) for i, name in enumerate(ATTRIBUTE_TYPES, 1)
        }
        groups["all_ranked"] = np.arange(len(self.types))
        self.found = {name: self._plain_recall(own) for name, own in groups.items()}

    def _plain_recall(self, own: Array) -> dict[int, float | None]:
        hits, total = dict.fromkeys(TOPS, 0), 0
        for row in range(self.part):
            scores, labels = self.scores[row, own].tolist(), self.labels[row, own].tolist()
            order = sorted(range(len(own)), key=lambda i: -scores[i])
            total += labels.count(1)
            for k in TOPS:
                hits[k] += sum(labels[i] == 1 for i in order[:k])
        return {k: hits[k] / total if total else None for k in TOPS}

    def agrees(self) -> bool:
        ours = self._recall(slice(self.part))
        return all(ours[name] == recall for name, recall in self.found.items())


class _Retrieval:
    """Two right gallery images for each query, near it; some gallery images twice."""

    def __init__(
        self, rng: np.random.Generator, queries: int, gallery: int, dim: int, part: int
    ) -> None:
        self.total, self.part = queries, max(1, min(part, queries))
        self.gallery = rng.normal(size=(gallery, dim)).astype(np.float32)
        self.gallery[rng.integers(0, gallery, gallery // 10)] = self.gallery[0]
        self.right = rng.integers(0, gallery, (queries, 2))
        noise = rng.normal(size=(queries, dim)).astype(np.float32)
        self.queries = self.gallery[self.right].mean(1) + 0.7 * noise

    def ours(self) -> None:
        self.found = self._ranks(self.total)

    def _ranks(self, count: int) -> Array:
        query = np.repeat(np.arange(count), 2)
        return ranks(self.queries[:count], self.gallery, query, self.right[:count].ravel())

    def plain(self) -> None:
        exact = self.gallery.astype(np.float64)
        self.expected = np.empty((self.part, 2), dtype=np.int64)
        for row in range(self.part):
            order = np.square(exact - self.queries[row]).sum(1).argsort(kind="stable")
            place = np.empty(len(order), dtype=np.int64)
            place[order] = np.arange(len(order))
            self.expected[row] = place[self.right[row]]

    def agrees(self) -> bool:
        return bool((self.found[: 2 * self.part] == self.expected.ravel()).all())
