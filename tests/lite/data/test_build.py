# ruff: noqa: NPY002 (workers seed numpy's global generator)
import random
from itertools import islice
from unittest import mock

import numpy as np
import pytest
import torch

from match_rcnn.lite.config import CfgNode, get_cfg
from match_rcnn.lite.data import (
    DatasetCatalog,
    DatasetFromList,
    build_detection_test_loader,
    build_detection_train_loader,
)
from match_rcnn.lite.data.samplers import TrainingSampler


def with_random_numbers(i: int) -> tuple[int, float, float, float]:
    """What an augmentation might draw in a worker."""
    return i, float(np.random.rand()), random.random(), torch.rand(1).item()


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

    def test_processes_share_a_batch(self) -> None:
        with mock.patch("match_rcnn.lite.data.build.get_world_size", return_value=2):
            loader = build_detection_train_loader(
                [0] * 8, mapper=None, total_batch_size=4, aspect_ratio_grouping=False
            )
            assert len(next(iter(loader))) == 2
            with pytest.raises(ValueError, match=r"IMS_PER_BATCH.* all 2 processes.* got 3"):
                build_detection_train_loader([0], mapper=None, total_batch_size=3)
        with pytest.raises(ValueError, match=r"positive multiple.* got 0"):
            build_detection_train_loader([0], mapper=None, total_batch_size=0)


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

    @pytest.mark.parametrize(
        ("seed", "expected"),
        [  # detectron2 02b5c4e2 gives; 0.6 would draw an order of its own each time
            (5, [11, 0, 9, 6, 10, 3, 4, 5, 8, 7, 1, 2, 6, 4, 1]),
            (-1, [3, 1, 8, 9, 2, 6, 10, 11, 0, 5, 7, 4, 7, 6, 5]),
        ],
    )
    def test_order_follows_the_seed_of_the_config(
        self, cfg: CfgNode, seed: int, expected: list[int]
    ) -> None:
        cfg.SEED = seed
        cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
        loader = build_detection_train_loader(
            cfg, mapper=lambda d: d["i"], aspect_ratio_grouping=False
        )
        assert [i for batch in islice(loader, 5) for i in batch] == expected

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

    def test_unknown_sampler(self, cfg: CfgNode) -> None:
        cfg.DATALOADER.SAMPLER_TRAIN = "BestSampler"
        with pytest.raises(ValueError, match="SAMPLER_TRAIN BestSampler"):
            build_detection_train_loader(cfg, mapper=None)
