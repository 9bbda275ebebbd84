"""Which items match, and batches that hold user/shop pairs.

Two items are a positive pair when their images' ``pair_id`` is equal, their ``style`` is equal and
greater than 0, and one lies in a ``user`` photo, the other in a ``shop`` photo (DeepFashion2's
paper, section 3.1, and its repository's issues #10 and #12). Different styles of one ``pair_id``
are different clothes.

Names: a *product* is a (pair_id, style); an image *pair* is a user and a shop image that share a
product; ``N`` images of the data set. Like :mod:`match_rcnn.data.streams`, all is a pure function
of the seed and a position: nothing needs to be saved to continue.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import torch.utils.data as torchdata

from match_rcnn.data.image_sources import SHOP, SOURCES, USER
from match_rcnn.data.streams import ShuffledStream, own_share, sample_seed


class Product(NamedTuple):
    """What matching items have in common."""

    pair_id: int
    style: int


def product_of(image: dict[str, Any], annotation: dict[str, Any]) -> Product | None:
    """The product of an annotated item; None when it takes part in no pair."""
    pair_id, style = image.get("pair_id"), annotation.get("style")
    if pair_id is None or not style or style < 0 or image.get("source") not in SOURCES:
        return None
    return Product(int(pair_id), int(style))


@dataclass
class Photos:
    """The images (indices into the data set) that show a product, by domain."""

    user: list[int] = field(default_factory=list)
    shop: list[int] = field(default_factory=list)

    def of(self, source: str) -> list[int]:
        return self.user if source == USER else self.shop


class PairIndex:
    """The image pairs of a data set.

    Args:
        items: dataset dicts (:mod:`match_rcnn.data.datasets`).

    Attributes:
        products: every product with at least one photo in each domain.
        anchors: the images that show such a product, ascending; each has a partner.
    """

    def __init__(self, items: Sequence[dict[str, Any]]) -> None:
        photos: dict[Product, Photos] = defaultdict(Photos)
        for i, image in enumerate(items):
            found = {product_of(image, a) for a in image.get("annotations", [])}
            for product in found - {None}:
                assert product is not None
                photos[product].of(image["source"]).append(i)
        self.products = {p: seen for p, seen in sorted(photos.items()) if seen.user and seen.shop}
        self._sources = {}
        self._shown: dict[int, list[Product]] = defaultdict(list)
        for product, seen in self.products.items():
            for source in SOURCES:
                for i in seen.of(source):
                    self._shown[i].append(product)
                    self._sources[i] = source
        self.anchors = sorted(self._shown)

    def draw_pair(self, anchor: int, generator: np.random.Generator) -> tuple[int, int]:
        """(user image, shop image) of which one is ``anchor``: a product that it shows is drawn,
        then a photo of that product from the other domain, each with equal chances."""
        shown = self._shown[anchor]
        photos = self.products[shown[generator.integers(len(shown))]]
        source = self._sources[anchor]
        others = photos.of(SHOP if source == USER else USER)
        other = others[generator.integers(len(others))]
        return (anchor, other) if source == USER else (other, anchor)

    def has_partner(self, image: dict[str, Any], annotation: dict[str, Any]) -> bool:
        """Whether an item's product is shown in the other domain too."""
        return product_of(image, annotation) in self.products

    def mark(self, items: Sequence[dict[str, Any]]) -> None:
        """Set ``has_partner`` on every annotation: whether its product is in ``products``."""
        for image in items:
            for annotation in image.get("annotations", []):
                annotation["has_partner"] = self.has_partner(image, annotation)


class PairedStream:
    """The images of a stream and, beside them, endless image pairs.

    Keys are integers: ``3 p`` is position ``p`` of the ordinary stream over all images; ``3 p + 1``
    and ``3 p + 2`` are the user and the shop image of pair position ``p``. An epoch of pairs shows
    every image that has a partner once, with a partner drawn anew; so every positive pair comes
    up in the long run, and a product with many photos is not shown more often than its photos.
    """

    def __init__(self, images: ShuffledStream, index: PairIndex) -> None:
        if not index.anchors:
            raise ValueError(
                "PairSampler finds no pair in the training set: no user and shop image share a "
                "pair_id and a style > 0; choose DATALOADER.SAMPLER_TRAIN TrainingSampler"
            )
        self.images = images
        self.pairs = index
        self._anchors = ShuffledStream([{"image": i} for i in index.anchors], images.seed)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def seed(self) -> int:
        return self.images.seed

    def reseed(self, seed: int) -> None:
        """Become the stream of another seed."""
        self.images.reseed(seed)
        self._anchors.reseed(seed)

    def pair(self, position: int) -> tuple[int, int]:
        """(user image, shop image) of a pair position."""
        anchor = self.pairs.anchors[self._anchors.index(position)]
        return self.pairs.draw_pair(anchor, np.random.default_rng([self.seed, 1, position]))

    def index(self, key: int) -> int:
        """The image of a key."""
        position, side = divmod(key, 3)
        return self.pair(position)[side - 1] if side else self.images.index(position)

    def __getitem__(self, key: int) -> dict[str, Any]:
        return self._item(self.index(key), key)

    def _item(self, index: int, key: int) -> dict[str, Any]:
        return {**self.images.items[index], "seed": sample_seed(self.seed, key)}

    def units(self, keys: Sequence[int]) -> list[list[int]]:
        """Keys by what can only be replaced together: the two of a pair, and others alone."""
        units: list[list[int]] = []
        for key in keys:
            if key % 3 == 2 and units and units[-1] == [key - 1]:
                units[-1].append(key)
            else:
                units.append([key])
        return units

    def substitutes(self, unit: Sequence[int], attempt: int) -> list[dict[str, Any]]:
        """Other items for a unit whose own cannot be used, a new draw each attempt: for a pair
        another pair, since the rest of it would match nothing."""
        position, side = divmod(unit[0], 3)
        if not side:
            return self.images.substitutes([position], attempt)
        generator = np.random.default_rng([self.seed, 3, position, attempt])
        anchor = self.pairs.anchors[int(generator.integers(len(self.pairs.anchors)))]
        pair = self.pairs.draw_pair(anchor, generator)
        return [self._item(pair[key % 3 - 1], key) for key in unit]


class PairBatchSampler(torchdata.Sampler[list[int]]):
    """Endless batches of keys of a :class:`PairedStream` for one process.

    A process's part of a batch is whole pairs, user image first, then unpaired images. The two of
    a pair are never split. Pairs go around the processes, so that none gets more than others.

    Args:
        stream: what the keys index.
        total_batch_size: images of one batch over all processes.
        pair_share: of the images, how many come as pairs, in (0, 1]; met exactly over time.
        rank, world_size: this process among them.

    Attributes:
        start: the iteration to begin with; set it before iterating to continue a run.
    """

    def __init__(
        self,
        stream: PairedStream,
        total_batch_size: int,
        *,
        pair_share: float = 1.0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._images = own_share(total_batch_size, world_size)
        slots = self._images // 2 * world_size
        if not 0 < pair_share <= 1:
            raise ValueError(f"DATALOADER.PAIR_SHARE must be in (0, 1], got {pair_share}")
        if not slots:
            raise ValueError(
                f"a pair needs two images in one process; SOLVER.IMS_PER_BATCH "
                f"({total_batch_size}) gives each of {world_size} processes {self._images}"
            )
        self.stream = stream
        self.total_batch_size = total_batch_size
        self.rank = rank
        self.world_size = world_size
        # An exact fraction: sums over millions of iterations must not drift.
        wanted = Fraction(pair_share).limit_denominator(1000) * total_batch_size / 2
        self._pairs_per_batch = min(wanted, Fraction(slots))
        self.start = 0

    def __iter__(self) -> Iterator[list[int]]:
        iteration = self.start
        while True:
            yield self.batch(iteration)
            iteration += 1

    def batch(self, iteration: int) -> list[int]:
        """This process's keys of an iteration."""
        begin, end = (int(self._pairs_per_batch * i) for i in (iteration, iteration + 1))
        owners = [position % self.world_size for position in range(begin, end)]
        keys: list[int] = []
        for position, owner in zip(range(begin, end), owners, strict=True):
            if owner == self.rank:
                keys += [3 * position + 1, 3 * position + 2]
        return keys + self._unpaired(iteration, begin, owners)

    def _unpaired(self, iteration: int, pairs_before: int, owners: list[int]) -> list[int]:
        free = [self._images - 2 * owners.count(rank) for rank in range(self.world_size)]
        first = iteration * self.total_batch_size - 2 * pairs_before + sum(free[: self.rank])
        return [3 * position for position in range(first, first + free[self.rank])]
