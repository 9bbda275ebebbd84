import itertools

import numpy as np
import pytest
import torch

from match_rcnn.data.loader import build_train_loader


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
