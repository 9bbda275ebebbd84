"""DARN's parts: a loss for each type of attributes, and a tower for each domain."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import EventStorage, build_model
from match_rcnn.data.recognition_loader import Relabelled, count_together
from match_rcnn.data.taxonomy import Attribute, Category, Taxonomy
from match_rcnn.modeling.recognition.features import Features
from match_rcnn.modeling.recognition.towers import CONSUMER, PARTS
from match_rcnn.modeling.recognition.truth import Truth
from match_rcnn.modeling.recognition.typed_attributes import TypedAttributeHead, exclusive_loss
from match_rcnn.modeling.taxonomy import set_taxonomy
from tests.modeling.recognition.test_recognition_model import SIDE, batch, config

TYPES = ("fabric", "style", "fabric", "fabric", "style")


def truth(labels):
    unknown = torch.full((len(labels),), -1)
    slots = torch.zeros(len(labels), 8, 3)
    return Truth(unknown, torch.as_tensor(labels), slots, unknown, unknown)


def head(**keys):
    torch.manual_seed(0)
    made = TypedAttributeHead(dim=6, types=TYPES, **keys).double()
    for values in made.parameters():
        torch.nn.init.normal_(values)
    return made


def features(vectors):
    return Features(vectors, torch.zeros(len(vectors), 1, 2, 2))


COUNTS = torch.tensor([[6, 8, 6, 7, 5], [2, 2, 3, 1, 4]])
# Of ten images fabric: 3 none, 6 one, 1 two; style: 5, 4, 1.
TOGETHER = torch.tensor([[3, 6, 1], [5, 3, 2]])


def slow_exclusive(logits, labels):
    """One garment after the other."""
    values = []
    for row, own in zip(logits, labels, strict=True):
        outcomes = torch.cat([row.new_zeros(1), row])
        wanted = [i + 1 for i, label in enumerate(own.tolist()) if label == 1]
        if not wanted and all(label == -1 for label in own.tolist()):
            wanted = [0]
        if wanted:
            total = outcomes.exp().sum().log()
            values.append(sum(total - outcomes[i] for i in wanted) / len(wanted))
    return torch.stack(values).mean() if values else logits.sum() * 0


def test_one_of_a_type_is_a_softmax_with_none():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(40, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(-1, 2, (40, 3), generator=generator)
    labels[:3] = torch.tensor([[-1, -1, -1], [0, -1, -1], [1, 1, -1]])
    found, expected = exclusive_loss(logits, labels), slow_exclusive(logits, labels)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
    one, other = (torch.autograd.grad(loss, logits)[0] for loss in (found, expected))
    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-12)
    assert one[1].abs().sum() == 0  # has none as far as is known
    assert torch.autograd.gradcheck(lambda x: exclusive_loss(x, labels), logits)


def test_of_nothing_known_the_loss_is_0_with_gradients():
    logits = torch.rand(2, 3, requires_grad=True)
    loss = exclusive_loss(logits, torch.zeros(2, 3))
    loss.backward()
    assert loss == 0
    assert logits.grad.abs().sum() == 0


def test_two_of_a_type_s_share_and_scores():
    """Zero logits: each of three fabrics and none has a quarter; of two, each has half a loss."""
    made = TypedAttributeHead(dim=6, types=TYPES)
    for branch in made.branches:
        torch.nn.init.zeros_(branch[-1].weight)
    made.learn_counts(COUNTS, TOGETHER)
    losses = made.losses(features(torch.rand(1, 6)), truth([[1, 0, 1, -1, 0]]))
    assert losses["loss_attributes/fabric"].item() == pytest.approx(math.log(4))
    assert losses["loss_attributes/style"] == 0
    scores = made.predict(features(torch.rand(1, 6)))["attribute_scores"]
    assert scores.tolist() == [[0.25, 0.5, 0.25, 0.25, 0.5]]


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.15, [True, False]), (0.1, [False, False]), (0.4, [True, True])],  # 1 of 7, 2 of 5
)
def test_the_data_say_which_types_exclude(share, expected):
    made = head(exclusive_share=share)
    made.learn_counts(COUNTS, TOGETHER)
    assert made.exclusive.tolist() == expected
    assert list(made.types) == ["fabric", "style"]
    again = head()
    again.load_state_dict(made.state_dict())  # it decides what scores are
    vectors = torch.rand(3, 6, dtype=torch.float64)
    one, other = (m.predict(features(vectors))["attribute_scores"] for m in (made, again))
    assert torch.equal(one, other)


def test_a_type_that_nothing_has_is_not_exclusive():
    made = head()
    made.learn_counts(COUNTS, torch.tensor([[9, 0, 0], [9, 0, 0]]))
    assert made.exclusive.tolist() == [False, False]


def test_questions_weigh_by_their_type_s_own_counts():
    made = head()
    made.learn_counts(COUNTS, TOGETHER)
    assert made.class_weights[:, 1].tolist() == pytest.approx([19 / 26, 19 / 12])  # 13 : 6
    labels = torch.tensor([[-1, 1, 1, -1, -1], [0, -1, 0, 0, 0]])
    vectors = torch.randn(2, 6, dtype=torch.float64)
    loss = made.losses(features(vectors), truth(labels))["loss_attributes/style"]
    logits = made.branches[1](vectors)
    expected = 19 / 12 * -logits[0, 0].sigmoid().log()
    expected = expected + 19 / 26 * -(-logits[[0, 1], [1, 0]]).sigmoid().log().sum()
    # Scores are taken in float32, as everywhere.
    torch.testing.assert_close(loss.double(), expected / 3, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"types": ()}, "lists TypedAttributeHead, but the training set has no attributes"),
        ({"exclusive_share": 1.5}, "EXCLUSIVE_SHARE is a share of images, from 0 to 1; got 1.5"),
    ],
)
def test_bad_heads(keys, message):
    with pytest.raises(ValueError, match=message):
        TypedAttributeHead(**{"dim": 2, "types": TYPES, **keys})


def test_counting_what_images_have_at_once(monkeypatch):
    """Two data sets: one names the attributes in another order, one has none of the second type."""
    sets = {
        "one": (("b", "a", "c"), [[1, 1, -1], [-1, 0, 1], [0, 0, -1]]),
        "two": (("a", "b"), [[1, -1]]),
    }
    taxonomy = Taxonomy("t", (Category(1, "x"),), tuple(Attribute(n, "t") for n in "abc"))
    parts = []
    for names, labels in sets.values():
        part = Relabelled.__new__(Relabelled)
        part.items = [{"annotations": [{"attributes": np.array(row, np.int8)}]} for row in labels]
        known = [attribute.name for attribute in taxonomy.attributes]
        part.attributes = np.array([known.index(name) for name in names])
        parts.append(part)
    # a and b: both, none, none; one. c: none, one, none; not counted.
    assert count_together(parts, [[0, 1], [2]]).tolist() == [[2, 1, 1], [2, 1, 0]]


DARN = {
    "MODEL__RECOGNITION__CROP_SIZE": SIDE,
    "MODEL__RECOGNITION__STAGES__LENGTHS": (),
    "MODEL__RECOGNITION__DOMAIN_TOWERS": True,
}


def domains_of(*domains):
    samples = batch(len(domains))
    for sample, domain in zip(samples, domains, strict=True):
        if domain:
            sample["domain"] = domain
    return samples


def towers_of(model):
    """A model for the shop and one for consumers, both without towers."""
    found = []
    for name in ("", CONSUMER):
        one = build_model(config(**{**DARN, "MODEL__RECOGNITION__DOMAIN_TOWERS": False}))
        own = {n: getattr(model, name + n) for n in PARTS}
        for part, tower in own.items():
            setattr(one, part, tower)
        one.heads, one.landmark_branch = model.heads, model.landmark_branch
        found.append(one.eval())
    return found


def apart(model):
    """Their towers made unlike."""
    generator = torch.Generator().manual_seed(3)
    for name, values in model.named_parameters():
        if name.startswith(CONSUMER):
            values.data += 0.02 * torch.randn(values.shape, generator=generator)
    return model


def test_each_photo_goes_through_its_domain_s_tower():
    """Against two models, photo by photo; what has no domain is a shop's."""
    model = apart(build_model(config(**DARN))).eval()
    samples = domains_of("consumer", "shop", None, "consumer", "shop")
    shop, consumer = towers_of(model)
    results = model(samples)
    for sample, result in zip(samples, results, strict=True):
        own = consumer if sample.get("domain") == "consumer" else shop
        expected = own([sample])[0]["instances"]
        for field in ("category_scores", "embedding", "pred_slots"):
            torch.testing.assert_close(
                result["instances"].get(field), expected.get(field), rtol=1e-4, atol=1e-5
            )
    assert not torch.allclose(
        shop(samples[:1])[0]["instances"].embedding, results[0]["instances"].embedding, atol=1e-3
    )


@pytest.mark.parametrize("domains", [("shop", "consumer") * 2, ("shop",) * 4, ("consumer",) * 4])
def test_each_tower_learns_from_its_own_photos(domains):
    """And in a batch without them its gradient is 0: processes wait for it."""
    model = build_model(config(**DARN))
    with EventStorage(0):
        sum(model.train()(domains_of(*domains)).values()).backward()
    moved = {True: 0.0, False: 0.0}
    for name, values in model.named_parameters():
        part = name.removeprefix(CONSUMER).split(".")[0]
        if part in PARTS:
            assert values.grad is not None, name
            moved[name.startswith(CONSUMER)] += values.grad.abs().sum().item()
    assert {c for c, total in moved.items() if total} == {d == "consumer" for d in domains}


def test_towers_start_alike_and_from_weights_of_one():
    single = build_model(config(**{**DARN, "MODEL__RECOGNITION__DOMAIN_TOWERS": False}))
    model = apart(build_model(config(**DARN)))
    found = model.load_state_dict(single.state_dict())
    assert not found.missing_keys
    state = model.state_dict()
    copied = {n for n in state if n.startswith(CONSUMER)}
    assert copied
    assert all(torch.equal(state[n], state[n.removeprefix(CONSUMER)]) for n in copied)
    own = apart(build_model(config(**DARN))).state_dict()
    model.load_state_dict(own)  # its own stay
    assert all(torch.equal(values, own[n]) for n, values in model.state_dict().items())


@pytest.mark.parametrize("name", ["quick", "VGG16"])
def test_the_configs(name):
    """The paper's size on the meta device: two trunks, two branches, one head a type."""
    cfg = get_match_rcnn_cfg()
    cfg.merge_from_file(str(Path(__file__).parents[3] / f"configs/darn_{name}.yaml"))
    cfg.MODEL.WEIGHTS, cfg.MODEL.DEVICE = "", "meta"
    attributes = tuple(Attribute(f"a{i}", kind) for i, kind in enumerate(TYPES))
    set_taxonomy(cfg, Taxonomy("few", (Category(1, "a"), Category(2, "b")), attributes))
    with torch.device("meta"):
        model = build_model(cfg)
    assert model.landmark_branch is None
    assert model.consumer_local_branch is None
    shop, consumer = (
        sum(p.numel() for p in getattr(model, prefix + "backbone").parameters())
        for prefix in ("", CONSUMER)
    )
    assert shop == consumer > 0
    assert [b[-1].out_features for b in model.heads["TypedAttributeHead"].branches] == [3, 2]
