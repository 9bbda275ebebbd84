"""Data sets of which each image shows one garment in a given box, as DeepFashion (2016) has them.

Whatever else such an image shows is not labelled, and its categories are not a detector's. So it
is no image to detect in: RPN and box stream learn nothing from it, and of the streams over RoIs
those that take its labels get its box as the one RoI.

A registered data set is of this kind where its metadata's ``evaluator_type`` begins with
``deepfashion_``. Its attributes are named by ``attribute_names``; ``attribute_types`` are their
places, from 1, in ``attribute_type_names`` (without it,
:data:`~match_rcnn.data.sources.deepfashion.ATTRIBUTE_TYPES`), 0 for one of no type. They may be
stated when the data set is read, and not before.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from match_rcnn.d2 import DatasetCatalog, MetadataCatalog
from match_rcnn.data.recognition import Records
from match_rcnn.data.sources.deepfashion import ATTRIBUTE_TYPES
from match_rcnn.data.taxonomy import Attribute, Taxonomy, common_taxonomy
from match_rcnn.utils.arrays import IntArray

#: In a dataset dict: true where the image is of this kind.
GIVEN_BOX = "given_box"
#: The type of attributes that have none.
NO_TYPE = "attribute"


def is_given(dataset: str) -> bool:
    """Whether a registered data set is of this kind."""
    return str(MetadataCatalog.get(dataset).get("evaluator_type", "")).startswith("deepfashion_")


@dataclass(frozen=True)
class GivenBoxes:
    """The dataset dicts of such a data set, each marked as one; they are read when asked for."""

    items: Sequence[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int, /) -> dict[str, Any]:
        return {**self.items[index], GIVEN_BOX: True}

    @property
    def landscape(self) -> list[bool]:
        """Whether each image is wider than high; not, where its size is not stated."""
        if isinstance(self.items, Records):
            width, height = self.items.column("size").T
            return list((width > height).tolist())
        return [item.get("width", 0) > item.get("height", 0) for item in self.items]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(self.__getitem__, range(len(self)))


def count_attributes(items: Iterable[dict[str, Any]], count: int) -> IntArray:
    """(2, A) of how many items have each attribute not, and have it; A is ``count``."""
    items = items.items if isinstance(items, GivenBoxes) else items
    if isinstance(items, Records):  # packed, and many
        return items.attribute_counts().T[::-1]
    counts = np.zeros((2, count), np.int64)
    for image in items:
        for annotation in image.get("annotations", ()):
            labels = np.asarray(annotation.get("attributes", 0))
            counts += np.stack([labels == -1, labels == 1]).reshape(2, -1)
    return counts


def attributes_of(dataset: str) -> tuple[Attribute, ...]:
    """Those that a registered data set's items are labelled with; none where it names none."""
    metadata = MetadataCatalog.get(dataset)
    if is_given(dataset) and metadata.get("attribute_names", None) is None:
        DatasetCatalog.get(dataset)
        metadata = MetadataCatalog.get(dataset)
    names = metadata.get("attribute_names", None) or ()
    kinds = (NO_TYPE, *metadata.get("attribute_type_names", ATTRIBUTE_TYPES))
    types = metadata.get("attribute_types", None) if names else ()
    numbers = [0] * len(names) if types is None else [int(number) for number in types]
    return tuple(Attribute(n, kinds[number]) for n, number in zip(names, numbers, strict=True))


def taxonomy_to_learn(datasets: Sequence[str]) -> Taxonomy:
    """What a model learns from training sets: the categories of those to detect in, or of the
    others where there is none of these, and the attributes.

    Raises:
        ValueError: two of them have other categories, or other attributes.
    """
    detected = [name for name in datasets if not is_given(name)]
    taxonomy = common_taxonomy(detected or datasets)
    found = {name: own for name in datasets if (own := attributes_of(name))}
    for name, own in found.items():
        first = next(iter(found))
        if own != found[first]:
            raise ValueError(
                f"data sets that are used together need the same attributes, but {first!r} has "
                f"{len(found[first])} and {name!r} has {len(own)}, or in another order; "
                "leave one of them out of DATASETS.TRAIN"
            )
    return replace(taxonomy, attributes=next(iter(found.values()))) if found else taxonomy
