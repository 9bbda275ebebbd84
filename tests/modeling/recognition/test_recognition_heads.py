"""What heads lose, by hand."""

import math

import pytest
import torch

from match_rcnn.modeling.recognition.features import Features
from match_rcnn.modeling.recognition.heads import (
    AttributeHead,
    CategoryHead,
    EmbeddingHead,
    triplet_loss,
)
from match_rcnn.modeling.recognition.truth import Truth


def truth(n, **fields):
    unknown = torch.full((n,), -1)
    values = {"categories": unknown, "items": unknown, "domains": unknown}
    values |= {"attributes": torch.zeros(n, 3, dtype=torch.int8), "slots": torch.zeros(n, 8, 3)}
    return Truth(**{**values, **fields})


def features(vectors):
    return Features(vectors, torch.zeros(len(vectors), 1, 2, 2))


def test_a_category_is_one_of_all_and_unknown_ones_cost_nothing():
    head = CategoryHead(dim=2, num_categories=4, weight=2.0)
    torch.nn.init.zeros_(head.fc.weight)
    loss = head.losses(features(torch.rand(3, 2)), truth(3, categories=torch.tensor([1, -1, 3])))
    torch.testing.assert_close(loss["loss_category"], torch.tensor(2 * math.log(4)))
    assert head.predict(features(torch.rand(3, 2)))["category_scores"].tolist() == [[0.25] * 4] * 3


def test_attributes_weigh_what_the_training_set_s_counts_say():
    """3 : 1 negatives; two garments, one label unknown."""
    head = AttributeHead(dim=2, num_attributes=3, weight=2.0)
    torch.nn.init.zeros_(head.fc.weight)
    head.learn_counts(torch.tensor([[2, 2, 2], [1, 1, 0]]), torch.zeros(1, 3))
    labels = torch.tensor([[1, -1, -1], [0, -1, -1]], dtype=torch.int8)
    loss = head.losses(features(torch.rand(2, 2)), truth(2, attributes=labels))["loss_attributes"]
    # 8 labels: a negative weighs 8 / 12, a positive 8 / 4
    expected = 2 * math.log(2) * (2 + 4 * 8 / 12) / 5
    torch.testing.assert_close(loss, torch.tensor(expected))


def slow_triplets(x, items, domains, margin):
    values = []
    known = [i for i in range(len(items)) if items[i] >= 0]
    for a in known:
        others = [i for i in known if i != a and (domains[a] < 0 or domains[i] != domains[a])]
        for p in others:
            for n in others:
                if items[p] == items[a] and items[n] != items[a]:
                    near, far = (x[a] - x[p]).norm(), (x[a] - x[n]).norm()
                    values.append(torch.relu(margin + near - far))
    return torch.stack(values).mean()


@pytest.mark.parametrize("domains", [[-1] * 7, [0, 1, 0, 1, 0, 1, 0]])
def test_triplets_equal_a_loop_and_so_do_gradients(domains):
    items = [5, 5, 7, 7, 5, -1, 9]
    one = torch.randn(7, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
    other = one.detach().clone().requires_grad_()
    found = triplet_loss(one, torch.tensor(items), torch.tensor(domains), 0.5)
    expected = slow_triplets(other, items, domains, 0.5)
    torch.testing.assert_close(found, expected)
    found.backward()
    expected.backward()
    torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("items", [[-1, -1, -1], [1, 1, 1], [1, 2, 3]])
def test_without_a_triplet_nothing_is_lost_and_gradients_are_finite(items):
    embeddings = torch.zeros(3, 2, requires_grad=True)
    loss = triplet_loss(embeddings, torch.tensor(items), torch.full((3,), -1), 0.3)
    loss.backward()
    assert loss == 0
    assert (embeddings.grad == 0).all()


def test_embeddings_have_length_1():
    found = EmbeddingHead(dim=6, embedding_dim=3).predict(features(torch.randn(4, 6)))["embedding"]
    torch.testing.assert_close(found.norm(dim=1), torch.ones(4))
    assert EmbeddingHead(dim=6).embed(torch.randn(4, 6)).shape == (4, 6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CategoryHead(dim=2, num_categories=0), "CategoryHead, but .* no categories"),
        (lambda: AttributeHead(dim=2, num_attributes=0), "AttributeHead, but .* no attributes"),
    ],
)
def test_a_head_without_labels_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
