"""What a gallery holds of each item beside its vector, and what a search gives back."""

import importlib
import math
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from match_rcnn.data.taxonomy import Category, Taxonomy

#: A category by its id, by one of its names, or itself.
CategoryLike = int | str | Category
#: One of these or several: an item of any of them passes.
CategoryFilter = CategoryLike | Collection[CategoryLike] | None

_EXTRAS = {"faiss": "index", "qdrant_client": "databases", "ray": "ray"} | {
    "fsspec": "cloud",
    "huggingface_hub": "hub",
    "starlette": "serve",
    "uvicorn": "serve",
    "prometheus_client": "serve",
}


class GalleryError(ValueError):
    """A gallery cannot do what was asked: other weights, damaged, or changed meanwhile."""


class MissingPackageError(ImportError):
    """An optional package is not installed."""


def optional_module(name: str) -> Any:
    """An imported module of one of the extras. Raises: MissingPackageError: how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        extra = _EXTRAS.get(name.split(".")[0], "gallery")
        install = f"match_rcnn[{extra}]"
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
        features: what a similarity compares beside the vector, by name, for a gallery that keeps
            such; only on the way in, as it is large.
    """

    id: str
    category: Category | None = None
    image: str | None = None
    box: tuple[float, float, float, float] | None = None
    score: float | None = None
    product: str | None = None
    attributes: tuple[str, ...] = ()
    fields: dict[str, Any] = field(default_factory=dict)
    features: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def group(self) -> str:
        """The product where it is known, else the photo, else the item itself."""
        known = (("product", self.product), ("image", self.image), ("id", self.id))
        return next(f"{kind}:{value}" for kind, value in known if value is not None)

    def to_json(self) -> dict[str, Any]:
        """Plain values; the category by its name."""
        known = {name: value for name, value in vars(self).items() if name != "features"}
        return {**known, "category": self.category.name if self.category else None}


@dataclass(frozen=True)
class Hit:
    """An item that a search found, its score w . (q - g)^2 + b, and what a similarity says of it,
    if one ordered the shortlist that it was in; more is more alike."""

    item: GalleryItem
    score: float
    similarity: float | None = None

    @property
    def probability(self) -> float:
        """The sigmoid of the similarity, or else of the score: what was trained to give one."""
        logit = self.score if self.similarity is None else self.similarity
        small = math.exp(-abs(logit))
        return (small if logit < 0 else 1) / (1 + small)


@dataclass(frozen=True)
class Fingerprint:
    """Which model made the vectors, as those of two cannot be compared: hashes of its parameters,
    and of the settings that change an embedding ("": not known, and so not compared); a name for
    people."""

    weights: str
    config: str
    name: str = ""

    def matches(self, other: "Fingerprint") -> bool:
        same_settings = self.config == other.config or "" in (self.config, other.config)
        return self.weights == other.weights and same_settings

    def __str__(self) -> str:
        weights, config = self.weights[:12], self.config[:12] or "unknown"
        return f"{self.name or 'unnamed'} (weights {weights}, config {config})"


def parse_category(value: CategoryLike, taxonomy: Taxonomy) -> Category:
    """The taxonomy's category that an id, a name or a ``Category`` means. Raises: ValueError."""
    if isinstance(value, Category):
        value = value.name
    return taxonomy.named(value) if isinstance(value, str) else taxonomy.category(value)


def parse_filter(value: CategoryFilter, taxonomy: Taxonomy) -> tuple[str, ...] | None:
    """The names, sorted, of the categories that a filter lets pass; None for all. Raises:
    ValueError: an unknown category, or an empty collection."""
    if value is None:
        return None
    if isinstance(value, (int, np.integer, str, Category)):
        value = [value]
    if not value:
        raise ValueError("an empty collection of categories lets nothing pass; None means all")
    return tuple(sorted({parse_category(v, taxonomy).name for v in value}))
