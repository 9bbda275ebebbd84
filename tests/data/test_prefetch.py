import pytest
import torch

from match_rcnn.data.loader import list_collator
from match_rcnn.data.prefetch import PrefetchingLoader, one_ahead


class Samples(torch.utils.data.Dataset):
    def __len__(self):
        return 7

    def __getitem__(self, index):
        return {"image": torch.full((3, 2, 2), index, dtype=torch.uint8), "file_name": str(index)}


def names(batches):
    return [[sample["file_name"] for sample in batch] for batch in batches]


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_are_those_of_the_plain_loader(workers):
    options = {"batch_size": 2, "collate_fn": list_collator, "num_workers": workers}
    plain = torch.utils.data.DataLoader(Samples(), **options)
    loader = PrefetchingLoader(Samples(), device="cpu", **options)
    assert names(loader) == names(plain) == [["0", "1"], ["2", "3"], ["4", "5"], ["6"]]
    assert len(loader) == 4
    assert loader.batch_sampler.batch_size == 2  # hooks find what they look for
    for batch in loader:
        for sample in batch:
            assert (sample["image"] == int(sample["file_name"])).all()


def test_images_come_on_the_device():
    loader = PrefetchingLoader(Samples(), device="meta", collate_fn=list_collator)
    assert {sample["image"].device.type for batch in loader for sample in batch} == {"meta"}


def test_a_batch_is_asked_for_before_the_one_in_front_is_given():
    asked = []

    def batches():
        for number in range(3):
            asked.append(number)
            yield number

    given = one_ahead(batches())
    assert next(given) == 0
    assert asked == [0, 1]
    assert list(given) == [1, 2]


def test_no_batches():
    assert list(one_ahead([])) == []
