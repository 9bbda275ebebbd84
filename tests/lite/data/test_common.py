import pickle
import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from match_rcnn.lite.data import DatasetFromList, MapDataset, ToIterableDataset
from match_rcnn.lite.data.common import AspectRatioGroupedDataset
from match_rcnn.lite.data.samplers import InferenceSampler, TrainingSampler


def double_but_not_two(x: int) -> int | None:
    return None if x == 2 else x * 2


def nothing(x: Any) -> None:
    return None


class Numbers(IterableDataset[int]):
    def __init__(self, n: int) -> None:
        self.n = n

    def __iter__(self) -> Iterator[int]:
        yield from range(self.n)

    def __len__(self) -> int:
        return self.n


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

    def test_other_serialization(self) -> None:
        assert DatasetFromList([1, 2, 3], serialize=torch.tensor)[2] == torch.tensor(3)

    def test_wrong_serialization(self) -> None:
        with pytest.raises(TypeError, match="'yes'"):
            DatasetFromList([], serialize="yes")  # type: ignore[arg-type]

    def test_pickles(self) -> None:
        dataset = pickle.loads(pickle.dumps(DatasetFromList(list(self.ITEMS))))
        assert [dataset[i] for i in range(5)] == list(self.ITEMS)


class TestMapDataset:
    def test_map_style(self) -> None:
        dataset = MapDataset(DatasetFromList([1, 2, 3]), double_but_not_two)
        assert len(dataset) == 3
        assert dataset[0] == 2
        assert dataset[2] == 6
        assert dataset[1] in (2, 6)  # another one in its place

    def test_replacement_as_detectron2(self) -> None:
        # It draws from the candidates left, with a generator of its own, seeded with 42.
        dataset = MapDataset(list(range(10)), lambda x: None if x % 2 else x)
        rng, left, expected = random.Random(42), set(range(10)), []
        for index in (1, 3, 1, 5):
            left.discard(index)
            while (index := rng.sample(sorted(left), 1)[0]) % 2:
                left.discard(index)
            expected.append(index)
        assert [dataset[i] for i in (1, 3, 1, 5)] == expected

    def test_nothing_works(self, caplog: pytest.LogCaptureFixture) -> None:
        dataset = MapDataset(list(range(5)), nothing)
        with pytest.raises(RuntimeError, match="each of the 5 elements"):
            dataset[0]
        assert "3 times in place of index 0" in caplog.text

    def test_iterable(self) -> None:
        dataset = MapDataset(Numbers(4), double_but_not_two)
        assert isinstance(dataset, IterableDataset)
        assert len(dataset) == 4
        assert list(dataset) == [0, 2, 6]
        assert list(dataset) == [0, 2, 6]

    def test_pickles(self) -> None:
        dataset = MapDataset(DatasetFromList([1, 2, 3]), double_but_not_two)
        assert pickle.loads(pickle.dumps(dataset))[2] == 6
        iterable = pickle.loads(pickle.dumps(MapDataset(Numbers(4), double_but_not_two)))
        assert list(iterable) == [0, 2, 6]


class TestToIterableDataset:
    @pytest.mark.parametrize("chunk", [1, 3])
    def test_without_workers(self, chunk: int) -> None:
        sampler = TrainingSampler(10, seed=1)
        dataset = ToIterableDataset([x * x for x in range(10)], sampler, shard_chunk_size=chunk)
        assert list(islice(dataset, 20)) == [i * i for i in islice(sampler, 20)]

    @pytest.mark.parametrize("batch_size", [1, 3])
    def test_workers_change_nothing(self, batch_size: int) -> None:
        sampler = TrainingSampler(10, seed=1)
        dataset = ToIterableDataset(list(range(10)), sampler, shard_chunk_size=batch_size)
        loader = DataLoader(dataset, num_workers=2, batch_size=batch_size, collate_fn=list)
        loaded = [i for batch in islice(loader, 7) for i in batch]
        assert loaded == list(islice(sampler, 7 * batch_size))

    def test_finite_and_uneven(self) -> None:
        dataset = ToIterableDataset(list(range(8)), InferenceSampler(8), shard_chunk_size=3)
        assert len(dataset) == 8
        loader = DataLoader(dataset, num_workers=2, batch_size=3, collate_fn=list)
        assert list(loader) == [[0, 1, 2], [3, 4, 5], [6, 7]]

    def test_sampler_that_shares_by_itself(self) -> None:
        dataset = ToIterableDataset([0, 1], InferenceSampler(2), shard_sampler=False)
        loader = DataLoader(dataset, num_workers=2, batch_size=2, collate_fn=list)
        assert list(loader) == [[0, 1], [0, 1]]

    def test_wrong_arguments(self) -> None:
        with pytest.raises(AssertionError):
            ToIterableDataset(Numbers(3), InferenceSampler(3))
        with pytest.raises(AssertionError):
            ToIterableDataset([1], [0])  # type: ignore[arg-type]


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
            assert all(len(bucket) < 2 for bucket in dataset._buckets)
