"""The DeepFashion2 taxonomy: 13 categories and their 294 landmarks.

Shapes used below: ``n`` landmarks of one category (8 to 39), ``L = 294`` landmarks of all.
Landmark ``i`` (0-based) of a category is channel ``offset + i`` of the 294. The facts lie in
``taxonomy.json`` beside this file, which names their sources.
"""

import itertools
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Category:
    """One clothing category.

    Attributes:
        id: 1 to 13, as in the annotation files. Models use ``id - 1``.
        name: the annotation files' name, such as ``"short sleeve top"``.
        coco_name: the official converter's name, such as ``"short_sleeved_shirt"``.
        num_landmarks: ``n``.
        offset: the category's first channel of the 294.
        aspect: width / height of the drawn template.
        flip_pairs: 0-based index pairs that change places under a horizontal flip.
        paths: 0-based index sequences; consecutive landmarks are joined by the garment's outline.
        sigmas: (n,) OKS sigmas of the official evaluator.
        template: (n, 2) x, y of a drawn garment in the unit square, y down.
    """

    id: int
    name: str
    coco_name: str
    num_landmarks: int
    offset: int
    aspect: float
    flip_pairs: tuple[tuple[int, int], ...]
    paths: tuple[tuple[int, ...], ...]
    sigmas: FloatArray
    template: FloatArray

    @property
    def slice(self) -> slice:
        """The category's channels of the 294."""
        return slice(self.offset, self.offset + self.num_landmarks)

    @cached_property
    def flip_permutation(self) -> IntArray:
        """(n,) ``flipped = landmarks[flip_permutation]`` exchanges left and right."""
        permutation = np.arange(self.num_landmarks)
        for left, right in self.flip_pairs:
            permutation[[left, right]] = right, left
        permutation.flags.writeable = False
        return permutation

    @cached_property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """Every (from, to) of ``paths``, 0-based."""
        return tuple(edge for path in self.paths for edge in itertools.pairwise(path))


def _load() -> tuple[Category, ...]:
    raw = json.loads(Path(__file__).with_name("taxonomy.json").read_text(encoding="utf-8"))
    categories, offset = [], 0
    for entry in raw["categories"]:
        categories.append(_parse(entry, offset))
        offset += entry["num_landmarks"]
    return tuple(categories)


def _parse(entry: dict[str, Any], offset: int) -> Category:
    return Category(
        id=entry["id"],
        name=entry["name"],
        coco_name=entry["coco_name"],
        num_landmarks=entry["num_landmarks"],
        offset=offset,
        aspect=entry["aspect"],
        flip_pairs=tuple((left - 1, right - 1) for left, right in entry["flip_pairs"]),
        paths=tuple(tuple(i - 1 for i in path) for path in entry["paths"]),
        sigmas=_constant(entry["oks_sigmas"]),
        template=_constant(entry["template_xy"]),
    )


def _constant(values: Any) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    array.flags.writeable = False
    return array


CATEGORIES: tuple[Category, ...] = _load()
NUM_CATEGORIES: int = len(CATEGORIES)
NUM_LANDMARKS: int = sum(c.num_landmarks for c in CATEGORIES)
#: The most landmarks that one category has: the width of compact landmark tensors.
MAX_LANDMARKS: int = max(c.num_landmarks for c in CATEGORIES)
#: (294,) OKS sigmas of all channels.
SIGMAS: FloatArray = _constant(np.concatenate([c.sigmas for c in CATEGORIES]))


def category(category_id: int) -> Category:
    """The category of an annotation file's ``category_id``.

    Raises:
        ValueError: the id is not an integer from 1 to 13.
    """
    if isinstance(category_id, bool) or not isinstance(category_id, (int, np.integer)):
        raise ValueError(f"expected a category_id from 1 to {NUM_CATEGORIES}, got {category_id!r}")
    if not 1 <= category_id <= NUM_CATEGORIES:
        raise ValueError(f"expected a category_id from 1 to {NUM_CATEGORIES}, got {category_id}")
    return CATEGORIES[int(category_id) - 1]
