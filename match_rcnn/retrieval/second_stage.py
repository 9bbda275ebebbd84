"""The second stage of a search: a similarity orders the first candidates that the vectors found.

What the first stage did not put among them, it cannot bring back: how many queries have a right
item there, the *shortlist's recall*, bounds what it can reach.

Shapes: ``Q`` queries, ``K`` candidates of each, ``m`` different ones among a block of queries'.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from match_rcnn.modeling.similarity import Similarity
from match_rcnn.utils.arrays import FloatArray, IntArray

#: ((m,) rows, name) -> (m, *shape) that feature of these items.
Read = Callable[[IntArray, str], Any]

_NUMBERS = 2**24  # of candidates' features that are held at once


class SecondStage(NamedTuple):
    """How candidates are ordered.

    Attributes:
        similarity: of the model that made the features, in eval mode.
        features: (Q, *shape) of the queries, by name.
        shortlist: so many of the best candidates are ordered.
    """

    similarity: Similarity
    features: Mapping[str, Any]
    shortlist: int = 100

    def checked(self, queries: int) -> "SecondStage":
        """Raises: ValueError: it does not fit the similarity, or so many queries."""
        if self.shortlist < 1:
            raise ValueError(f"a shortlist has at least 1 item, got {self.shortlist}")
        wanted = {n: (queries, *shape) for n, shape in self.similarity.features().items()}
        given = {n: np.shape(self.features[n]) for n in wanted.keys() & self.features.keys()}
        if given != wanted:
            raise ValueError(f"the similarity compares features {wanted}, the queries have {given}")
        return self

    def reordered(
        self, scores: FloatArray, rows: IntArray, read: Read
    ) -> tuple[FloatArray, IntArray, FloatArray]:
        """(Q, K) scores and rows with the shortlist in the similarity's order, equal ones as they
        were; and what it says, NaN of those behind the shortlist. Raises: ValueError: it is NaN."""
        similarities = np.full(rows.shape, np.nan)
        short = rows[:, : self.shortlist]
        numbers = sum(map(math.prod, self.similarity.features().values()))
        step = max(1, _NUMBERS // max(1, short.shape[1] * numbers))
        for start in range(0, len(rows) if short.size else 0, step):
            part = slice(start, start + step)
            similarities[part, : short.shape[1]] = self._compare(part, short[part], read)
        order = np.argsort(-similarities, axis=1, kind="stable")
        scores = np.take_along_axis(scores, order, 1)
        rows = np.take_along_axis(rows, order, 1)
        return scores, rows, np.take_along_axis(similarities, order, 1)

    @torch.no_grad()
    def _compare(self, part: slice, rows: IntArray, read: Read) -> FloatArray:
        unique, places = np.unique(rows, return_inverse=True)
        device = next((p.device for p in self.similarity.parameters()), torch.device("cpu"))
        queries, items = {}, {}
        for name in self.similarity.features():
            asked, found = np.asarray(self.features[name])[part], read(unique, name)
            queries[name] = _tensor(asked, device)
            items[name] = _tensor(found[places.reshape(rows.shape)], device)
        answers: FloatArray = self.similarity(queries, items).double().cpu().numpy()
        if not np.isfinite(answers).all():
            raise ValueError("the similarity of some candidates is not a finite number")
        return answers


def _tensor(values: Any, device: torch.device) -> torch.Tensor:
    found = torch.from_numpy(values).to(device)
    return found.float() if found.is_floating_point() else found
