"""Retrieval on DeepFashion (2016): in-shop and consumer-to-shop, from one vector an image.

The Euclidean distance orders a gallery, the earlier image first among equals. Distances count as
equal when they are equal in double precision, whatever the order of a fast product's sums: the
product (single precision) decides what it can, and what lies within its error is computed again.

Shapes: ``Q`` queries, ``G`` gallery images, ``d`` the vectors' length, ``R`` pairs of a query and
an image that is right for it.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from match_rcnn.data.sources.deepfashion import Pairs, Partition
from match_rcnn.utils.arrays import IntArray

Vectors = npt.NDArray[np.floating]

TOPS = (1, 5, 10, 20, 30, 40, 50)
_BLOCK_BYTES = 1 << 27


@dataclass(frozen=True)
class Task:
    """Who is searched for, where, and what is right.

    Attributes:
        queries, gallery: image names, each once.
        query, right: (R,) indices into them: a query and a gallery image that is right for it, by
            query, then by gallery image.
    """

    queries: list[str]
    gallery: list[str]
    query: IntArray
    right: IntArray

    @property
    def without_match(self) -> int:
        """Queries for which nothing in the gallery is right."""
        return len(self.queries) - len(np.unique(self.query))


def in_shop_task(partition: Partition) -> Task:
    """In-shop: the query images, the gallery images; right is the same item.

    Raises:
        ValueError: there is no query or no gallery image.
    """
    query, gallery = partition.of("query"), partition.of("gallery")
    return _task(
        list(zip(partition.images[query], partition.items[query], strict=True)),
        list(zip(partition.images[gallery], partition.items[gallery], strict=True)),
    )


def consumer_to_shop_task(pairs: Pairs) -> Task:
    """Consumer-to-shop: the consumer photos of the test pairs search all shop photos of validation
    and test pairs (the data set's README). Each photo counts once, in order of first appearance.

    Raises:
        ValueError: there is no test pair.
    """
    test = pairs.split == "test"
    shops = test | (pairs.split == "val")
    if not test.any():
        raise ValueError("list_eval_partition.txt has no pair of the split 'test'")
    return _task(
        list(zip(pairs.consumer[test], pairs.items[test], strict=True)),
        list(zip(pairs.shop[shops], pairs.items[shops], strict=True)),
    )


def _task(queries: Sequence[tuple[str, str]], gallery: Sequence[tuple[str, str]]) -> Task:
    """From (image, item) pairs; an image may show several items, and stand there several times."""
    wanted, offered = _items_by_image(queries), _items_by_image(gallery)
    by_item: dict[Hashable, list[int]] = defaultdict(list)
    for i, items in enumerate(offered.values()):
        for item in items:
            by_item[item].append(i)
    rows, rights = [], []
    for i, items in enumerate(wanted.values()):
        right = sorted({g for item in items for g in by_item.get(item, ())})
        rows += [i] * len(right)
        rights += right
    return Task(
        [str(name) for name in wanted],
        [str(name) for name in offered],
        np.array(rows, dtype=np.int64),
        np.array(rights, dtype=np.int64),
    )


def _items_by_image(pairs: Iterable[tuple[str, str]]) -> dict[str, dict[str, None]]:
    images: dict[str, dict[str, None]] = {}
    for image, item in pairs:
        images.setdefault(image, {})[item] = None
    return images


def ranks(queries: Vectors, gallery: Vectors, query: IntArray, right: IntArray) -> IntArray:
    """(R,) the rank, from 0, of gallery image ``right`` in the order of ``query``.

    Args:
        queries: (Q, d).
        gallery: (G, d).
        query: (R,) ascending.
    """
    found = np.zeros(len(query), dtype=np.int64)
    block = max(1, _BLOCK_BYTES // (4 * max(1, len(gallery))))
    # Distances do not change, and the product's error falls with the vectors' length.
    centre = gallery.mean(0, dtype=np.float64) if len(gallery) else 0.0
    moved = (gallery - centre).astype(np.float32)
    columns, squares = np.ascontiguousarray(moved.T), np.square(moved).sum(1)
    longest = float(np.sqrt(squares.max(initial=0)))
    for start in range(0, len(queries), block):
        low, high = np.searchsorted(query, (start, start + block))
        if low == high:
            continue
        rows = (queries[start : start + block] - centre).astype(np.float32)
        near = squares - 2 * (rows @ columns)
        # Of sums of d products in single precision and of their factors' rounding.
        unit = np.finfo(np.float32).eps / 2
        errors = 2 * (rows.shape[1] + 8) * unit * longest * (np.linalg.norm(rows, axis=1) + longest)
        for i in range(low, high):
            row = int(query[i])
            values, error = near[row - start], float(errors[row - start])
            found[i] = _rank(values, error, queries[row], gallery, int(right[i]))
    return found


def _rank(near: Vectors, error: float, query: Vectors, gallery: Vectors, right: int) -> int:
    """How many gallery images come before ``right``.

    Args:
        near: (G,) squared distances, less the query's own square, to within ``error``.
    """
    own = float(near[right])
    unsure = np.flatnonzero(np.abs(near - own) <= 2 * error)
    before = int((near < own - 2 * error).sum())
    exact = np.square(gallery[unsure].astype(np.float64) - query).sum(1)
    distance = exact[np.searchsorted(unsure, right)]
    return before + int((exact < distance).sum() + ((exact == distance) & (unsure < right)).sum())


def reordered(task: Task, found: IntArray, order: IntArray) -> IntArray:
    """(R,) ranks once the first K images of each query stand in another order.

    Args:
        found: (R,) of :func:`ranks`.
        order: (Q, K) the first K gallery images of each query in their new order.
    """
    places = order[task.query] == task.right[:, None]
    behind = np.maximum(found, order.shape[1])
    return np.where(places.any(1), places.argmax(1), behind) if places.size else found


def score_ranks(task: Task, found: IntArray, tops: Sequence[int] = TOPS) -> dict[str, Any]:
    """``hit@k`` (any right image among the first k), ``recall@k`` (the share of the right images
    that are), and the mean average precision over the whole order: means over all queries; one
    without a right image has missed.

    Args:
        found: (R,) of :func:`ranks`.
    """
    total = len(task.queries)
    counts = np.bincount(task.query, minlength=total)
    hits, recalls = {}, {}
    for k in tops:
        within = np.bincount(task.query[found < k], minlength=total)
        hits[str(k)] = float((within > 0).mean())
        recalls[str(k)] = float((within / counts.clip(min=1)).mean())
    order = np.lexsort((found, task.query))
    first = (np.cumsum(counts) - counts)[task.query[order]]
    precision = (np.arange(len(found)) - first + 1) / (found[order] + 1)
    summed = np.bincount(task.query[order], weights=precision, minlength=total)
    return {
        "queries": total,
        "gallery": len(task.gallery),
        "queries_without_match": task.without_match,
        "hit": hits,
        "recall": recalls,
        "map": float((summed / counts.clip(min=1)).mean()),
    }
