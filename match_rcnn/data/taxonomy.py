"""Which garments there are: categories, each with landmarks of its own or none.

Shapes used below: ``n`` landmarks of one category, ``L`` landmarks of all (DeepFashion2: 8 to 39,
294). Landmark ``i`` (0-based) of a category is channel ``offset + i`` of the ``L``.

A taxonomy is written as a COCO file writes its ``categories``: ``id``, ``name``, ``keypoints`` (the
landmarks' names) and ``skeleton`` (1-based pairs), with keys of our own, also 1-based:

- ``keypoint_flips``: pairs that change places under a horizontal flip. Without it, landmarks whose
  names differ in "left" and "right" only;
- ``keypoint_outline``: paths along the garment's outline. Without it, the edges of ``skeleton``;
- ``keypoint_sigmas``: how far apart, on the scale of OKS, two people mark each. Without it,
  :data:`DEFAULT_SIGMA` and a warning;
- ``aliases``: other names that files use.

Beside the categories it may name attributes, each ``name`` and ``type``: what a garment of any
category can have, such as a floral texture; and ``words`` of descriptions, a text.

DeepFashion2's lies in ``taxonomy.json`` beside this file, which names its sources.
"""

import itertools
import json
import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from match_rcnn.utils.arrays import FloatArray, IntArray

logger = logging.getLogger(__name__)

#: Where no ``keypoint_sigmas`` are stated: in the middle of COCO's for people, 0.025 to 0.107.
DEFAULT_SIGMA = 0.05


@dataclass(frozen=True)
class Category:
    """One category of garments.

    Attributes:
        id: the data set's own; models use its place in the taxonomy.
        name: such as ``"short sleeve top"``.
        landmark_names: (n,) in order.
        flip_pairs: 0-based index pairs that change places under a horizontal flip.
        paths: 0-based index sequences; consecutive landmarks are joined by the garment's outline.
        sigmas: (n,) OKS sigmas.
        aliases: other names that files use; the first is the one that COCO files get.
        offset: the category's first channel of the ``L``; a taxonomy sets it.
    """

    id: int
    name: str
    landmark_names: tuple[str, ...] = ()
    flip_pairs: tuple[tuple[int, int], ...] = ()
    paths: tuple[tuple[int, ...], ...] = ()
    sigmas: tuple[float, ...] = ()
    aliases: tuple[str, ...] = ()
    offset: int = 0

    @property
    def num_landmarks(self) -> int:
        """``n``."""
        return len(self.landmark_names)

    @property
    def coco_name(self) -> str:
        """The name in COCO files."""
        return self.aliases[0] if self.aliases else self.name

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that files may use."""
        return (self.name, *self.aliases)

    @property
    def slice(self) -> slice:
        """The category's channels of the ``L``."""
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

    def to_dict(self) -> dict[str, Any]:
        """As a COCO file says it."""
        return {
            "id": self.id,
            "name": self.name,
            "aliases": list(self.aliases),
            "keypoints": list(self.landmark_names),
            "keypoint_flips": [[i + 1 for i in pair] for pair in self.flip_pairs],
            "keypoint_outline": [[i + 1 for i in path] for path in self.paths],
            "keypoint_sigmas": list(self.sigmas),
        }


class Attribute(NamedTuple):
    """What garments of any category can have. Attributes: type: of what kind it is, such as
    ``"texture"``; attributes of one type are ranked together."""

    name: str
    type: str


def attribute_groups(
    attributes: Sequence[Attribute], types: Sequence[str] = ()
) -> dict[str, tuple[str, ...]]:
    """The names of a type's attributes, by type, in their order.

    Args:
        types: those wanted, in this order; (): all, in the order of first appearance.

    Raises:
        ValueError: no attribute is of a wanted type.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name, kind in attributes:
        found[kind] = (*found.get(kind, ()), name)
    for kind in types:
        if kind not in found:
            known = ", ".join(found) or "none"
            raise ValueError(f"no attribute is of the type {kind!r}; the types are: {known}")
    return {kind: found[kind] for kind in types or found}


@dataclass(frozen=True)
class Taxonomy:
    """The categories of a data set, in the order of a model's classes, and what attributes it
    knows, in the order of a model's scores; and the words of descriptions that a model knows
    (:mod:`match_rcnn.data.words`).

    Equal are those with equal categories, whatever their names, attributes and words.

    Raises:
        ValueError: there is no category, or two have one id or one name.
    """

    name: str = field(compare=False)
    categories: tuple[Category, ...]
    attributes: tuple[Attribute, ...] = field(default=(), compare=False)
    words: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if not self.categories:
            raise ValueError(f"taxonomy {self.name!r}: expected at least one category, got none")
        self._refuse_twice("id", [c.id for c in self.categories])
        self._refuse_twice("name", [name for c in self.categories for name in set(c.names)])
        ends = itertools.accumulate(c.num_landmarks for c in self.categories)
        placed = (
            replace(c, offset=end - c.num_landmarks)
            for c, end in zip(self.categories, ends, strict=True)
        )
        object.__setattr__(self, "categories", tuple(placed))

    def _refuse_twice(self, what: str, values: Sequence[int | str]) -> None:
        value, count = Counter(values).most_common(1)[0]
        if count > 1:
            raise ValueError(f"taxonomy {self.name!r}: two categories have the {what} {value!r}")

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """Once: a look-up by taxonomy happens for every item of a file."""
        return hash(self.categories)

    @property
    def num_categories(self) -> int:
        return len(self.categories)

    @property
    def landmark_counts(self) -> tuple[int, ...]:
        """``n`` of each category."""
        return tuple(c.num_landmarks for c in self.categories)

    @property
    def num_landmarks(self) -> int:
        """``L``; 0 where no category has landmarks."""
        return sum(self.landmark_counts)

    @property
    def max_landmarks(self) -> int:
        """The most landmarks that one category has: the width of compact landmark tensors."""
        return max(self.landmark_counts)

    @cached_property
    def sigmas(self) -> FloatArray:
        """(L,) OKS sigmas of all channels."""
        values = np.array([s for c in self.categories for s in c.sigmas], dtype=np.float64)
        values.flags.writeable = False
        return values

    @cached_property
    def _indices(self) -> dict[int, int]:
        return {c.id: i for i, c in enumerate(self.categories)}

    def index(self, category_id: Any) -> int:
        """The model's class of a data set's ``category_id``; ``categories[index]`` leads back.

        Raises:
            ValueError: no category has this id.
        """
        is_whole = isinstance(category_id, (int, np.integer)) and not isinstance(category_id, bool)
        if not is_whole or int(category_id) not in self._indices:
            raise ValueError(f"expected a category_id {self._known_ids}, got {category_id!r}")
        return self._indices[int(category_id)]

    @property
    def _known_ids(self) -> str:
        ids = sorted(self._indices)
        if len(ids) > 1 and ids == list(range(ids[0], ids[-1] + 1)):
            return f"from {ids[0]} to {ids[-1]}"
        return f"of {', '.join(map(str, ids))}"

    def category(self, category_id: Any) -> Category:
        """The category of a data set's ``category_id``. ValueError as :meth:`index`."""
        return self.categories[self.index(category_id)]

    def named(self, name: str) -> Category:
        """The category of this name or alias.

        Raises:
            ValueError: there is none.
        """
        for category in self.categories:
            if name in category.names:
                return category
        known = ", ".join(c.name for c in self.categories)
        raise ValueError(f"expected one of the categories {known}; got {name!r}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, from which :meth:`from_dict` makes it again."""
        found: dict[str, Any] = {"name": self.name}
        found["categories"] = [c.to_dict() for c in self.categories]
        if self.attributes:
            found["attributes"] = [attribute._asdict() for attribute in self.attributes]
        # As one text: 30,000 lines of a config would hide the others.
        return {**found, "words": " ".join(self.words)} if self.words else found

    @classmethod
    def from_dict(cls, values: Any, file: str | Path = "taxonomy") -> "Taxonomy":
        """From ``{"name": ..., "categories": [...]}``; without a name it gets the file's.

        Raises:
            ValueError: the values are of another form; the message names ``file``.
        """
        if not isinstance(values, dict) or not isinstance(values.get("categories"), list):
            raise ValueError(f"{file}: expected the key 'categories' with a list")
        taxonomy = cls.from_coco(values["categories"], file, values.get("name"))
        words = values.get("words") or ""
        if not isinstance(words, str):
            raise ValueError(f"{file}: expected 'words' to be a text, got {words!r:.80}")
        attributes = _parse_attributes(values.get("attributes"), file)
        return replace(taxonomy, attributes=attributes, words=tuple(words.split()))

    @classmethod
    def from_coco(
        cls, categories: Sequence[Any], file: str | Path, name: str | None = None
    ) -> "Taxonomy":
        """From a COCO file's ``categories``, in the order of their ids, as the host orders them.

        Raises:
            ValueError: a category cannot be understood; the message names ``file`` and category.
        """
        try:
            found = [_parse(record) for record in categories]
            taxonomy = cls(name or Path(file).stem, tuple(sorted(found, key=lambda c: c.id)))
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
        unsure = [
            record.get("name")
            for record in categories
            if record.get("keypoints") and not record.get("keypoint_sigmas")
        ]
        if unsure:
            text = "%s: no keypoint_sigmas in %s; OKS takes %g for each landmark"
            logger.warning(text, file, ", ".join(map(repr, unsure)), DEFAULT_SIGMA)
        return taxonomy

    @classmethod
    def from_yaml(cls, file: str | Path) -> "Taxonomy":
        """From a yaml (or JSON) file in the form of :meth:`from_dict`.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file holds something else; the message says what and where.
        """
        import yaml  # here, as scoring files is done sooner without it

        try:
            values = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{file} is no yaml file: {' '.join(str(error).split())}") from error
        return cls.from_dict(values, file)


def _parse(record: Any) -> Category:
    if not isinstance(record, dict):
        raise ValueError(f"expected a category with id and name, got {record!r:.80}")
    name, number = record.get("name"), record.get("id")
    if not isinstance(name, str) or not name:
        raise ValueError(f"expected a name in category {record!r:.80}")
    if type(number) is not int or number < 0:
        raise ValueError(f"category {name!r}: expected a whole number as id, got {number!r}")
    try:
        return _parse_landmarks(number, name, record)
    except (TypeError, ValueError) as error:
        raise ValueError(f"category {name!r}: {error}") from error


def _parse_attributes(records: Any, file: str | Path) -> tuple[Attribute, ...]:
    try:
        return tuple(Attribute(str(r["name"]), str(r["type"])) for r in records or ())
    except (TypeError, KeyError) as error:
        raise ValueError(
            f"{file}: expected 'attributes' to be a list, each with name and type; got "
            f"{records!r:.80}"
        ) from error


def _parse_landmarks(number: int, name: str, record: dict[str, Any]) -> Category:
    landmarks = tuple(str(landmark) for landmark in record.get("keypoints") or ())
    n = len(landmarks)
    flips = _indices(record, "keypoint_flips", n)
    if flips is None:
        flips = _flips_by_name(landmarks)
    mirrored = [i for pair in flips for i in pair]
    if any(len(pair) != 2 for pair in flips) or len(mirrored) != len(set(mirrored)):
        raise ValueError("keypoint_flips: expected pairs, a landmark in one of them at most")
    paths = _indices(record, "keypoint_outline", n)
    if paths is None:
        paths = _indices(record, "skeleton", n) or ()
    sigmas = tuple(float(s) for s in record.get("keypoint_sigmas") or n * [DEFAULT_SIGMA])
    if len(sigmas) != n or not all(0 < s < float("inf") for s in sigmas):
        raise ValueError(f"keypoint_sigmas: expected {n} numbers above 0, got {list(sigmas)!r:.80}")
    pairs = tuple((pair[0], pair[1]) for pair in flips)
    aliases = tuple(str(alias) for alias in record.get("aliases") or ())
    return Category(number, name, landmarks, pairs, paths, sigmas, aliases)


def _indices(record: dict[str, Any], key: str, n: int) -> tuple[tuple[int, ...], ...] | None:
    """Lists of 1-based landmark numbers as 0-based; None where the key is missing."""
    if record.get(key) is None:
        return None
    rows = tuple(tuple(row) for row in record[key])
    bad = [i for row in rows for i in row if type(i) is not int or not 1 <= i <= n]
    if bad:
        raise ValueError(f"{key}: expected landmark numbers from 1 to {n}, got {bad[0]!r}")
    return tuple(tuple(i - 1 for i in row) for row in rows)


def _flips_by_name(landmarks: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
    places = {landmark: i for i, landmark in enumerate(landmarks)}
    pairs = []
    for landmark, i in places.items():
        partner = places.get(re.sub("left", "right", landmark))
        if partner is not None and partner != i:
            pairs.append((i, partner))
    return tuple(pairs)


def taxonomy_of(dataset: Any) -> Taxonomy:
    """The taxonomy of a registered data set, by its name or its metadata; DeepFashion2's where
    the metadata state none."""
    if isinstance(dataset, str):
        # Here, so that the converter's processes need not load torch.
        from match_rcnn.d2 import MetadataCatalog

        dataset = MetadataCatalog.get(dataset)
    taxonomy = dataset.get("taxonomy", None)
    return DEEPFASHION2 if taxonomy is None else taxonomy


def common_taxonomy(datasets: Sequence[str]) -> Taxonomy:
    """The one taxonomy of data sets that are used together; DeepFashion2's for none.

    Raises:
        ValueError: they have several; the message names two of the data sets and what differs.
    """
    found = {name: taxonomy_of(name) for name in datasets}
    for name, taxonomy in found.items():
        first = next(iter(found))
        if taxonomy != found[first]:
            raise ValueError(
                f"data sets that are used together need one taxonomy, but {first!r} has "
                f"{_in_short(found[first])} and {name!r} has {_in_short(taxonomy)}; a yaml with "
                "'categories' maps one data set's categories onto the other's (docs/your_data.md)"
            )
    return next(iter(found.values()), DEEPFASHION2)


def _in_short(taxonomy: Taxonomy) -> str:
    names = ", ".join(c.name for c in taxonomy.categories[:3])
    rest = ", ..." if taxonomy.num_categories > 3 else ""
    return (
        f"{taxonomy.num_categories} categories ({names}{rest}) with {taxonomy.num_landmarks} "
        "landmarks"
    )


_FILE = Path(__file__).with_name("taxonomy.json")
# By Python's own json: match_rcnn.onnx imports this with numpy alone.
DEEPFASHION2 = Taxonomy.from_dict(json.loads(_FILE.read_text(encoding="utf-8")), _FILE)
