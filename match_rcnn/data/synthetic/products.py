"""Products: what shares a ``pair_id``, its styles, and which photo shows what.

A family of sister products shares cut and look but for a detail, so that neither colour nor
category alone tells products apart.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from match_rcnn.data.image_sources import SHOP, USER
from match_rcnn.data.synthetic.cuts import (
    DRESSES,
    LOWERS,
    OUTWEAR,
    TOPS,
    Cut,
    random_cut,
    vary_cut,
)
from match_rcnn.data.synthetic.looks import Look, random_look, restyle, vary_look
from match_rcnn.data.taxonomy import DEEPFASHION2

USER_SHARE = 0.4
_PHOTOS_PER_PRODUCT, _FAMILY = 6, 3
#: pair_ids of the two splits never meet, whatever their sizes.
_FIRST_PAIR = {"train": 1, "validation": 100_001}
SPLITS = ("train", "validation")


@dataclass(frozen=True)
class Model:
    """A garment as a product: its looks are its styles, 1 and up."""

    category_id: int
    cut: Cut
    looks: tuple[Look, ...]


@dataclass(frozen=True)
class Product:
    """Everything of one ``pair_id``: the garment, and at times one sold with it.

    The companion's style is the number after the last of ``main``.
    """

    pair_id: int
    main: Model
    companion: Model | None

    @property
    def companion_style(self) -> int:
        """The ``style`` of the companion's items."""
        return len(self.main.looks) + 1


@dataclass(frozen=True)
class Photo:
    """What one image is to show.

    Attributes:
        source: ``user`` or ``shop``.
        number: the product's number in the split.
        take: how many photos of this product and source came before it.
    """

    source: str
    number: int
    take: int


@dataclass(frozen=True)
class Catalogue:
    """The products of a split of ``images`` images, and who is photographed when."""

    seed: int
    split: str
    images: int

    @property
    def products(self) -> int:
        """How many products there are."""
        return max(1, self.images // _PHOTOS_PER_PRODUCT)

    @property
    def users(self) -> int:
        """How many of the images are consumers'."""
        return round(self.images * USER_SHARE)

    def photo(self, index: int) -> Photo:
        """The plan of image ``index`` (0-based): consumers first in validation, else mixed."""
        if self.split == "validation":
            user = index < self.users
            rank = index if user else index - self.users
        else:
            before = self._users_before(index)
            user = self._users_before(index + 1) > before
            rank = before if user else index - before
        return Photo(USER if user else SHOP, rank % self.products, rank // self.products)

    def _users_before(self, index: int) -> int:
        return index * self.users // max(self.images, 1)

    def styles(self) -> int:
        """The most styles that every product can show in both domains."""
        return max(1, min(self.users, self.images - self.users) // self.products)

    def random(self, *key: int) -> np.random.Generator:
        """The generator of ``key``; one for each independent decision."""
        sequence = np.random.SeedSequence([self.seed, SPLITS.index(self.split), *key])
        return np.random.default_rng(sequence)

    def product(self, number: int) -> Product:
        """Product ``number``."""
        return _product(self, number)

    def _category(self, family: int) -> int:
        order = self.random(1, family // DEEPFASHION2.num_categories).permutation(
            DEEPFASHION2.num_categories
        )
        return int(order[family % DEEPFASHION2.num_categories]) + 1


@lru_cache(maxsize=4096)
def _product(catalogue: Catalogue, number: int) -> Product:
    count = catalogue.products
    families = max(min(count, DEEPFASHION2.num_categories), -(-count // _FAMILY))
    family = number % families
    rng = catalogue.random(2, family)
    category_id = catalogue._category(family)
    cut, look = random_cut(rng, category_id), random_look(rng, category_id)
    rng = catalogue.random(3, number)
    if number >= families:
        change = rng.random()
        if change < 0.5:
            cut = vary_cut(rng, category_id, cut)
        if change > 0.3:
            look = vary_look(rng, category_id, look)
    looks = [look]
    for _ in range(min(catalogue.styles(), int(rng.choice([1, 2, 3], p=[0.5, 0.35, 0.15]))) - 1):
        looks.append(restyle(rng, looks[-1]))
    main = Model(category_id, cut, tuple(looks))
    companion = _companion(rng, category_id) if rng.random() < 0.25 else None
    return Product(_FIRST_PAIR[catalogue.split] + number, main, companion)


def _companion(rng: np.random.Generator, category_id: int) -> Model | None:
    if category_id in TOPS + OUTWEAR:
        return random_model(rng, LOWERS)
    return random_model(rng, TOPS) if category_id in LOWERS else None


def random_model(rng: np.random.Generator, categories: tuple[int, ...]) -> Model:
    """A garment that is no product of ours, of one of ``categories``."""
    category_id = int(rng.choice(categories))
    return Model(category_id, random_cut(rng, category_id), (random_look(rng, category_id),))


def slot(category_id: int) -> str:
    """Where a garment is worn: ``inner``, ``lower`` or ``outer``."""
    if category_id in OUTWEAR:
        return "outer"
    if category_id in LOWERS:
        return "lower"
    assert category_id in TOPS + DRESSES
    return "inner"
