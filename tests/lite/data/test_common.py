import pickle
from itertools import islice

import pytest
import torch
from torch.utils.data import DataLoader

from match_rcnn.lite.data import DatasetFromList, MapDataset
from match_rcnn.lite.data.common import AspectRatioGroupedDataset, SampledDataset
from match_rcnn.lite.data.samplers import InferenceSampler, TrainingSampler


class TestDatasetFromList:
    ITEMS = ({"a": [1]}, "text", None, 3.5, {"file_name": "x.jpg", "annotations": []})

    @pytest.mark.parametrize("serialize", [True, False])
    def test_gives_the_elements(self, serialize: bool) -> None:
        dataset = DatasetFromList(list(self.ITEMS), serialize=serialize)
        assert len(dataset) == 5
        assert [dataset[i] for i in range(5)] == list(self.ITEMS)
        assert dataset[-1] == self.ITEMS[-1]

    @pytest.mark.parametrize("serialize", [True, False])
    def test_ends(self, serialize: bool) -> None:
        # Iterating over a sequence without __iter__ ends with this.
        dataset = DatasetFromList([1, 2, 3], serialize=serialize)
        for index in (3, -4):
            with pytest.raises(IndexError):
                dataset[index]

    @pytest.mark.parametrize("serialize", [True, False])
    def test_elements_may_be_changed(self, serialize: bool) -> None:
        dataset = DatasetFromList([{"a": [1]}], serialize=serialize)
        dataset[0]["a"].append(2)
        assert dataset[0] == {"a": [1]}

    def test_without_copy(self) -> None:
        items = [{"a": [1]}]
        assert DatasetFromList(items, copy=False, serialize=False)[0] is items[0]

    def test_empty(self) -> None:
        assert len(DatasetFromList([])) == 0

    def test_one_buffer_for_everything(self) -> None:
        # What makes memory flat in the number of workers: no Python object per element.
        items = [{"image_id": i, "bbox": [0.5] * 4} for i in range(1000)]
        storage = DatasetFromList(items)._items
        tensors = [v for v in vars(storage).values() if isinstance(v, torch.Tensor)]
        assert len(vars(storage)) == len(tensors) == 2
        pickled = sum(len(pickle.dumps(item, pickle.HIGHEST_PROTOCOL)) for item in items)
        assert sum(t.numel() * t.element_size() for t in tensors) == pickled + 8 * 1000

    def test_pickles(self) -> None:
        dataset = pickle.loads(pickle.dumps(DatasetFromList(list(self.ITEMS))))
        assert [dataset[i] for i in range(5)] == list(self.ITEMS)


def double(x: int) -> int:
    return 2 * x


def test_map_dataset() -> None:
    dataset = pickle.loads(pickle.dumps(MapDataset(DatasetFromList([1, 2, 3]), double)))
    assert [dataset[i] for i in range(len(dataset))] == [2, 4, 6]


class TestSampledDataset:
    @pytest.mark.parametrize("chunk", [1, 3])
    def test_without_workers(self, chunk: int) -> None:
        sampler = TrainingSampler(10, seed=1)
        dataset = SampledDataset([x * x for x in range(10)], sampler, chunk)
        assert list(islice(dataset, 20)) == [i * i for i in islice(sampler, 20)]

    @pytest.mark.parametrize("batch_size", [1, 3])
    def test_workers_change_nothing(self, batch_size: int) -> None:
        sampler = TrainingSampler(10, seed=1)
        dataset = SampledDataset(list(range(10)), sampler, batch_size)
        loader = DataLoader(dataset, num_workers=2, batch_size=batch_size, collate_fn=list)
        loaded = [i for batch in islice(loader, 7) for i in batch]
        assert loaded == list(islice(sampler, 7 * batch_size))

    def test_finite_and_uneven(self) -> None:
        dataset = SampledDataset(list(range(8)), InferenceSampler(8), 3)
        loader = DataLoader(dataset, num_workers=2, batch_size=3, collate_fn=list)
        assert list(loader) == [[0, 1, 2], [3, 4, 5], [6, 7]]


class TestAspectRatioGroupedDataset:
    SIZES = ((2, 1), (1, 2), (1, 1), (3, 1), (1, 3), (5, 1), (1, 9))

    def elements(self) -> list[dict[str, int]]:
        return [{"i": i, "width": w, "height": h} for i, (w, h) in enumerate(self.SIZES)]

    def test_wide_apart_from_the_rest(self) -> None:
        batches = list(AspectRatioGroupedDataset(self.elements(), 2))
        # detectron2 02b5c4e2 gives; a square counts as high
        assert [[e["i"] for e in batch] for batch in batches] == [[1, 2], [0, 3], [4, 6]]

    def test_stopping_leaves_no_full_batch_behind(self) -> None:
        dataset = AspectRatioGroupedDataset(self.elements(), 2)
        for _ in range(5):
            next(iter(dataset))
            assert all(len(bucket) < 2 for bucket in dataset._waiting.values())
