"""Retrieval results of a run: accuracy whole and by subset, and which retrieved items are right."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from match_rcnn.evaluation.retrieval.files import (
    RetrievalTruth,
    query_subsets,
    read_retrieval_truth,
    read_retrieved,
)
from match_rcnn.evaluation.retrieval.protocol import (
    THRESHOLD,
    TOPS,
    RetrievalScores,
    Retrieved,
    corner_ious,
    partners,
    representatives,
    score_retrieval,
)
from match_rcnn.utils.arrays import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class RetrievalPart:
    """Attributes:
    standing: (Q,) the detection that stands for each query item, -1: none.
    """

    truth: RetrievalTruth
    retrieved: Retrieved
    scores: RetrievalScores
    standing: IntArray

    def metrics(self) -> dict[str, float]:
        """Percent: ``top1`` ..., ``top1-occlusion-heavy`` ..., ``top1-more_than_five`` ..."""
        every = np.ones(len(self.scores), dtype=bool)
        named = query_subsets(self.truth, self.scores)
        groups = {"": every, **{f"-{name}": among for name, among in named.items()}}
        return {
            f"top{k}{suffix}": 100 * value
            for suffix, among in groups.items()
            for k, value in self.scores.accuracy(among).items()
        }

    def partners(self, query: int) -> int:
        """How many gallery items match the query."""
        items = self.scores.items[query : query + 1]
        return int(partners(self.truth.queries, self.truth.gallery, items)[0])

    def right(self, query: int) -> BoolArray:
        """(length,) which of the items retrieved for the query are right."""
        detection, item = self.standing[query], self.scores.items[query]
        length = int(self.retrieved.lengths[detection])
        same = (self.truth.gallery.pair_ids == self.truth.queries.pair_ids[item]) & (
            self.truth.gallery.styles == self.truth.queries.styles[item]
        )
        images, boxes = self.truth.gallery.image_ids[same], self.truth.gallery.boxes[same]
        return np.array(
            [
                self._meets(images, boxes, int(self.retrieved.gallery_image_ids[detection, t]), box)
                for t, box in enumerate(self.retrieved.gallery_boxes[detection, :length])
            ],
            dtype=bool,
        )

    @staticmethod
    def _meets(images: IntArray, boxes: FloatArray, image: int, box: FloatArray) -> bool:
        there = boxes[images == image]
        return bool((corner_ious(np.repeat(box[None], len(there), 0), there) >= THRESHOLD).any())

    def examples(self, number: int) -> list[int]:
        """Queries to show: half with a right item among the first five, half without, spread over
        the data; queries that nothing stands for cannot be shown."""
        shown = self.standing >= 0
        hit = (self.scores.places >= 0) & (self.scores.places < TOPS[1])
        chosen: list[int] = []
        for group in (np.flatnonzero(shown & hit), np.flatnonzero(shown & ~hit)):
            wanted = min(number // 2, len(group))
            chosen += [int(group[i * len(group) // wanted]) for i in range(wanted)]
        return chosen


def read_retrieval(results: Path, json_file: Path) -> RetrievalPart | None:
    """``None`` without the result file, or if the ground truth does not tell consumers from
    shops."""
    if not results.is_file():
        return None
    truth = _truth(json_file)
    if truth is None:
        return None
    retrieved = read_retrieved(results)
    scores = score_retrieval(truth.queries, truth.gallery, retrieved)
    standing = representatives(truth.queries, retrieved)[scores.items]
    return RetrievalPart(truth, retrieved, scores, standing)


@lru_cache(maxsize=2)
def _truth(json_file: Path) -> RetrievalTruth | None:
    return read_retrieval_truth(json_file)
