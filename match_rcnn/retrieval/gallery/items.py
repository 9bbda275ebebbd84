"""What a gallery holds of each item beside its vector, and what a search gives back."""

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from match_rcnn.data.taxonomy import CATEGORIES, Category

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

#: A category by its id (1 to 13), by either of its names, or itself.
CategoryLike = int | str | Category
#: One of these or several: an item of any of them passes.
CategoryFilter = CategoryLike | Collection[CategoryLike] | None

_BY_NAME = {name: c for c in CATEGORIES for name in (c.name, c.coco_name)}
_BY_ID = {c.id: c for c in CATEGORIES}


class GalleryError(ValueError):
    """A gallery cannot do what was asked: other weights, damaged, or being written."""


@dataclass(frozen=True)
class GalleryItem:
    """One garment of a catalogue, as the gallery knows it.

    Attributes:
        id: the caller's own, unique in the gallery; any text that is not empty.
        category: None where it is not known: a search by category then passes it over.
        image: where it was found, such as a path below the catalogue.
        box: x1, y1, x2, y2 in pixels of the image.
        score: the detector's confidence, None for an annotation.
        fields: the caller's own, whatever JSON can hold.
    """

    id: str
    category: Category | None = None
    image: str | None = None
    box: tuple[float, float, float, float] | None = None
    score: float | None = None
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Hit:
    """An item that a search found.

    Attributes:
        item: what was found.
        score: w . (q - g)^2 + b; more is more alike. Its sigmoid is the match network's
            probability that the pair matches, if it was trained to give one.
    """

    item: GalleryItem
    score: float

    @property
    def probability(self) -> float:
        """The sigmoid of ``score``."""
        if self.score < 0:
            return math.exp(self.score) / (1 + math.exp(self.score))
        return 1 / (1 + math.exp(-self.score))


@dataclass(frozen=True)
class Fingerprint:
    """Which model made the vectors: those of two models cannot be compared.

    Attributes:
        weights: of the model's parameters.
        config: of the settings that change an embedding.
        name: for people, such as the checkpoint's path; not compared.
    """

    weights: str
    config: str
    name: str = ""

    def matches(self, other: "Fingerprint") -> bool:
        return (self.weights, self.config) == (other.weights, other.config)

    def __str__(self) -> str:
        return f"{self.name or 'unnamed'} (weights {self.weights[:12]}, config {self.config[:12]})"


def parse_category(value: CategoryLike) -> Category:
    """The category that an id, a name or a ``Category`` means.

    Raises:
        ValueError: it means none; the message lists the names.
    """
    if isinstance(value, Category):
        return value
    found = _BY_NAME.get(value) if isinstance(value, str) else _BY_ID.get(value)
    if found is None:
        names = ", ".join(c.name for c in CATEGORIES)
        raise ValueError(
            f"expected a category, 1 to {len(CATEGORIES)} or one of {names}; got {value!r}"
        )
    return found


def parse_filter(value: CategoryFilter) -> tuple[int, ...] | None:
    """The ids, rising, that a filter lets pass; None for all.

    Raises:
        ValueError: an unknown category, or an empty collection.
    """
    if value is None:
        return None
    if isinstance(value, (int, np.integer, str, Category)):
        value = [value]
    if not value:
        raise ValueError("an empty collection of categories lets nothing pass; None means all")
    return tuple(sorted({parse_category(v).id for v in value}))


def hash_id(item_id: str) -> int:
    """64 bits of an id, the same on every machine."""
    return int.from_bytes(blake2b(item_id.encode(), digest_size=8).digest(), "little")


def encode_item(item: GalleryItem) -> bytes:
    """A line of JSON, with its end.

    Raises:
        ValueError: an id that is no text, or fields that JSON cannot hold.
    """
    if not isinstance(item.id, str) or not item.id:
        raise ValueError(f"expected an id that is a text and not empty, got {item.id!r}")
    if item.box is not None and len(item.box) != 4:
        raise ValueError(f"item {item.id!r}: expected a box x1, y1, x2, y2, got {item.box}")
    record = {
        "id": item.id,
        "category": None if item.category is None else item.category.id,
        "image": item.image,
        "box": None if item.box is None else [float(v) for v in item.box],
        "score": item.score,
        "fields": item.fields,
    }
    try:
        return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as error:
        raise ValueError(f"item {item.id!r} does not fit into JSON: {error}") from error


def decode_item(line: bytes) -> GalleryItem:
    """The item of a line of :func:`encode_item`."""
    record = orjson.loads(line)
    if record["category"] is not None:
        record["category"] = _BY_ID[record["category"]]
    if record["box"] is not None:
        record["box"] = tuple(record["box"])
    return GalleryItem(**record)
