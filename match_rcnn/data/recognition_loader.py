"""The records of photos with one garment (DeepFashion, 2016) as a recognition model's batches.

Several data sets can be learned from at once. A model knows the attributes, told apart by name,
that one of them has; those that a data set does not label are unknown there. Its categories, of
which a garment has one, are those of the first data set; others' are unknown, but for those of the
same name. Words of descriptions (:mod:`match_rcnn.data.words`) are counted over all.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.utils.data as torchdata

from match_rcnn.d2 import CfgNode, DatasetCatalog, MetadataCatalog, comm
from match_rcnn.data import given_boxes
from match_rcnn.data.crops import CropMapper
from match_rcnn.data.loader import Batch, Mixture, list_collator
from match_rcnn.data.pairs import PairBatchSampler, PairedStream
from match_rcnn.data.readable import ReadableSamples
from match_rcnn.data.recognition import Records
from match_rcnn.data.streams import Items, ShuffledStream, StreamBatchSampler
from match_rcnn.data.taxonomy import Attribute, Category, Taxonomy
from match_rcnn.data.words import Text, Vocabulary, WordStream, most_frequent
from match_rcnn.utils.arrays import Array, IntArray
from match_rcnn.utils.signals import ignore_preemption, kill_helpers_at_exit


def taxonomy_of_records(dataset: str) -> Taxonomy:
    """The categories and attributes of a registered data set of one garment an image."""
    DatasetCatalog.get(dataset)  # some state their names when they are read
    metadata = MetadataCatalog.get(dataset)
    categories = (Category(i, name) for i, name in enumerate(metadata.thing_classes, 1))
    return Taxonomy(dataset, tuple(categories), given_boxes.attributes_of(dataset))


def taxonomy_to_recognise(datasets: Sequence[str], words: int = 0) -> Taxonomy:
    """What a model learns from data sets; attributes in the order of first appearance.

    Args:
        words: so many of their descriptions' most frequent words.
    """
    found = [taxonomy_of_records(name) for name in datasets]
    attributes: dict[str, Attribute] = {}
    for own in found:
        for attribute in own.attributes:
            attributes.setdefault(attribute.name, attribute)
    texts = (text for name in datasets if words for text in descriptions(DatasetCatalog.get(name)))
    vocabulary = most_frequent(texts, words)
    return replace(found[0], attributes=tuple(attributes.values()), words=vocabulary)


def words_to_learn(cfg: CfgNode) -> int:
    """How many words a model shall know at most: none, where no head reads any."""
    node = cfg.MODEL.RECOGNITION
    return int(node.WORDS.VOCABULARY) if "WordHead" in node.HEADS else 0


def descriptions(records: Sequence[dict[str, Any]]) -> Sequence[Text]:
    """Of all records; empty where there is none."""
    if isinstance(records, Records):
        return records.descriptions()
    return [record.get("description", "") for record in records]


Named = Sequence[Category | Attribute]


def places(own: Named, known: Named) -> IntArray:
    """(len(own),) where those of each name stand among the known ones, -1 where they do not."""
    where = {each.name: i for i, each in enumerate(known)}
    return np.array([where.get(each.name, -1) for each in own], dtype=np.int64)


class Relabelled(torchdata.Dataset[dict[str, Any]]):
    """A data set's records with the labels as a model numbers them; the rest is left as it is.

    Args:
        dataset: its registered name.
        taxonomy: the model's.

    Raises:
        ValueError: the data set has no image.
    """

    def __init__(self, dataset: str, taxonomy: Taxonomy) -> None:
        self.name = dataset
        self.items: Sequence[dict[str, Any]] = DatasetCatalog.get(dataset)
        if not len(self.items):
            raise ValueError(f"{dataset} has no image")
        own = taxonomy_of_records(dataset)
        self.categories = places(own.categories, taxonomy.categories)
        self.attributes = places(own.attributes, taxonomy.attributes)
        self.num_attributes = len(taxonomy.attributes)
        self.vocabulary = Vocabulary(taxonomy.words)

    def words(self) -> list[IntArray]:
        """The places of the words that each image has."""
        return [self.vocabulary.indices(text) for text in descriptions(self.items)]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self.items[index]
        moved = [self._relabel(a) for a in record["annotations"]]
        if len(self.vocabulary) and "description" in record:
            words = self.vocabulary.indices(record["description"])
            moved = [{**annotation, "words": words} for annotation in moved]
        return {**record, "annotations": moved}

    def _relabel(self, annotation: dict[str, Any]) -> dict[str, Any]:
        moved = dict(annotation)
        if "category_id" in moved:
            moved["category_id"] = int(self.categories[moved["category_id"]])
        if "attributes" in moved:
            moved["attributes"] = np.zeros(self.num_attributes, np.int8)
            known = self.attributes >= 0
            moved["attributes"][self.attributes[known]] = annotation["attributes"][known]
        return moved


@dataclass
class ItemPairs:
    """Pairs of images that show the same item, as :class:`~match_rcnn.data.pairs.PairedStream`
    draws them: any two, or where the domains are known one of each.

    Attributes:
        anchors: the images that have a partner, ascending.
    """

    anchors: list[int] = field(default_factory=list)
    _partners: dict[int, list[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, parts: Sequence[Sequence[dict[str, Any]]]) -> "ItemPairs":
        """Of records of data sets that follow one another; an item's id means the same within one
        of them."""
        groups: dict[tuple[int, str], dict[Any, list[int]]] = defaultdict(lambda: defaultdict(list))
        first = 0
        for k, part in enumerate(parts):
            for i, (item, domain) in enumerate(_items(part)):
                if item:
                    groups[k, item][domain].append(first + i)
            first += len(part)
        found = cls()
        for domains in groups.values():
            for domain, own in domains.items():
                others = [i for other, rows in domains.items() if other != domain for i in rows]
                for i in own:
                    partners = others if domain else [j for j in own if j != i]
                    if partners:
                        found._partners[i] = partners
        found.anchors = sorted(found._partners)
        return found

    def draw_pair(self, anchor: int, generator: np.random.Generator) -> tuple[int, int]:
        """The image and one of its partners, each with equal chances."""
        partners = self._partners[anchor]
        return anchor, partners[int(generator.integers(len(partners)))]


def _items(records: Sequence[dict[str, Any]]) -> Iterator[tuple[str | None, str | None]]:
    """The item and the domain of each record, None where there is none."""
    if not isinstance(records, Records):
        yield from ((record.get("item"), record.get("domain")) for record in records)
        return
    nothing = [None] * len(records)
    columns = (
        records.column(name).tolist() if name in records[0] else nothing
        for name in ("item", "domain")
    )
    yield from zip(*columns, strict=True)


def count_attributes(parts: Sequence[Relabelled]) -> IntArray:
    """(2, A) of how many images it is known that they have each attribute not, and have it."""
    counts = np.zeros((2, parts[0].num_attributes), np.int64)
    for part in parts:
        own, known = part.attributes, part.attributes >= 0
        counts[:, own[known]] += given_boxes.count_attributes(part.items, len(own))[:, known]
    return counts


def count_together(parts: Sequence[Relabelled], types: Sequence[Sequence[int]]) -> IntArray:
    """How many of a type's attributes images have at once.

    Args:
        types: the places of each type's attributes among the model's.

    Returns:
        (T, 3) of how many images have none of them, one, and several; images of a data set that
        labels none of them are not counted.
    """
    counts = np.zeros((len(types), 3), np.int64)
    for part in parts:
        own = [np.flatnonzero(np.isin(part.attributes, places)) for places in types]
        for labels in _attribute_labels(part.items):
            for type_counts, columns in zip(counts, own, strict=True):
                if len(columns):
                    found = (labels[:, columns] == 1).sum(1).clip(max=2)
                    type_counts += np.bincount(found, minlength=3)
    return counts


def _attribute_labels(items: Sequence[dict[str, Any]]) -> Iterable[Array]:
    """(n, A') of some images after the other."""
    if isinstance(items, Records):
        return items.attribute_labels()
    annotations = (annotation for item in items for annotation in item["annotations"])
    return (a["attributes"][None] for a in annotations if "attributes" in a)


def build_recognition_train_loader(cfg: CfgNode, taxonomy: Taxonomy) -> torchdata.DataLoader[Batch]:
    """An endless loader of batches for training; with ``SEED`` < 0 a seed is drawn and shared.

    With ``DATALOADER.SAMPLER_TRAIN PairSampler`` a share of each batch (``DATALOADER.PAIR_SHARE``)
    comes as pairs of images of one item, of which triplets are made; the other items of the batch
    are their negatives. With ``WordSampler`` images are drawn by their words
    (:class:`~match_rcnn.data.words.WordStream`).

    Args:
        taxonomy: the model's.

    Raises:
        ValueError: an unknown sampler, or pairs are asked for and no item has two images, or words
            and no image has one, or both words and the data sets' weights.
    """
    kind = cfg.DATALOADER.SAMPLER_TRAIN
    if kind not in _SAMPLERS:
        raise ValueError(
            f"DATALOADER.SAMPLER_TRAIN must be one of {', '.join(_SAMPLERS)}; got {kind}"
        )
    if kind == "WordSampler" and cfg.DATASETS.TRAIN_WEIGHTS:
        raise ValueError(
            "DATASETS.TRAIN_WEIGHTS says how often a data set is drawn from, and WordSampler draws "
            "words: leave one of them out"
        )
    parts = [Relabelled(name, taxonomy) for name in cfg.DATASETS.TRAIN]
    mapper = CropMapper(cfg, is_train=True, num_attributes=len(taxonomy.attributes))
    items: Items = torchdata.ConcatDataset(parts)
    seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
    weights = cfg.DATASETS.TRAIN_WEIGHTS
    images = (
        Mixture([len(part) for part in parts], weights).stream(items, seed)
        if weights
        else ShuffledStream(items, seed)
    )
    place: dict[str, Any] = {"rank": comm.get_rank(), "world_size": comm.get_world_size()}
    stream: ShuffledStream | PairedStream = images
    if kind == "WordSampler":
        stream = images = WordStream(items, [own for part in parts for own in part.words()], seed)
    if kind != "PairSampler":
        sampler: Any = StreamBatchSampler(images, cfg.SOLVER.IMS_PER_BATCH, **place)
    else:
        stream = PairedStream(images, _pairs(cfg, parts))
        share = cfg.DATALOADER.PAIR_SHARE
        sampler = PairBatchSampler(stream, cfg.SOLVER.IMS_PER_BATCH, pair_share=share, **place)
    kill_helpers_at_exit()
    return torchdata.DataLoader(
        ReadableSamples(stream, mapper),  # type: ignore[arg-type]
        batch_sampler=sampler,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=list_collator,
        generator=torch.Generator(),  # its own: see match_rcnn.data.loader
        worker_init_fn=ignore_preemption,
        pin_memory=cfg.DATALOADER.PIN_MEMORY,
    )


_SAMPLERS = ("TrainingSampler", "PairSampler", "WordSampler")


def _pairs(cfg: CfgNode, parts: Sequence[Relabelled]) -> Any:
    pairs = ItemPairs.of([part.items for part in parts])
    if not pairs.anchors:
        raise ValueError(
            f"PairSampler finds no item with two images in {', '.join(cfg.DATASETS.TRAIN)}: add "
            "an in-shop or consumer-to-shop set, or choose DATALOADER.SAMPLER_TRAIN "
            "TrainingSampler"
        )
    return pairs


class _Mapped(torchdata.Dataset[dict[str, Any]]):
    def __init__(self, items: Sequence[dict[str, Any]], mapper: CropMapper) -> None:
        self.items, self.mapper = items, mapper

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.mapper(self.items[index])


def build_recognition_test_loader(cfg: CfgNode, dataset: str) -> torchdata.DataLoader[Batch]:
    """Every image of a data set once, over all processes, in its order."""
    items = DatasetCatalog.get(dataset)
    mapper = CropMapper(cfg, is_train=False, keep_truth=cfg.TEST.ORACLE_LANDMARKS)
    own = np.array_split(np.arange(len(items)), comm.get_world_size())[comm.get_rank()]
    return torchdata.DataLoader(
        _Mapped(items, mapper),  # type: ignore[arg-type]
        sampler=own.tolist(),
        batch_size=cfg.TEST.RECOGNITION_BATCH,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=list_collator,
    )
