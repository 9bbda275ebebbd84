"""Retrieval by a changed wish: like this garment, but with another value of one attribute.

The protocol of the public code of attribute manipulation (amzn/fashion-attribute-disentanglement):
a query is a reference image, a type of attributes, and another value of it. All are asked whose
target, the reference's values with this one exchanged, some image satisfies completely. The gallery
is the whole set, the reference in it. Vectors of length 1 are compared by the Euclidean distance;
among equals the earlier image comes first.

Shapes: ``N`` images, ``T`` types, ``V`` values of all types, ``D`` length of vectors, ``Q``
queries.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from match_rcnn.data.crops import UNKNOWN
from match_rcnn.evaluation.recognition.rankings import among_best
from match_rcnn.utils.arrays import Array, FloatArray, IntArray

TOPS = (10, 30)
_BLOCK_BYTES = 1 << 26


@dataclass(frozen=True)
class Wishes:
    """Q queries.

    Attributes:
        reference: (Q,) image.
        type: (Q,) what is exchanged.
        value: (Q,) for what, from 0 within the type.
        target: (Q, T) values that are then right.
    """

    reference: IntArray
    type: IntArray
    value: IntArray
    target: IntArray

    def __len__(self) -> int:
        return len(self.reference)


def values_of(labels: Array, columns: list[IntArray]) -> IntArray:
    """(N, A) of 1 and others -> (N, T) the one value, from 0, that an image has of each type; -1
    where it has none or several. Args: columns: of each type, in ``A``."""
    found = []
    for own in columns:
        has = labels[:, own] == 1
        found.append(np.where(has.sum(1) == 1, has.argmax(1), UNKNOWN))
    return np.stack(found, 1)


def all_wishes(values: IntArray, sizes: list[int]) -> Wishes:
    """All queries whose target some image satisfies; of images whose values are all known.

    Args:
        values: (N, T), -1 where unknown.
        sizes: (T,) values of each type.
    """
    whole = np.flatnonzero((values != UNKNOWN).all(1))
    there = {tuple(row) for row in values[whole].tolist()}
    found = []
    for reference in whole.tolist():
        own = values[reference].tolist()
        for kind, size in enumerate(sizes):
            for value in range(size):
                target = (*own[:kind], value, *own[kind + 1 :])
                if value != own[kind] and target in there:
                    found.append((reference, kind, value, *target))
    rows = np.array(found, dtype=np.int64).reshape(len(found), 3 + len(sizes))
    return Wishes(rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3:])


def score_wishes(
    wishes: Wishes, queries: FloatArray, gallery: FloatArray, values: IntArray
) -> dict[str, float]:
    """``top30``: the share of queries with an image among the first 30 that has all values of the
    target. ``ndcg30``: gains 2^r - 1, r the share of the target's values that an image has, over
    the logarithm of rank + 1, as a share of 30 images with r = 1; ``ndcg30_target``: r of the
    exchanged value alone; ``ndcg30_others``: of the others. So for each of :data:`TOPS`.

    Args:
        queries: (Q, D).
        gallery: (N, D).
        values: (N, T) of the gallery.
    """
    most = min(max(TOPS), len(gallery))
    gallery = _unit(gallery)
    sums: dict[str, float] = {}
    block = max(1, _BLOCK_BYTES // (8 * len(gallery)))
    for start in range(0, len(wishes), block):
        part = slice(start, start + block)
        near = _unit(queries[part]) @ gallery.T
        first = np.nonzero(among_best(near, most))[1].reshape(-1, most)
        order = np.argsort(-np.take_along_axis(near, first, 1), axis=1, kind="stable")
        right = values[np.take_along_axis(first, order, 1)] == wishes.target[part, None]
        for name, found in _sums(right, wishes.type[part]).items():
            sums[name] = sums.get(name, 0.0) + found
    return {name: found / len(wishes) for name, found in sums.items()}


def _sums(right: Array, kinds: IntArray) -> dict[str, float]:
    """Sums over queries. Args: right: (Q, K, T) by rank and type; kinds: (Q,) exchanged types."""
    target = np.take_along_axis(right, kinds[:, None, None], 2)[..., 0]
    others = (right.sum(2) - target) / max(right.shape[2] - 1, 1)
    shares = {"": right.mean(2), "_target": target.astype(float), "_others": others}
    whole = right.min(2)
    found = {f"top{k}": float(whole[:, :k].any(1).sum()) for k in TOPS}
    for k in TOPS:
        discount = 1 / np.log2(np.arange(2, 2 + min(k, right.shape[1])))
        for name, share in shares.items():
            gains = (2 ** share[:, :k] - 1) @ discount
            found[f"ndcg{k}{name}"] = float(gains.sum() / discount.sum())
    return found


def score_manipulation(
    labels: Array, columns: list[IntArray], vectors: Array, changed: Array
) -> dict[str, Any]:
    """``changed``: scores of changed vectors; ``unchanged``: of the references' own, the baseline;
    and how many queries there are.

    Args:
        labels: (N, A) 1 where an image has an attribute.
        columns: of each type the attributes of its values, as the V follow one another.
        vectors: (N, D).
        changed: (N, V, D) with each value in the place of the own one of its type.
    """
    sizes = [len(own) for own in columns]
    values = values_of(labels, columns)
    wishes = all_wishes(values, sizes)
    if not len(wishes):
        return {"queries": 0, "gallery": len(vectors)}
    place = (np.cumsum(sizes) - sizes)[wishes.type] + wishes.value
    scores: dict[str, Any] = {"queries": len(wishes), "gallery": len(vectors)}
    scores["manipulation"] = {
        "changed": score_wishes(wishes, changed[wishes.reference, place], vectors, values),
        "unchanged": score_wishes(wishes, vectors[wishes.reference], vectors, values),
    }
    return scores


def _unit(vectors: Array) -> FloatArray:
    own = np.asarray(vectors, np.float64)
    length = np.linalg.norm(own, axis=-1, keepdims=True)
    unit: FloatArray = own / np.maximum(length, 1e-12)
    return unit
