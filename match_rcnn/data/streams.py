"""Training samples as a pure function of (seed, iteration): any run can be continued exactly.

Shapes and names: ``N`` images of the data set; a *position* ``p = 0, 1, 2, ...`` counts samples
since the start of training. Position ``p`` shows image ``order(p // N)[p % N]``, where
``order(epoch)`` is a permutation drawn from (seed, epoch). A batch is a list of positions; all
processes compute the same global batches and each takes its own part of them. A sample's
augmentations are drawn from (seed, p). Several data sets can take turns in given shares
(:class:`MixedStream`); each is then permuted by itself. Hence nothing about the loader needs to be
saved but the seed: to continue at iteration ``i``, the first ``i`` batches are passed over without
loading.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch.utils.data as torchdata

from match_rcnn.utils.arrays import FloatArray, IntArray


class Items(Protocol):
    """Dataset dicts by index: a list of them, or the host's serialised form."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> dict[str, Any]: ...


class EpochOrder:
    """An endless sequence of the numbers below ``count``, permuted anew every epoch.

    Args:
        rates: how often each number comes, relative to the others; None: once an epoch. An epoch
            has ``count`` numbers all the same: where some come more often, others come less.
    """

    def __init__(
        self, count: int, seed: int, shuffle: bool = True, rates: FloatArray | None = None
    ) -> None:
        self.count, self.seed, self.shuffle = count, seed, shuffle
        #: Where each number's share of an epoch's places ends.
        self._ends = None if rates is None else np.cumsum(rates / rates.sum() * count)
        self._epoch = -1
        self._order: IntArray = np.arange(0)

    def __getitem__(self, position: int) -> int:
        epoch, place = divmod(position, self.count)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._draw(epoch)
        return int(self._order[place])

    def _draw(self, epoch: int) -> IntArray:
        numbers: IntArray = np.arange(self.count)
        generator = np.random.default_rng([self.seed, epoch])
        if self._ends is not None:
            # Systematic sampling: a number with share s comes floor(s) or ceil(s) times.
            marks = numbers + generator.uniform()
            numbers = np.searchsorted(self._ends, marks, side="right").clip(max=self.count - 1)
        return generator.permutation(numbers) if self.shuffle else numbers


class ShuffledStream:
    """An endless sequence over ``items``, reshuffled every epoch.

    ``stream[p]`` is a copy of the item at position ``p`` with the key ``"seed"`` added, from
    which the mapper draws the sample's augmentations. ``len`` is that of one epoch.

    Args:
        rates: as :class:`EpochOrder` takes them, one an item.
    """

    def __init__(
        self, items: Items, seed: int, shuffle: bool = True, rates: FloatArray | None = None
    ) -> None:
        if len(items) == 0:
            raise ValueError("the training set holds no image; check DATASETS.TRAIN and its files")
        self.items = items
        self.seed = seed
        self._shuffle = shuffle
        self._rates = rates
        self._order = EpochOrder(len(items), seed, shuffle, rates)

    def __len__(self) -> int:
        return len(self.items)

    def index(self, position: int) -> int:
        """The item that ``position`` shows."""
        return self._order[position]

    def reseed(self, seed: int) -> None:
        """Become the stream of another seed."""
        self.seed = seed
        self._order = EpochOrder(len(self.items), seed, self._shuffle, self._rates)

    def __getitem__(self, position: int) -> dict[str, Any]:
        item = dict(self.items[self.index(position)])
        item["seed"] = sample_seed(self.seed, position)
        return item

    def units(self, keys: Sequence[int]) -> list[list[int]]:
        """Keys by what can only be replaced together: here each alone."""
        return [[key] for key in keys]

    def substitutes(self, unit: Sequence[int], attempt: int) -> list[dict[str, Any]]:
        """Other items for a unit whose own cannot be used, a new draw each attempt."""
        items = []
        for position in unit:
            generator = np.random.default_rng([self.seed, 2, position, attempt])
            among = self._alternatives(position)
            item = dict(self.items[among[int(generator.integers(len(among)))]])
            items.append({**item, "seed": sample_seed(self.seed, position)})
        return items

    def _alternatives(self, position: int) -> range:
        """The items of which any could stand at ``position``."""
        return range(len(self.items))


class MixedStream(ShuffledStream):
    """Several data sets that take turns, each in its own order, reshuffled whenever it is through.

    A round of at most 1,000 positions holds each data set as often as its weight says, to a
    thousandth, spread evenly: so every batch is mixed.

    Args:
        items: of all data sets, one after the other.
        counts: how many of them are each data set's.
        weights: what part of the samples each data set gets, relative to the others.
        rates: as :class:`EpochOrder` takes them, one an item; they tell items of a data set apart.

    Raises:
        ValueError: the weights are not numbers above 0, one for each data set.
    """

    def __init__(
        self,
        items: Items,
        seed: int,
        counts: Sequence[int],
        weights: Sequence[float],
        rates: FloatArray | None = None,
    ) -> None:
        if len(weights) != len(counts) or not all(0 < w < float("inf") for w in weights):
            raise ValueError(
                f"DATASETS.TRAIN_WEIGHTS: expected {len(counts)} numbers above 0, one for each "
                f"data set of DATASETS.TRAIN; got {list(weights)}"
            )
        super().__init__(items, seed, rates=rates)
        self._starts = np.cumsum([0, *counts])
        shares = _whole_shares(weights)
        turns = [((i + 0.5) / share, k, i) for k, share in enumerate(shares) for i in range(share)]
        #: Of each place in a round: the data set, and how often it came before in the round.
        self._round = [(k, i) for _, k, i in sorted(turns)]
        self._shares = shares
        self._orders = self._own_orders()

    def _own_orders(self) -> list[EpochOrder]:
        seeds = np.random.SeedSequence([self.seed, 4]).generate_state(len(self._shares))
        parts = [slice(a, b) for a, b in itertools.pairwise(self._starts)]
        return [
            EpochOrder(
                part.stop - part.start,
                int(seed),
                rates=None if self._rates is None else self._rates[part],
            )
            for part, seed in zip(parts, seeds, strict=True)
        ]

    def index(self, position: int) -> int:
        rounds, place = divmod(position, len(self._round))
        part, before = self._round[place]
        own = self._orders[part][rounds * self._shares[part] + before]
        return int(self._starts[part]) + own

    def reseed(self, seed: int) -> None:
        super().reseed(seed)
        self._orders = self._own_orders()

    def _alternatives(self, position: int) -> range:
        part, _ = self._round[position % len(self._round)]
        return range(int(self._starts[part]), int(self._starts[part + 1]))


def repeat_rates(items: Sequence[dict[str, Any]], threshold: float) -> FloatArray:
    """(N,) how often each image shall come, so that rare categories are seen more often.

    A category in a part ``f`` of the images asks for ``max(1, sqrt(threshold / f))``; an image gets
    what its rarest category asks for (Gupta, Dollar and Girshick, LVIS, CVPR 2019, section 4.3).

    Args:
        items: dataset dicts of one data set.
        threshold: a part of the images, above 0: categories in more of them come as they do.
    """
    found = [
        {a["category_id"] for a in item["annotations"] if not a.get("iscrowd", 0)} for item in items
    ]
    images = Counter(itertools.chain.from_iterable(found))
    asked = {c: max(1.0, math.sqrt(threshold * len(items) / n)) for c, n in images.items()}
    return np.array([max((asked[c] for c in categories), default=1.0) for categories in found])


def _whole_shares(weights: Sequence[float]) -> list[int]:
    """Whole numbers in the proportions of the weights, to a thousandth of their sum."""
    shares = [max(1, round(1000 * w / sum(weights))) for w in weights]
    divisor = math.gcd(*shares)
    return [share // divisor for share in shares]


def sample_seed(seed: int, position: int) -> int:
    """What the augmentations of one sample are drawn from."""
    return int(np.random.SeedSequence([seed, position]).generate_state(1)[0])


def own_share(total_batch_size: int, world_size: int) -> int:
    """The images of a batch that each process gets.

    Raises:
        ValueError: the processes cannot share the batch equally.
    """
    if total_batch_size < world_size or total_batch_size % world_size:
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH ({total_batch_size}) must be a multiple of the number of "
            f"processes ({world_size})"
        )
    return total_batch_size // world_size


class StreamBatchSampler(torchdata.Sampler[list[int]]):
    """Endless batches of positions for one process.

    Args:
        stream: what the positions index.
        total_batch_size: images of one batch over all processes.
        rank, world_size: this process among them.
        landscape: for each item, whether its image is wider than high. Given, a batch holds
            images of one orientation only (less padding); the order is otherwise the stream's.

    Attributes:
        start: the iteration to begin with; set it before iterating to continue a run.
    """

    def __init__(
        self,
        stream: ShuffledStream,
        total_batch_size: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        landscape: Sequence[bool] | None = None,
    ) -> None:
        self._share = own_share(total_batch_size, world_size)
        self.stream = stream
        self.total_batch_size = total_batch_size
        self.rank = rank
        self.world_size = world_size
        self.landscape = landscape
        self.start = 0

    def __iter__(self) -> Iterator[list[int]]:
        own = slice(self.rank * self._share, (self.rank + 1) * self._share)
        for iteration, batch in enumerate(self._global_batches()):
            if iteration >= self.start:
                yield batch[own]

    def _global_batches(self) -> Iterator[list[int]]:
        buckets: dict[bool, list[int]] = {False: [], True: []}
        position = 0
        while True:
            wide = bool(self.landscape[self.stream.index(position)]) if self.landscape else False
            buckets[wide].append(position)
            if len(buckets[wide]) == self.total_batch_size:
                yield buckets[wide]
                buckets[wide] = []
            position += 1
