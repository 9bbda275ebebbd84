"""Which articles a generated benchmark has, and which photo is of which: a function of settings."""

from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from match_rcnn.data.synthetic.conditions import SHOP, USER, Conditions
from match_rcnn.data.synthetic.wardrobe import KINDS, WORN, Article, random_article, sister

SPLITS = ("train", "val", "test")
#: Images of an article.
IMAGES_OF = {"category": 2, "inshop": 6, "consumer2shop": 5, "landmark": 2}
#: Articles of a family, which differ in details: what makes a search hard.
_FAMILY = {"category": 1, "inshop": 3, "consumer2shop": 3, "landmark": 1}
#: In-shop's views in turn: the file's ending, and shares of flat, frontal, turned photos.
_VIEWS = (
    ("1_front", (0.0, 1.0, 0.0)),
    ("7_additional", (0.0, 0.0, 1.0)),
    ("4_full", (0.0, 1.0, 0.0)),
    ("6_flat", (1.0, 0.0, 0.0)),
)


@dataclass(frozen=True)
class Settings:
    """What decides the data: numbers of images by split, and the longer side in pixels."""

    benchmark: str
    train: int
    val: int
    test: int
    seed: int
    size: int


@dataclass(frozen=True)
class Photo:
    """One image to draw.

    Attributes:
        name: as in the lists.
        split: as in the partition.
        item: number of its article, over all splits.
        how: the conditions it is taken under.
        shop: whether it is a shop's.
        recoloured: whether it shows the article's second colour.
    """

    name: str
    split: str
    item: int
    how: Conditions
    shop: bool
    recoloured: bool = False


@lru_cache(maxsize=4)
def plan(settings: Settings) -> tuple[Photo, ...]:
    """All photos, split by split."""
    photos: list[Photo] = []
    first = 0
    for split in SPLITS:
        count = getattr(settings, split)
        items = max(1, count // IMAGES_OF[settings.benchmark]) if count else 0
        takes: Counter[int] = Counter()
        for i in range(count):
            item = first + i * items // count
            photos.append(_photo(settings, split, item, takes[item], len(photos)))
            takes[item] += 1
        first += items
    return tuple(photos)


def _photo(settings: Settings, split: str, item: int, take: int, index: int) -> Photo:
    article = article_of(settings, item)
    kind = article.kind.name
    shop = take % 2 == 0
    how = SHOP if shop else USER
    if settings.benchmark == "inshop":
        view, viewpoints = _VIEWS[take % len(_VIEWS)]
        colour = take // len(_VIEWS)
        name = f"img/WOMEN/{kind}/id_{item + 1:08d}/{colour + 1:02d}_{view}.jpg"
        part = split if split == "train" else ("query", "gallery")[take % 2]
        far = 0.6 if view == "4_full" else 0.0
        how = replace(SHOP, viewpoints=viewpoints, far=far, whole=far)
        return Photo(name, part, item, how, True, colour % 2 == 1)
    if settings.benchmark == "consumer2shop":
        group = {1: "TOPS", 2: "TROUSERS", 3: "DRESSES"}[article.kind.type]
        who = f"shop_{take // 2 + 1:02d}" if shop else f"comsumer_{take // 2 + 1:02d}"
        return Photo(f"img/{group}/{kind}/id_{item + 1:08d}/{who}.jpg", split, item, how, shop)
    folder = "" if settings.benchmark == "landmark" else f"{_title(article)}_{item + 1:05d}/"
    return Photo(f"img/{folder}img_{index + 1:08d}.jpg", split, item, how, shop)


def _title(article: Article) -> str:
    """What a folder of the category benchmark is called: some words of the article."""
    words = " ".join([*article.names[:2], article.kind.name])
    return "_".join(word.capitalize() for word in words.split())


@lru_cache(maxsize=4096)
def article_of(settings: Settings, item: int) -> Article:
    """Article ``item``; those of a family are sisters, the first of which all others vary."""
    split, number = split_of(settings, item)
    family, place = divmod(number, _FAMILY[settings.benchmark])
    # Every kind as often as the others, in an order of its own for each round.
    turn, own = divmod(family, len(WORN))
    kind = KINDS[WORN[int(random_of(settings, 0, split, turn).permutation(len(WORN))[own])]]
    article = random_article(random_of(settings, 1, split, family), kind)
    if place == 0:
        return article
    return sister(random_of(settings, 2, split, number), article)


def split_of(settings: Settings, item: int) -> tuple[int, int]:
    """The number of the split of an article, and its own number there."""
    for index, split in enumerate(SPLITS):
        count = getattr(settings, split)
        items = max(1, count // IMAGES_OF[settings.benchmark]) if count else 0
        if item < items:
            return index, item
        item -= items
    raise AssertionError(item)


def random_of(settings: Settings, *key: int) -> np.random.Generator:
    """The generator of ``key``; one for each independent decision."""
    return np.random.default_rng(np.random.SeedSequence([settings.seed, *key]))
