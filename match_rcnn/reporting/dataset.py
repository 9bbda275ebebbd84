"""What is in a data set: counts from a converted annotation file, read in a stream.

Shapes: ``G`` items, ``I`` images, ``n`` landmarks of a category. Memory: about 100 bytes an item.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from match_rcnn.data.sources.deepfashion2 import ATTRIBUTES, SOURCES
from match_rcnn.data.taxonomy import CATEGORIES, NUM_CATEGORIES
from match_rcnn.evaluation.coco.arrays import find, parse_keypoints
from match_rcnn.utils.arrays import FloatArray, IntArray
from match_rcnn.utils.files import read_json
from match_rcnn.utils.json_stream import Entries, stream_arrays

#: Beyond these an item is medium, and large, in COCO's words: square pixels.
COCO_SIZES = (32.0**2, 96.0**2)
#: Files beside a data set that say that a program made it.
_MARKS = ("generated.json", "generation.json")


@dataclass(frozen=True)
class Statistics:
    """Attributes:
    name: of the split: the file's, without its ending.
    image_sources: (I,) and ``sources`` (G,): ``"user"``, ``"shop"`` or ``""``.
    image_pixels: (I,) height * width, 0 where the file has none.
    image: (G,) index of the image; category: (G,) from 0.
    pair_ids, styles: (G,); an item of style 0 takes part in no pair.
    levels: by attribute, (G,) 1 to 3, 0 where the file has none.
    sizes: (G, 2) width, height of the box.
    visibility: by category id, (n, 3) items by v = 0, 1, 2.
    labelled: (G,) landmarks with v > 0.
    problems: of ``FILE.problems.json``, ``None`` without that file.
    """

    name: str
    image_sources: npt.NDArray[np.str_]
    image_pixels: IntArray
    image: IntArray
    sources: npt.NDArray[np.str_]
    category: IntArray
    pair_ids: IntArray
    styles: IntArray
    levels: dict[str, IntArray]
    sizes: FloatArray
    visibility: dict[int, IntArray]
    labelled: IntArray
    problems: dict[str, Any] | None = None

    @property
    def items_per_image(self) -> IntArray:
        """(I,)."""
        return np.bincount(self.image, minlength=len(self.image_pixels))

    def by_category(self, chosen: npt.NDArray[np.bool_]) -> IntArray:
        """(13,) items of those ``chosen`` (G,)."""
        return np.bincount(self.category[chosen], minlength=NUM_CATEGORIES)

    def products(self) -> "Products":
        paired = self.styles > 0
        keys = np.column_stack([self.pair_ids, self.styles])[paired]
        known, inverse = np.unique(keys, axis=0, return_inverse=True)
        inverse = inverse.reshape(-1)
        counts = [
            np.bincount(inverse[self.sources[paired] == source], minlength=len(known))
            for source in SOURCES
        ]
        return Products(counts[0], counts[1])

    def box_shares(self) -> FloatArray:
        """(G,) square root of the box's share of its image, NaN where its size is unknown."""
        pixels = self.image_pixels[self.image].astype(np.float64)
        shares: FloatArray = np.full(len(pixels), np.nan)
        np.divide(self.sizes.prod(1), pixels, out=shares, where=pixels > 0)
        return np.sqrt(np.minimum(shares, 1))


@dataclass(frozen=True)
class Products:
    """Things that one can ask for: one style (above 0) of one pair id.

    Attributes:
        user, shop: (N,) items of each on consumers' and on shops' photos.
    """

    user: IntArray
    shop: IntArray

    @property
    def matched(self) -> npt.NDArray[np.bool_]:
        """(N,) those that both show: which give positive pairs."""
        return (self.user > 0) & (self.shop > 0)

    @property
    def pairs(self) -> int:
        """Positive pairs of a consumer's and a shop's item."""
        return int((self.user * self.shop).sum())


def read_statistics(path: str | Path) -> Statistics:
    """Read a converted file (COCO form, dense or compact; ``tools/convert_df2.py``), and the
    problems beside it.

    Raises:
        FileNotFoundError, ValueError: the message names the file, the entry and what is wrong.
    """
    path = Path(path)
    reader = _Reader(path)
    keys = set()
    for key, items in stream_arrays(path):
        keys.add(key)
        if key == "images":
            reader.add_images(items)
        elif key == "annotations":
            reader.add_annotations(items)
    if missing := {"images", "annotations"} - keys:
        raise ValueError(
            f"{path} has no {' and no '.join(sorted(missing))}: it is no converted annotation file "
            "(tools/convert_df2.py makes one)"
        )
    problems_file = path.with_name(path.name + ".problems.json")
    problems = read_json(problems_file) if problems_file.is_file() else None
    return reader.build(problems)


@dataclass
class _Reader:
    path: Path
    images: dict[int, tuple[str, int]] = field(default_factory=dict)
    columns: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    visibility: dict[int, IntArray] = field(
        default_factory=lambda: {
            c.id: np.zeros((c.num_landmarks, 3), dtype=np.int64) for c in CATEGORIES
        }
    )
    count: int = 0

    def add_images(self, items: list[Any]) -> None:
        entries = Entries(items, len(self.images), f"{self.path}, image")
        for image_id, item in zip(entries.integers("id").tolist(), items, strict=True):
            pixels = int(item.get("height") or 0) * int(item.get("width") or 0)
            self.images[image_id] = (str(item.get("source") or ""), pixels)

    def add_annotations(self, items: list[Any]) -> None:
        entries = Entries(items, self.count, f"{self.path}, annotation")
        self.count += len(items)
        own = self.columns
        categories = entries.integers("category_id")
        own["image"].append(entries.integers("image_id"))
        own["category"].append(categories)
        own["sizes"].append(entries.numbers("bbox", 4)[:, 2:])
        own["pair_ids"].append(_integers(items, "pair_id", -1))
        own["styles"].append(_integers(items, "style", 0))
        for name in ATTRIBUTES:
            own[name].append(_integers(items, name, 0))
        own["labelled"].append(self._count_landmarks(entries, categories.tolist()))

    def _count_landmarks(self, entries: Entries, categories: list[int]) -> IntArray:
        labelled = []
        for index, item in enumerate(entries.items):
            try:
                points = parse_keypoints(categories[index], item.get("keypoints"))
            except ValueError as error:
                raise entries.error(index, str(error)) from error
            table = self.visibility[categories[index]]
            seen = points[: len(table), 2].astype(np.int64).clip(0, 2)
            table[np.arange(len(table)), seen] += 1
            labelled.append(int((seen > 0).sum()))
        return np.array(labelled, dtype=np.int64)

    def build(self, problems: dict[str, Any] | None) -> Statistics:
        if not self.columns:
            self.add_annotations([])
        own = {name: np.concatenate(parts) for name, parts in self.columns.items()}
        ids = np.array(sorted(self.images), dtype=np.int64)
        image = find(ids, own["image"])
        for index in np.flatnonzero(image < 0):
            raise ValueError(
                f"{self.path}, annotation {index} (from 0): unknown image_id {own['image'][index]}"
            )
        known = [self.images[i] for i in ids.tolist()]
        sources = np.array([source for source, _ in known], dtype="U8")
        return Statistics(
            name=self.path.stem,
            image_sources=sources,
            image_pixels=np.array([pixels for _, pixels in known], dtype=np.int64),
            image=image,
            sources=sources[image],
            category=own["category"] - 1,
            pair_ids=own["pair_ids"],
            styles=own["styles"],
            levels={name: own[name] for name in ATTRIBUTES},
            sizes=own["sizes"],
            visibility=self.visibility,
            labelled=own["labelled"],
            problems=problems,
        )


def _integers(items: list[Any], key: str, missing: int) -> IntArray:
    values = [item.get(key) for item in items]
    return np.array([v if type(v) is int else missing for v in values], dtype=np.int64)


def problem_counts(statistics: Statistics) -> Counter[tuple[str, str]]:
    """How often, by what was done ("left out", "kept") and the reason."""
    counts: Counter[tuple[str, str]] = Counter()
    found = (statistics.problems or {}).get("counts", {})
    for what, key in (("left out", "left_out_by_reason"), ("kept", "kept_by_reason")):
        for reason, number in found.get(key, {}).items():
            counts[what, reason] = int(number)
    return counts


def is_generated(*files: Path | None) -> bool:
    """Whether one of the folders at most three levels above says that a program made the data."""
    return any(
        (parent / mark).is_file()
        for file in files
        if file is not None
        for parent in list(file.absolute().parents)[:3]
        for mark in _MARKS
    )
