"""What a gallery holds of each item beside its vector, and what a search gives back."""

import importlib
import math
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from match_rcnn.data.taxonomy import Category, Taxonomy
from match_rcnn.utils.arrays import Float32Array

#: A category by its id, by one of its names, or itself.
CategoryLike = int | str | Category
#: One of these or several: an item of any of them passes.
CategoryFilter = CategoryLike | Collection[CategoryLike] | None

#: Modules that not every user needs -> the extra that installs them.
_EXTRAS = {"lance": "gallery", "pyarrow": "gallery", "faiss": "index"} | {
    "qdrant_client": "databases",
    "ray": "ray",
    "huggingface_hub": "hub",
}


class GalleryError(ValueError):
    """A gallery cannot do what was asked: other weights, damaged, or changed meanwhile."""


class MissingPackageError(ImportError):
    """An optional package is not installed."""


def optional_module(name: str) -> Any:
    """An imported module of one of the extras.

    Raises:
        MissingPackageError: with how to install it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.split(".")[0]
        extra = _EXTRAS.get(package)
        install = f"match_rcnn[{extra}]" if extra else package.replace("_", "-")
        raise MissingPackageError(f"this needs {name}: pip install {install} ({error})") from error


@dataclass(frozen=True)
class GalleryItem:
    """One garment of a catalogue, as the gallery knows it.

    Attributes:
        id: the caller's own, unique in the gallery; any text that is not empty.
        category: None where it is not known: a search by category then passes it over.
        image: where it was found, such as a path below the catalogue.
        box: x1, y1, x2, y2 in pixels of the image.
        score: the detector's confidence, None for an annotation.
        product: what is sold, where it is known; several items may show it.
        attributes: names of what the garment has, such as ``("floral", "long")``.
        fields: the caller's own, whatever JSON can hold.
    """

    id: str
    category: Category | None = None
    image: str | None = None
    box: tuple[float, float, float, float] | None = None
    score: float | None = None
    product: str | None = None
    attributes: tuple[str, ...] = ()
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def group(self) -> str:
        """The product where it is known, else the photo, else the item itself."""
        known = (("product", self.product), ("image", self.image), ("id", self.id))
        return next(f"{kind}:{value}" for kind, value in known if value is not None)

    def to_json(self) -> dict[str, Any]:
        """Plain values; the category by its name."""
        return {**vars(self), "category": self.category.name if self.category else None}


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
        config: of the settings that change an embedding; "": not known, and so not compared.
        name: for people, such as the checkpoint's path; not compared.
    """

    weights: str
    config: str
    name: str = ""

    def matches(self, other: "Fingerprint") -> bool:
        same_settings = self.config == other.config or "" in (self.config, other.config)
        return self.weights == other.weights and same_settings

    def __str__(self) -> str:
        config = self.config[:12] or "unknown"
        return f"{self.name or 'unnamed'} (weights {self.weights[:12]}, config {config})"


def parse_category(value: CategoryLike, taxonomy: Taxonomy) -> Category:
    """The taxonomy's category that an id, a name or a ``Category`` means. Raises: ValueError."""
    if isinstance(value, Category):
        value = value.name
    return taxonomy.named(value) if isinstance(value, str) else taxonomy.category(value)


def parse_filter(value: CategoryFilter, taxonomy: Taxonomy) -> tuple[str, ...] | None:
    """The names, sorted, of the categories that a filter lets pass; None for all.

    Raises:
        ValueError: an unknown category, or an empty collection.
    """
    if value is None:
        return None
    if isinstance(value, (int, np.integer, str, Category)):
        value = [value]
    if not value:
        raise ValueError("an empty collection of categories lets nothing pass; None means all")
    return tuple(sorted({parse_category(v, taxonomy).name for v in value}))


def checked_vectors(
    items: Collection[GalleryItem], vectors: Collection[Any], dim: int
) -> Float32Array:
    """(m, d) of the items' vectors.

    Raises:
        ValueError: one has another length or is not finite.
    """
    rows = np.empty((len(items), dim), np.float32)
    for row, item, vector in zip(rows, items, vectors, strict=True):
        values = np.asarray(vector)
        if values.shape != (dim,):
            raise ValueError(
                f"item {item.id!r}: expected a vector of {dim} numbers, got shape {values.shape}"
            )
        row[:] = values
    finite = np.isfinite(rows).all(1)
    if not finite.all():
        broken = list(items)[int(finite.argmin())]
        raise ValueError(f"item {broken.id!r}: its vector is not finite")
    return rows


def encode_fields(item: GalleryItem) -> str:
    """The item's fields as JSON, after a look at what else no column could hold.

    Raises:
        ValueError: an id that is no text, or fields that JSON cannot hold.
    """
    if not isinstance(item.id, str) or not item.id:
        raise ValueError(f"expected an id that is a text and not empty, got {item.id!r}")
    if item.box is not None and len(item.box) != 4:
        raise ValueError(f"item {item.id!r}: expected a box x1, y1, x2, y2, got {item.box}")
    try:
        return orjson.dumps(item.fields, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    except TypeError as error:
        raise ValueError(f"item {item.id!r} does not fit into JSON: {error}") from error
