import itertools
from functools import partial

import numpy as np
import pytest
import torch

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import DatasetCatalog, MetadataCatalog
from match_rcnn.data.loader import build_train_loader, build_train_loader_from_cfg
from match_rcnn.data.taxonomy import Taxonomy


def items(n):
    return [{"image_id": i, "width": 10 + i % 2, "height": 10} for i in range(n)]


def take(iterable, n):
    return list(itertools.islice(iterable, n))


def noisy_mapper(item):
    state = np.random.RandomState(item["seed"])
    return {"image_id": item["image_id"], "draw": state.rand()}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_continued_loader_gives_what_the_first_would_have_given(workers):
    def loader():
        return build_train_loader(
            items(7), noisy_mapper, total_batch_size=4, seed=5, num_workers=workers
        )

    whole = take(loader(), 8)
    continued = loader()
    continued.batch_sampler.start = 5
    assert take(continued, 3) == whole[5:]
    assert all(len(batch) == 4 for batch in whole)


@pytest.mark.parametrize("workers", [0, 1])
def test_starting_the_loader_does_not_move_the_training_s_generator(workers):
    loader = build_train_loader(
        items(7), noisy_mapper, total_batch_size=4, seed=5, num_workers=workers
    )
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    next(iter(loader))
    assert torch.rand(1) == expected


@pytest.fixture
def two_data_sets():
    """Names of two data sets: 4 and 2 images, each with a pair of products of its own."""

    def images(name, count):
        whose = {0: ("user", 3), 1: ("shop", 3)}
        return [
            {
                "file_name": f"{name}{i}.jpg",
                "image_id": i,
                "width": 10,
                "height": 10,
                "source": whose.get(i, (None, None))[0],
                "pair_id": whose.get(i, (None, None))[1],
                "annotations": [{"category_id": 0, "style": 1}],
            }
            for i in range(count)
        ]

    for name, count in (("loader_a", 4), ("loader_b", 2)):
        DatasetCatalog.register(name, partial(images, name, count))
        MetadataCatalog.get(name).thing_classes = ["garment"]
    yield "loader_a", "loader_b"
    for name in ("loader_a", "loader_b"):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def loader_of(monkeypatch, *overrides):
    monkeypatch.setattr("match_rcnn.data.loader.GarmentMapper", lambda cfg, is_train: dict)
    cfg = get_match_rcnn_cfg()
    cfg.merge_from_list(["SEED", 3, "DATALOADER.NUM_WORKERS", 0, *overrides])
    return build_train_loader_from_cfg(cfg)


class TestSeveralDataSets:
    def test_weights(self, two_data_sets, monkeypatch):
        keys = ["DATASETS.TRAIN", two_data_sets, "DATASETS.TRAIN_WEIGHTS", (1, 3)]
        loader = loader_of(monkeypatch, *keys, "SOLVER.IMS_PER_BATCH", 8)
        for batch in take(loader, 5):
            assert sum("loader_b" in image["file_name"] for image in batch) == 6

    def test_without_weights_each_image_once_an_epoch(self, two_data_sets, monkeypatch):
        keys = ["DATASETS.TRAIN", two_data_sets, "SOLVER.IMS_PER_BATCH", 3]
        first, second = take(loader_of(monkeypatch, *keys), 2)
        assert len({image["file_name"] for image in first + second}) == 6

    def test_products_of_two_data_sets_are_not_one(self, two_data_sets, monkeypatch):
        """Both number theirs 3."""
        pairs = ["DATALOADER.SAMPLER_TRAIN", "PairSampler", "DATALOADER.PAIR_SHARE", 1.0]
        keys = ["DATASETS.TRAIN", two_data_sets, "SOLVER.IMS_PER_BATCH", 2]
        names = set()
        for user, shop in take(loader_of(monkeypatch, *keys, *pairs), 20):
            assert (user["source"], shop["source"]) == ("user", "shop")
            assert user["file_name"][:8] == shop["file_name"][:8]
            assert user["pair_id"] == shop["pair_id"] == {"a": 3, "b": 7}[user["file_name"][7]]
            names.add(user["file_name"])
        assert names == {"loader_a0.jpg", "loader_b0.jpg"}

    def test_they_need_one_taxonomy(self, two_data_sets, monkeypatch):
        own = [{"id": 1, "name": "garment"}]
        MetadataCatalog.get("loader_b").taxonomy = Taxonomy.from_coco(own, "own")
        with pytest.raises(ValueError, match="data sets that are used together need one taxonomy"):
            loader_of(monkeypatch, "DATASETS.TRAIN", two_data_sets)
