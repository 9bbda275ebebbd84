"""The word head: against a full softmax, and over all draws."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import Boxes, EventStorage, Instances, build_model
from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.modeling.recognition.features import Features
from match_rcnn.modeling.recognition.truth import Truth
from match_rcnn.modeling.recognition.words import WordHead, word_losses
from match_rcnn.modeling.taxonomy import set_taxonomy

DOUBLE = torch.float64


def truth(words):
    unknown = torch.full((len(words),), -1)
    return Truth(
        unknown, torch.zeros(len(words), 0), torch.zeros(len(words), 8, 3), unknown, unknown,
        torch.tensor(words),
    )  # fmt: skip


def features(vectors):
    return Features(vectors, torch.zeros(len(vectors), 1, 2, 2))


def vectors(n, k, d=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(n, d, generator=generator, dtype=DOUBLE, requires_grad=True),
        torch.randn(k, d, generator=generator, dtype=DOUBLE, requires_grad=True),
    )


def slow(images, words, targets, drawn):
    """By loops: the target's term, and others' terms times how many each stands for."""
    values = []
    for image, target in zip(images, targets.tolist(), strict=True):
        others = [w for w in drawn.tolist() if w != target]
        total = own = torch.exp(image @ words[target])
        for w in others:
            total = total + (len(words) - 1) / len(others) * torch.exp(image @ words[w])
        values.append(-torch.log(own / total))
    return torch.stack(values)


@pytest.mark.parametrize("drawn", [[4, 0, 2], [1], [3, 1, 0, 2, 4, 5]])
def test_the_sampled_softmax_equals_a_loop_and_so_do_gradients(drawn):
    targets, drawn = torch.tensor([2, 0, 5, 1]), torch.tensor(drawn)
    one, other = vectors(4, 6), vectors(4, 6)
    # Where the one drawn word is the target itself nothing is left to compare with.
    keep = [i for i, t in enumerate(targets.tolist()) if drawn.tolist() != [t]]
    found = word_losses(*one, targets, drawn)[keep]
    expected = slow(other[0][keep], other[1], targets[keep], drawn)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    for a, b in zip(
        torch.autograd.grad(found.sum(), one), torch.autograd.grad(expected.sum(), other),
        strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_with_all_words_drawn_it_is_the_full_softmax():
    images, words = vectors(5, 7)
    targets = torch.tensor([0, 6, 3, 3, 1])
    full = word_losses(images, words, targets)
    expected = -(images @ words.T).log_softmax(-1)[torch.arange(5), targets]
    torch.testing.assert_close(full.double(), expected, rtol=1e-5, atol=1e-6)
    drawn = torch.tensor([5, 2, 0, 1, 6, 4, 3])
    torch.testing.assert_close(word_losses(images, words, targets, drawn), full)


def test_the_denominator_is_right_on_average():
    """Over all sets of 3 of 6 words that have the target, and over all that have it not."""
    images, words = vectors(1, 6)
    products = (images @ words.T)[0].detach()
    for has_target in (True, False):
        sets = [s for s in itertools.combinations(range(6), 3) if (4 in s) == has_target]
        totals = [
            torch.exp(word_losses(images, words, torch.tensor([4]), torch.tensor(s)) + products[4])
            for s in sets
        ]
        mean = torch.cat(totals).detach().double().mean()
        torch.testing.assert_close(mean, products.exp().sum(), rtol=1e-5, atol=0.0)


def test_words_cost_what_chance_costs_and_unknown_ones_nothing():
    head = WordHead(dim=2, words=["red", "blue", "long", "knit"], weight=3.0)
    torch.nn.init.zeros_(head.vectors)
    loss = head.losses(features(torch.rand(3, 2)), truth([1, -1, 3]))["loss_words"]
    torch.testing.assert_close(loss, torch.tensor(3 * math.log(4)))
    loss = head.losses(features(torch.rand(2, 2)), truth([-1, -1]))["loss_words"]
    loss.backward()
    assert loss == 0
    assert (head.vectors.grad == 0).all()


def test_few_words_are_drawn_of_many():
    head = WordHead(dim=2, words=[f"w{i}" for i in range(9)], sampled=2)
    head.losses(features(torch.ones(1, 2)), truth([3]))["loss_words"].backward()
    touched = (head.vectors.grad != 0).any(1).sum()
    assert touched in (2, 3)
    assert WordHead(dim=2, words=["a", "b"], sampled=2).sampled == 0


def test_predictions_and_texts():
    head = WordHead(dim=2, words=["red", "blue", "long"])
    with torch.no_grad():
        head.vectors.copy_(torch.tensor([[5.0, 0], [0, 1], [-1, -1]]))
    found = head.predict(features(torch.tensor([[0.0, 2]])))
    assert found["embedding"].tolist() == [[0, 1]]
    assert found["pred_words"].tolist() == [[1, 0, 2]]
    torch.testing.assert_close(found["pred_word_scores"].sum(), torch.tensor(1.0))
    with torch.no_grad():  # without their mean: (2, 0), (0, 1), (-2, -1)
        head.vectors.copy_(torch.tensor([[9.0, 4], [7, 5], [5, 3]]))
    # Each word counts the same, however long its vector is.
    both = head.text_vector(torch.tensor([0, 1]))
    torch.testing.assert_close(both, torch.full((2,), 0.5**0.5))


def test_weights_of_another_vocabulary_are_refused():
    own, other = WordHead(dim=2, words=["red", "blue"]), WordHead(dim=2, words=["blue", "red"])
    own.load_state_dict(WordHead(dim=2, words=["red", "blue"]).state_dict())
    with pytest.raises(ValueError, match="another vocabulary than the training set's 2 words"):
        other.load_state_dict(own.state_dict())


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"words": []}, "lists WordHead, but no record .* has a description"),
        ({"words": ["a"], "sampled": -1}, "WORDS.SAMPLED must be 0 or more, got -1"),
    ],
)
def test_bad_settings(keys, message):
    with pytest.raises(ValueError, match=message):
        WordHead(dim=2, **keys)


def test_the_paper_s_size_takes_a_step():
    cfg = get_match_rcnn_cfg()
    cfg.merge_from_file(str(Path(__file__).parents[3] / "configs/words_R50.yaml"))
    cfg.merge_from_list(["MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu"])
    cfg.MODEL.RECOGNITION.CROP_SIZE = 64  # no layer of it depends on the size
    set_taxonomy(cfg, replace(DEEPFASHION2, words=("red", "blue", "long")))
    model = build_model(cfg)
    head = model.heads["WordHead"]
    assert head.vectors.shape == (3, 2048)  # the mean of ResNet-50's last map
    box = torch.tensor([0.0, 0, 64, 64])
    truth = Instances(
        (64, 64),
        gt_boxes=Boxes(box[None]),
        gt_classes=torch.tensor([-1]),
        gt_items=torch.tensor([-1]),
        gt_domains=torch.tensor([-1]),
        gt_attributes=torch.zeros(1, 0, dtype=torch.int8),
        gt_slots=torch.zeros(1, 8, 3),
        gt_words=torch.tensor([1]),
    )
    image = torch.randint(0, 256, (3, 64, 64), generator=torch.Generator().manual_seed(0))
    with EventStorage(0):
        losses = model([{"image": image, "instances": truth, "file_name": "a"}] * 2)
    assert losses.keys() == {"loss_words"}
    losses["loss_words"].backward()
    assert head.vectors.grad.abs().sum() > 0
    assert model.backbone.res5[0].conv1.weight.grad.abs().sum() > 0
