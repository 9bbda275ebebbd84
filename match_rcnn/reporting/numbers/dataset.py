"""What is in a data set: counts from an annotation file, read in a stream.

Shapes: ``K`` categories, ``G`` items, ``I`` images, ``n`` landmarks of a category.
Memory: about 100 bytes an item.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from match_rcnn.data.coco import read_coco
from match_rcnn.data.coco_labels import Landmarks
from match_rcnn.data.sources.coco import read_taxonomy
from match_rcnn.data.sources.deepfashion2 import ATTRIBUTES, SOURCES
from match_rcnn.data.taxonomy import DEEPFASHION2, Category, Taxonomy
from match_rcnn.utils.arrays import BoolArray, FloatArray, IntArray
from match_rcnn.utils.files import read_json
from match_rcnn.utils.json_stream import stream_arrays

#: Beyond these an item is medium, and large, in COCO's words: square pixels.
COCO_SIZES = (32.0**2, 96.0**2)
#: Files beside a data set that say that a program made it.
_MARKS = ("generated.json", "generation.json")


@dataclass(frozen=True)
class Statistics:
    """Attributes:
    name: of the split: the file's, without its ending.
    taxonomy: its categories.
    image_sources: (I,) and ``sources`` (G,): ``"user"``, ``"shop"`` or ``""``.
    image_pixels: (I,) height * width, 0 where the file has none.
    image: (G,) index of the image; category: (G,) index in the taxonomy.
    pair_ids, styles: (G,); an item of style 0 takes part in no pair.
    levels: by attribute, (G,) 1 to 3, 0 where the file has none.
    sizes: (G, 2) width, height of the box.
    visibility: by category id, (n, 3) items by v = 0, 1, 2.
    labelled: (G,) landmarks with v > 0.
    ignored: ignore regions (``iscrowd``), which are no items.
    problems: of ``FILE.problems.json``, ``None`` without that file.
    """

    name: str
    taxonomy: Taxonomy
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
    ignored: int
    problems: dict[str, Any] | None = None

    @property
    def items_per_image(self) -> IntArray:
        """(I,)."""
        return np.bincount(self.image, minlength=len(self.image_pixels))

    def by_category(self, chosen: BoolArray) -> IntArray:
        """(K,) items of those ``chosen`` (G,)."""
        return np.bincount(self.category[chosen], minlength=self.taxonomy.num_categories)

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
    def matched(self) -> BoolArray:
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
    taxonomy = file_taxonomy(Path(path))
    file = read_coco(path, ["landmarks"], taxonomy)
    images, items = file.images, file.items
    if items is None:
        raise ValueError(
            f"{path} has no annotations: it is no converted annotation file "
            "(tools/convert_df2.py makes one)"
        )
    assert items.landmarks is not None
    known, places = np.unique(items.category_ids, return_inverse=True)
    indices = np.array([taxonomy.index(i) for i in known.tolist()], dtype=np.int64)
    own = ~items.crowd
    sources = np.array(images.sources, dtype="U8")
    problems_file = file.path.with_name(file.path.name + ".problems.json")
    return Statistics(
        name=file.path.stem,
        taxonomy=taxonomy,
        image_sources=sources,
        image_pixels=images.sizes.prod(1),
        image=items.image[own],
        sources=sources[items.image[own]],
        category=indices[places.reshape(-1)][own],
        pair_ids=items.fields["pair_id"][own],
        styles=items.fields["style"][own].clip(0),
        levels={name: items.fields[name][own] for name in ATTRIBUTES},
        sizes=items.boxes[own, 2:],
        visibility={c.id: _visibility(items.landmarks, c) for c in taxonomy.categories},
        labelled=items.landmarks.labelled(items.category_ids)[own],
        ignored=int(items.crowd.sum()),
        problems=read_json(problems_file) if problems_file.is_file() else None,
    )


def _visibility(landmarks: Landmarks, category: Category) -> IntArray:
    """(n, 3) how often each landmark has each visibility."""
    table = landmarks.tables.get(category.id, np.zeros((0, category.num_landmarks, 3)))
    seen = table[:, :, 2].astype(np.int64).clip(0, 2)
    return np.stack([(seen == v).sum(0) for v in range(3)], axis=1)


def file_taxonomy(file: Path) -> Taxonomy:
    """What a COCO file's ``categories`` say; DeepFashion2's where it has none.

    Raises:
        FileNotFoundError, ValueError: the message names the file.
    """
    has_any = any(key == "categories" and some for key, some in stream_arrays(file))
    return read_taxonomy(file) if has_any else DEEPFASHION2


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
