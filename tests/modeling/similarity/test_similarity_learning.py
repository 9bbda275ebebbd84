"""Which pairs of a batch a similarity learns from, and their loss, by hand."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from match_rcnn.modeling.similarity import ProductSimilarity
from match_rcnn.modeling.similarity.learning import learning_pairs, pair_loss

#: On a line: what is nearest is easy to see.
LINE = torch.tensor([[0.0], [1.0], [2.0], [4.0], [8.0], [2.5]])
ITEMS = torch.tensor([1, 2, 1, 3, 2, -1])
NOBODY = torch.full((6,), -1)


def pairs(domains, negatives):
    found = learning_pairs(LINE, ITEMS, torch.as_tensor(domains), negatives)
    return {(q, g): bool(same) for q, g, same in zip(*(f.tolist() for f in found), strict=True)}


@pytest.mark.parametrize(
    ("domains", "negatives", "same", "other"),
    [
        # item 3 has no positive, so it asks nothing; the last garment's item is unknown
        (NOBODY, 1, [(0, 2), (2, 0), (1, 4), (4, 1)], [(0, 1), (2, 1), (1, 0), (4, 3)]),
        (
            NOBODY,
            0,
            [(0, 2), (2, 0), (1, 4), (4, 1)],
            [(q, g) for q in (0, 2) for g in (1, 3, 4)]
            + [(q, g) for q in (1, 4) for g in (0, 2, 3)],
        ),
        # consumers 0 and 1 ask shops 2 to 4
        ([1, 1, 0, 0, 0, 0], 1, [(0, 2), (1, 4)], [(0, 3), (1, 2)]),
        # more than there are
        ([1, 1, 0, 0, 0, 0], 9, [(0, 2), (1, 4)], [(0, 3), (0, 4), (1, 2), (1, 3)]),
    ],
)
def test_pairs(domains, negatives, same, other):
    assert pairs(domains, negatives) == dict.fromkeys(same, True) | dict.fromkeys(other, False)


def test_positives_weigh_as_much_as_negatives():
    similarity = ProductSimilarity(dim=1)
    found = pair_loss(similarity, {"vector": LINE}, LINE, ITEMS, NOBODY, 0)
    logits = 2 - 2 * (LINE - LINE.mT) ** 2
    means = []
    for wanted in (True, False):
        chosen = [logits[at] for at, same in pairs(NOBODY, 0).items() if same is wanted]
        target = torch.full((len(chosen),), float(wanted))
        means.append(cross_entropy(torch.stack(chosen), target))
    torch.testing.assert_close(found, sum(means) / 2)


@pytest.mark.parametrize("items", [[1, 2, 3], [-1, -1, -1], []])
def test_without_pairs_nothing_is_lost_and_everything_is_touched(items):
    similarity = ProductSimilarity(dim=2)
    vectors = torch.rand(len(items), 2, requires_grad=True)
    known = torch.tensor(items, dtype=torch.int64)
    loss = pair_loss(similarity, {"vector": vectors}, vectors, known, torch.full_like(known, -1))
    loss.backward()
    assert loss == 0
    assert all((p.grad == 0).all() for p in (vectors, *similarity.parameters()))


def test_a_batch_of_one_item_has_positives_alone():
    similarity = ProductSimilarity(dim=1)
    one = torch.tensor([4, 4])
    loss = pair_loss(similarity, {"vector": LINE[:2]}, LINE[:2], one, NOBODY[:2])
    torch.testing.assert_close(loss, cross_entropy(torch.zeros(2), torch.ones(2)))
