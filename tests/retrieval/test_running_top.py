import pytest
import torch

from match_rcnn.retrieval.scoring import block_rows, running_top, tile_columns, top_of_block

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("rows", "columns", "k"),
    [
        (3, 5, 5),  # all of them
        (2, 40, 3),  # too few groups to gain anything
        (4, 160, 3),  # whole groups
        (4, 173, 3),  # and a rest of 13, which belongs to no group
        (1, 5000, 20),
        (0, 200, 3),
    ],
)
def test_top_of_a_block_is_topk(rows, columns, k):
    block = torch.randn(rows, columns, generator=torch.Generator().manual_seed(1))
    values, places = top_of_block(block, k)
    assert torch.equal(values, block.topk(k, dim=1).values)
    assert torch.equal(block.gather(1, places), values)


@pytest.mark.parametrize("position", [0, 15, 16, 160, 170, 172])
def test_the_largest_is_found_wherever_it_stands(position):
    block = torch.zeros(1, 173)
    block[0, position] = 1
    assert top_of_block(block, 2)[1][0, 0] == position


def test_the_k_largest_of_one_group_are_all_found():
    block = torch.zeros(1, 160)
    block[0, ::10] = torch.arange(16.0) + 1  # 10 groups: columns 0, 10, 20, ... are one of them
    assert top_of_block(block, 4)[1][0].tolist() == [150, 140, 130, 120]


@pytest.mark.parametrize("width", [1, 7, 64, 500])
@pytest.mark.parametrize("k", [1, 5, 90])
def test_tiles_give_what_the_whole_gives(small_blocks, width, k):
    small_blocks()
    generator = torch.Generator().manual_seed(width * k)
    queries, items = (torch.randn(n, 6, generator=generator) for n in (19, 143))
    tiles = ((start, items[start : start + width]) for start in range(0, 143, width))
    values, indices = running_top(queries, tiles, k)
    expected = (queries @ items.T).topk(k, dim=1)
    torch.testing.assert_close(values, expected.values)
    assert torch.equal(indices, expected.indices)


def test_a_key_is_compared_in_place_of_the_product(small_blocks):
    small_blocks(rows=2)
    items = torch.randn(30, 3)
    seen = []

    def last_columns_first(block, part, start):
        seen.append((part.start, start, tuple(block.shape)))
        return (torch.arange(start, start + block.shape[1]) + 0.0).expand(len(block), -1)

    tiles = [(0, items[:20]), (20, items[20:])]
    _, indices = running_top(torch.randn(3, 3), tiles, 2, last_columns_first)
    assert indices.tolist() == [[29, 28]] * 3
    assert seen == [(0, 0, (2, 20)), (2, 0, (1, 20)), (0, 20, (2, 10)), (2, 20, (1, 10))]


def test_blocks_are_bounded():
    assert block_rows(CPU, 5) == 5
    assert block_rows(CPU, 10**6) * tile_columns(CPU, 10**6) <= 2**22
    # Few queries: wide tiles, still bounded.
    assert tile_columns(CPU, 1) > tile_columns(CPU, 10**6)
    assert block_rows(CPU, 0) == 1
