# ruff: noqa: NPY002 (workers seed numpy's global generator)
import random
from collections.abc import Iterator
from itertools import islice
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch.utils.data import IterableDataset

from match_rcnn.lite.config import CfgNode, get_cfg
from match_rcnn.lite.data import (
    DatasetCatalog,
    DatasetFromList,
    DatasetMapper,
    build_batch_data_loader,
    build_detection_test_loader,
    build_detection_train_loader,
)
from match_rcnn.lite.data.build import _train_sampler, trivial_batch_collator
from match_rcnn.lite.data.samplers import (
    InferenceSampler,
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)


def with_random_numbers(i: int) -> tuple[int, float, float, float]:
    """What an augmentation might draw in a worker."""
    return i, float(np.random.rand()), random.random(), torch.rand(1).item()


class Endless(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        while True:
            yield 1


class TestBatchLoader:
    @pytest.mark.parametrize("workers", [0, 2])
    @pytest.mark.parametrize("drop_last", [True, False])
    def test_batches_and_length(self, workers: int, drop_last: bool) -> None:
        loader = build_batch_data_loader(
            list(range(7)), InferenceSampler(7), 3, num_workers=workers, drop_last=drop_last
        )
        full = [[0, 1, 2], [3, 4, 5]]
        assert list(loader) == (full if drop_last else [*full, [6]])
        assert len(loader) == (2 if drop_last else 3)

    def test_collate_and_grouping(self) -> None:
        elements = [{"width": w, "height": 2, "i": i} for i, w in enumerate((1, 3, 1, 3))]
        loader = build_batch_data_loader(
            elements,
            InferenceSampler(4),
            2,
            aspect_ratio_grouping=True,
            collate_fn=lambda batch: [element["i"] for element in batch],
        )
        assert list(loader) == [[0, 2], [1, 3]]

    def test_batch_sizes(self) -> None:
        with mock.patch("match_rcnn.lite.data.build.get_world_size", return_value=2):
            loader = build_batch_data_loader([0] * 8, InferenceSampler(8), 4)
            assert len(next(iter(loader))) == 2
            with pytest.raises(ValueError, match=r"\(3\).*divisible.*\(2\).*IMS_PER_BATCH"):
                build_batch_data_loader([0], InferenceSampler(1), 3)
            loader = build_batch_data_loader(
                [0] * 8, InferenceSampler(8), None, single_gpu_batch_size=3
            )
            assert len(next(iter(loader))) == 3
        with pytest.raises(ValueError, match="must be positive"):
            build_batch_data_loader([0], InferenceSampler(1), 0)
        with pytest.raises(ValueError, match="mutually incompatible"):
            build_batch_data_loader([0], InferenceSampler(1), 2, single_gpu_batch_size=2)

    def test_iterable_takes_no_sampler(self) -> None:
        assert next(iter(build_batch_data_loader(Endless(), None, 2))) == [1, 1]
        with pytest.raises(AssertionError, match="no sampler"):
            build_batch_data_loader(Endless(), InferenceSampler(1), 2)
        with pytest.raises(AssertionError, match="needs a sampler"):
            build_batch_data_loader([1], None, 2)

    def test_collator_does_nothing(self) -> None:
        batch = [1, 2]
        assert trivial_batch_collator(batch) is batch


class TestTrainLoader:
    def test_workers_draw_as_in_detectron2(self) -> None:
        loader = build_detection_train_loader(
            list(range(6)),
            mapper=with_random_numbers,
            sampler=TrainingSampler(6, seed=1),
            total_batch_size=2,
            aspect_ratio_grouping=False,
            seed=3,
            num_workers=2,
        )
        # detectron2 02b5c4e2 gives: index, then numpy's, Python's and torch's random number
        expected = [
            [(1, 0.80971722, 0.34510892, 0.287608), (5, 0.20547675, 0.89432727, 0.686291)],
            [(2, 0.18458624, 0.67820321, 0.254078), (0, 0.79034989, 0.4704068, 0.621583)],
            [(3, 0.97631254, 0.62155211, 0.602046), (4, 0.31077454, 0.14048413, 0.694934)],
        ]
        np.testing.assert_allclose(list(islice(loader, 3)), expected, atol=1e-6)

    def test_sampler_is_made_where_there_is_none(self) -> None:
        loader = build_detection_train_loader(
            list(range(4)), mapper=None, total_batch_size=4, aspect_ratio_grouping=False
        )
        for batch in islice(loader, 3):
            assert sorted(batch) == [0, 1, 2, 3]

    def test_grouping_is_the_default(self) -> None:
        elements = [{"width": 1 + i % 3, "height": 2} for i in range(9)]
        loader = build_detection_train_loader(elements, mapper=None, total_batch_size=3)
        for batch in islice(loader, 20):
            assert len({element["width"] > element["height"] for element in batch}) == 1

    def test_data_sets_instead_of_lists(self) -> None:
        loader = build_detection_train_loader(
            DatasetFromList([5]), mapper=str, total_batch_size=2, aspect_ratio_grouping=False
        )
        assert next(iter(loader)) == ["5", "5"]
        loader = build_detection_train_loader(
            Endless(), mapper=str, total_batch_size=2, aspect_ratio_grouping=False
        )
        assert next(iter(loader)) == ["1", "1"]

    def test_wrong_sampler(self) -> None:
        with pytest.raises(AssertionError, match="expected a Sampler"):
            build_detection_train_loader(
                [1],
                mapper=None,
                sampler=[0],
                total_batch_size=1,
            )


class TestTestLoader:
    @pytest.mark.parametrize("workers", [0, 2])
    def test_every_element_once_in_order(self, workers: int) -> None:
        loader = build_detection_test_loader(
            list(range(5)), mapper=str, batch_size=2, num_workers=workers
        )
        assert list(loader) == [["0", "1"], ["2", "3"], ["4"]]
        assert len(loader) == 3

    def test_one_image_a_batch_by_default(self) -> None:
        assert list(build_detection_test_loader([7, 8], mapper=None)) == [[7], [8]]

    def test_iterable(self) -> None:
        loader = build_detection_test_loader(Endless(), mapper=str, batch_size=3)
        assert next(iter(loader)) == ["1", "1", "1"]
        with pytest.raises(AssertionError, match="no sampler"):
            build_detection_test_loader(Endless(), mapper=None, sampler=InferenceSampler(1))


@pytest.mark.usefixtures("catalogs")
class TestFromConfig:
    @pytest.fixture
    def cfg(self) -> CfgNode:
        images = [
            {"i": i, "width": 2, "height": 1, "annotations": [{"category_id": 0}] * (i % 4)}
            for i in range(12)
        ]
        DatasetCatalog.register("twelve", lambda: images)
        cfg = get_cfg()
        cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ("twelve",)
        cfg.SOLVER.IMS_PER_BATCH = 3
        cfg.DATALOADER.NUM_WORKERS = 0
        return cfg

    def test_train(self, cfg: CfgNode) -> None:
        batches = list(islice(build_detection_train_loader(cfg, mapper=lambda d: d), 6))
        seen = [d["i"] for batch in batches for d in batch]
        assert all(len(batch) == 3 for batch in batches)
        assert sorted(seen) == sorted(2 * [1, 2, 3, 5, 6, 7, 9, 10, 11])  # 0, 4, 8 are empty

    def test_empty_images_may_stay(self, cfg: CfgNode) -> None:
        cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
        loader = build_detection_train_loader(cfg, mapper=lambda d: d)
        assert len({d["i"] for batch in islice(loader, 4) for d in batch}) == 12

    def test_test(self, cfg: CfgNode) -> None:
        for names in ("twelve", ["twelve"]):
            loader = build_detection_test_loader(cfg, names, mapper=lambda d: d["i"])
            assert list(loader) == [[i] for i in range(12)]

    def test_own_data_set_and_arguments(self, cfg: CfgNode) -> None:
        loader = build_detection_train_loader(
            cfg,
            mapper=lambda d: d["i"],
            dataset=[{"i": 1}],
            sampler=TrainingSampler(1),
            total_batch_size=2,
            aspect_ratio_grouping=False,
        )
        assert next(iter(loader)) == [1, 1]

    def test_default_mappers(self, cfg: CfgNode) -> None:
        with mock.patch("match_rcnn.lite.data.build.DatasetMapper", wraps=DatasetMapper) as made:
            build_detection_train_loader(cfg)
            build_detection_test_loader(cfg, "twelve")
        assert [call.args for call in made.call_args_list] == [(cfg, True), (cfg, False)]

    def test_iterable(self, cfg: CfgNode) -> None:
        DatasetCatalog.register("endless", Endless)
        cfg.DATASETS.TRAIN = ("endless",)
        train = build_detection_train_loader(cfg, mapper=str, aspect_ratio_grouping=False)
        assert next(iter(train)) == ["1", "1", "1"]
        assert next(iter(build_detection_test_loader(cfg, "endless", mapper=str))) == ["1"]

    def test_samplers(self, cfg: CfgNode) -> None:
        dicts: Any = [{"annotations": [{"category_id": 0}]}] * 4
        kinds = (TrainingSampler, RepeatFactorTrainingSampler, RandomSubsetTrainingSampler)
        cfg.DATALOADER.RANDOM_SUBSET_RATIO = 0.5
        for kind in kinds:
            cfg.DATALOADER.SAMPLER_TRAIN = kind.__name__
            assert type(_train_sampler(cfg, dicts)) is kind
        cfg.DATALOADER.SAMPLER_TRAIN = "BestSampler"
        with pytest.raises(ValueError, match="Unknown training sampler: BestSampler"):
            _train_sampler(cfg, dicts)
