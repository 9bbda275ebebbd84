import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import EventStorage, Instances, ShapeSpec
from match_rcnn.modeling.streams.match_head import build_match_head
from match_rcnn.modeling.streams.match_losses import (
    MATCH_LOSS_REGISTRY,
    Contrastive,
    InfoNCE,
    MatchLoss,
    PairCrossEntropy,
    Triplet,
    contrastive_loss,
    info_nce_loss,
    pair_ce_loss,
    products,
    triplet_loss,
)

# Two user and three shop RoIs on a line; user 0 matches shop 0 and 1, user 1 matches none.
USER = torch.tensor([[0.0, 0.0], [4.0, 0.0]])
SHOP = torch.tensor([[1.0, 0.0], [3.0, 0.0], [6.0, 0.0]])
POSITIVE = torch.tensor([[True, True, False], [False, False, False]])


def test_pair_cross_entropy_by_hand():
    logits = torch.tensor([[[0.0, 2.0], [1.0, 1.0]]])
    positive = torch.tensor([[True, False]])
    by_hand = (math.log(1 + math.exp(-2)) + math.log(2)) / 2
    assert pair_ce_loss(logits, positive).item() == pytest.approx(by_hand, rel=1e-6)


def test_classifier_logits_are_the_layer_on_squared_differences():
    classifier = PairCrossEntropy(2)
    with torch.no_grad():
        classifier.fc.weight.copy_(torch.tensor([[1.0, 2.0], [-3.0, 0.5]]))
        classifier.fc.bias.copy_(torch.tensor([0.25, -1.0]))
    logits = classifier.logits(torch.tensor([[1.0, 1.0]]), torch.tensor([[3.0, 0.0]]))
    # squared difference (4, 1)
    assert logits.tolist() == [[[4 + 2 + 0.25, -12 + 0.5 - 1]]]
    weight, bias = classifier.score_weights()
    score = (weight * torch.tensor([4.0, 1.0])).sum() + bias
    assert score.item() == pytest.approx(-12.5 - 6.25)


def test_an_untrained_classifier_scores_by_distance():
    weight, bias = PairCrossEntropy(3).score_weights()
    # squared differences of equal embeddings, and of unrelated ones of variance 1 on average
    for squared, expected in (
        ([0.0, 0.0, 0.0], 2.0),
        ([1.0, 0.0, 0.0], 2 - 2 / 3),
        ([2.0] * 3, -2),
    ):
        assert (weight @ torch.tensor(squared) + bias).item() == pytest.approx(expected, abs=1e-6)


def test_triplet_takes_the_farthest_positive_and_the_nearest_negative():
    # user 0: farthest positive 3, nearest negative 6; user 1 has no positive.
    # shop 0: positive 1, negative 3; shop 1: positive 3, negative 1; shop 2 has no positive.
    expected = (0 + 0 + (3 - 1 + 0.5)) / 3
    assert triplet_loss(USER, SHOP, POSITIVE, margin=0.5).item() == pytest.approx(expected)


def test_contrastive_by_hand():
    # positives: squared distances 1 and 9; negatives: distances 6, 3, 1, 2, margin 2.5
    expected = ((1 + 9) / 2 + (0 + 0 + 1.5**2 + 0.5**2) / 4) / 2
    assert contrastive_loss(USER, SHOP, POSITIVE, margin=2.5).item() == pytest.approx(expected)


def test_info_nce_by_hand():
    user = torch.tensor([[1.0, 0.0]])
    shop = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    positive = torch.tensor([[True, False]])
    # user to shop: softmax over cosines 1, 0 at temperature 0.5; shop 0 to user: a sure choice
    expected = (math.log(1 + math.exp(-2)) + 0) / 2
    assert info_nce_loss(user, shop, positive, 0.5).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("cls", [Triplet, Contrastive, InfoNCE])
@pytest.mark.parametrize(("users", "shops"), [(0, 0), (0, 3), (2, 0), (2, 3)])
def test_nothing_to_learn_from_is_zero_with_a_gradient(cls, users, shops):
    user = torch.randn(users, 4, requires_grad=True)
    shop = torch.randn(shops, 4, requires_grad=True)
    positive = torch.zeros(users, shops, dtype=torch.bool)
    loss = cls(4, 0.3).of_pairs(user, shop, positive)
    loss.backward()
    assert user.grad is not None
    assert shop.grad is not None
    if cls is not Contrastive or not positive.numel():
        assert loss.item() == 0


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 6))
def test_losses_equal_their_definitions_in_loops(seed, users, shops):
    generator = torch.Generator().manual_seed(seed)
    user = torch.nn.functional.normalize(torch.randn(users, 5, generator=generator))
    shop = torch.nn.functional.normalize(torch.randn(shops, 5, generator=generator))
    positive = torch.rand(users, shops, generator=generator) < 0.4
    assert triplet_loss(user, shop, positive, 0.3).item() == pytest.approx(
        slow_triplet(user, shop, positive, 0.3), abs=1e-5
    )
    assert info_nce_loss(user, shop, positive, 0.1).item() == pytest.approx(
        slow_info_nce(user, shop, positive, 0.1), abs=1e-4
    )


def slow_triplet(user, shop, positive, margin):
    terms = []
    for anchors, others, match in ((user, shop, positive), (shop, user, positive.t())):
        for i, anchor in enumerate(anchors):
            distances = [float((anchor - other).norm()) for other in others]
            near = [d for d, m in zip(distances, match[i], strict=True) if m]
            far = [d for d, m in zip(distances, match[i], strict=True) if not m]
            if near and far:
                terms.append(max(0.0, max(near) - min(far) + margin))
    return sum(terms) / len(terms) if terms else 0.0


def slow_info_nce(user, shop, positive, temperature):
    terms = []
    for anchors, others, match in ((user, shop, positive), (shop, user, positive.t())):
        for i, anchor in enumerate(anchors):
            weights = [math.exp(float(anchor @ other) / temperature) for other in others]
            chosen = [
                -math.log(w / sum(weights)) for w, m in zip(weights, match[i], strict=True) if m
            ]
            if chosen:
                terms.append(sum(chosen) / len(chosen))
    return sum(terms) / len(terms) if terms else 0.0


LABELS = torch.tensor([[0, 7, 1], [0, 7, 2], [1, 7, 1], [1, 8, 1]])


def test_products_are_equal_where_pair_id_and_style_are():
    first, second, third, fourth = products(LABELS).tolist()
    assert first == third
    assert len({first, second, fourth}) == 3
    assert products(LABELS[:0]).shape == (0,)


class ProxyWithTemperature(MatchLoss):
    """A loss as a user would write it, in one file: a classifier over known products by their
    proxies, with a temperature that is learned."""

    def __init__(self, dim):
        super().__init__(dim)
        self.proxies = torch.nn.Parameter(torch.eye(4, dim))
        self.log_temperature = torch.nn.Parameter(torch.zeros(()))

    def forward(self, embeddings, labels):
        logits = embeddings @ self.proxies.t() * self.log_temperature.exp()
        if not len(labels):
            return logits.sum()
        return torch.nn.functional.cross_entropy(logits, labels[:, 1] % 4)


def measure(loss, name, labels=LABELS):
    """The head's loss with a newly registered one, by its config key alone."""
    MATCH_LOSS_REGISTRY._do_register(name, loss)
    try:
        cfg = get_match_rcnn_cfg()
        cfg.MODEL.ROI_MATCH_HEAD.LOSS = name
        cfg.MODEL.ROI_MATCH_HEAD.CONV_DIMS, cfg.MODEL.ROI_MATCH_HEAD.EMBEDDING_DIM = [8, 8], 6
        torch.manual_seed(0)
        head = build_match_head(cfg, {"class": ShapeSpec(channels=5)})
    finally:
        del MATCH_LOSS_REGISTRY._obj_map[name]
    image = Instances((50, 50))
    image.gt_sources, image.gt_pair_ids, image.gt_styles = labels.unbind(1)
    with EventStorage():
        value = head({"class": torch.randn(len(labels), 5)}, [image])["loss_match"]
    value.backward()
    return value, head


def test_a_new_loss_with_parameters_is_one_class_and_one_line_of_a_config():
    value, head = measure(lambda cfg, dim: ProxyWithTemperature(dim), "proxy")
    assert value > 0
    assert head.classifier.proxies.grad.any()
    assert head.classifier.log_temperature.grad != 0
    assert "classifier.proxies" in head.state_dict()
    weight, bias = head.score_weights()
    assert (weight.tolist(), float(bias)) == ([-1.0] * 6, 0.0)
    nothing, head = measure(lambda cfg, dim: ProxyWithTemperature(dim), "proxy", LABELS[:0])
    assert nothing == 0
    assert all(p.grad is not None for p in head.parameters())


def test_a_loss_of_pytorch_metric_learning():
    losses = pytest.importorskip("pytorch_metric_learning.losses")

    class Wrapped(MatchLoss):
        def __init__(self, dim):
            super().__init__(dim)
            self.wrapped = losses.MultiSimilarityLoss()

        def forward(self, embeddings, labels):
            return self.wrapped(embeddings, products(labels))

    value, head = measure(lambda cfg, dim: Wrapped(dim), "multi_similarity")
    assert value > 0
    assert head.fc.weight.grad.any()
