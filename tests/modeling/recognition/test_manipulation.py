"""Embedders, dictionary, generator, discriminator and memory against loops."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import ShapeSpec
from match_rcnn.data.synthetic.wardrobe import FINE
from match_rcnn.data.taxonomy import DEEPFASHION2, Attribute
from match_rcnn.modeling.recognition import manipulation
from match_rcnn.modeling.recognition.features import Features
from match_rcnn.modeling.recognition.manipulation import (
    AttributeGenerator,
    Dictionary,
    ManipulationHead,
    ResidualMemory,
    draw_exchanges,
    value_groups,
)
from match_rcnn.modeling.taxonomy import set_taxonomy
from match_rcnn.utils.shipped import config_file

DIM, SIZES, EMBEDDING = 6, (3, 2), 4
FIRST = (0, 3)
#: Of five garments the values of both types; one is unknown.
VALUES = torch.tensor([[0, 3], [1, 4], [2, 3], [-1, 4], [0, 4]])
GROUPS = {"pattern": ("solid", "striped", "dotted"), "sleeve": ("long", "short")}


@pytest.fixture
def vectors():
    torch.manual_seed(1)
    return F.normalize(torch.rand(5, DIM, dtype=torch.float64), dim=-1).requires_grad_()


@pytest.fixture
def dictionary():
    torch.manual_seed(2)
    return Dictionary(DIM, SIZES, EMBEDDING).double()


@pytest.fixture
def generator():
    torch.manual_seed(3)
    sizes = {"dim": DIM, "sizes": SIZES, "embedding_dim": EMBEDDING}
    found = AttributeGenerator(**sizes, widths=(8,), step=1.0).double()
    torch.nn.init.normal_(found.generator[-1].weight)  # so that a step is worth seeing
    return found


def slow_embedding(dictionary, vector, kind):
    rows = slice(kind * EMBEDDING, (kind + 1) * EMBEDDING)
    layer = dictionary.embedders
    found = layer.weight[rows] @ vector + layer.bias[rows]
    return found / found.norm()


def slow_triplets(dictionary, vector, values):
    """By type, the hinges of one garment."""
    found = []
    for kind, (size, value) in enumerate(zip(SIZES, values.tolist(), strict=True)):
        own = slow_embedding(dictionary, vector, kind)
        entries = [dictionary.entries[FIRST[kind] + i] for i in range(size)]
        apart = [(own - entry / entry.norm()).norm() for entry in entries]
        mine = value - FIRST[kind]
        others = [i for i in range(size) if i != mine] if value >= 0 else []
        found.append([(dictionary.margin + apart[mine] - apart[i]).clamp(min=0) for i in others])
    return found


def mean(values):
    return torch.stack(values).mean()


def gradients(loss, *parts):
    inputs = [
        p for part in parts for p in (part.parameters() if hasattr(part, "parameters") else [part])
    ]
    return torch.autograd.grad(loss, inputs, allow_unused=True, retain_graph=True)


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


def test_the_dictionary_pulls_to_its_own_entry_and_pushes_from_the_others(vectors, dictionary):
    hinges, others = dictionary.triplets(dictionary(vectors), VALUES)
    fast = hinges[others].mean()
    slow = mean(
        [
            hinge
            for vector, values in zip(vectors, VALUES, strict=True)
            for own in slow_triplets(dictionary, vector, values)
            for hinge in own
        ]
    )
    assert fast > 0
    torch.testing.assert_close(fast, slow, rtol=1e-9, atol=0)
    assert_same(gradients(fast, vectors, dictionary), gradients(slow, vectors, dictionary))


def test_the_nearest_entry_tells_the_value(vectors, dictionary):
    found = dictionary.nearest(vectors)
    for vector, own in zip(vectors, found, strict=True):
        for kind, size in enumerate(SIZES):
            embedding = slow_embedding(dictionary, vector, kind)
            entries = F.normalize(dictionary.entries[FIRST[kind] : FIRST[kind] + size], dim=-1)
            assert own[kind] == FIRST[kind] + (entries @ embedding).argmax()


def slow_generate(generator, vector, kind, condition):
    slots = torch.zeros(len(SIZES), EMBEDDING, dtype=torch.float64)
    slots[kind] = condition * DIM**0.5
    step = generator.generator(torch.cat([vector * DIM**0.5, slots.flatten()])) / DIM**0.5
    found = (vector + step).clamp(min=0)
    return found / found.norm()


def slow_losses(generator, dictionary, vectors, values, types, donors, possible):
    """The definition, garment by garment."""
    parts = ("real", "false", "generator", "cycle", "changed", "kept", "step")
    found = {name: [] for name in parts}
    for n in possible.nonzero()[:, 0].tolist():
        x, kind, donor = vectors[n], int(types[n]), int(donors[n])
        if generator.condition == "entry":
            wish, own = (
                F.normalize(dictionary.entries[values[i, kind]], dim=0).detach() for i in (donor, n)
            )
        else:
            wish, own = (slow_embedding(dictionary, vectors[i], kind).detach() for i in (donor, n))
        made = slow_generate(generator, x, kind, wish)
        back = slow_generate(generator, made, kind, own)
        wanted = values[n].clone()
        wanted[kind] = values[donor, kind]
        judged = [
            generator.discriminator((v * DIM**0.5)[None])[0] for v in (x, made.detach(), made)
        ]
        real, false, again = (v.sigmoid() for v in judged)
        found["real"].append(-real.log())
        found["false"].append(-(1 - false).log())
        found["generator"].append(-again.log())
        found["cycle"].append((back - x).abs().sum() / DIM**0.5)
        hinges = slow_triplets(dictionary, made, wanted)
        hinges.pop(kind)
        entry = dictionary.entries[wanted[kind]]
        apart = slow_embedding(dictionary, made, kind) - entry / entry.norm()
        found["changed"].append(apart.norm())
        found["step"].append((made - x).norm())
        found["kept"] += [h for own in hinges for h in own]
    means = {name: mean(values) for name, values in found.items()}
    return {
        "loss_discriminator": means["real"] + means["false"],
        "loss_generator": means["generator"],
        "loss_cycle": means["cycle"],
        "loss_matching": means["changed"] + means["kept"],
        "loss_step": means["step"],
    }


@pytest.mark.parametrize("condition", ["garment", "entry"])
def test_the_generator_s_losses_are_those_of_a_loop(
    vectors, dictionary, generator, condition, monkeypatch
):
    generator.condition = condition
    drawn = draw_exchanges(VALUES)
    monkeypatch.setattr(manipulation, "draw_exchanges", lambda values: drawn)
    fast = generator.losses(vectors, VALUES, dictionary)
    slow = slow_losses(generator, dictionary, vectors, VALUES, *drawn)
    assert fast.keys() == slow.keys()
    taught = {"loss_discriminator": generator.discriminator}
    for name, loss in fast.items():
        torch.testing.assert_close(loss, slow[name], rtol=1e-9, atol=0)
        part = taught.get(name, generator.generator)
        assert_same(gradients(loss, vectors, part), gradients(slow[name], vectors, part))
        # One step teaches both: what a loss does not teach, it leaves alone.
        rest = {generator.generator, generator.discriminator, dictionary} - {part}
        assert all(g is None for other in rest for g in gradients(loss, other))


def test_a_batch_without_anything_to_exchange_costs_nothing(vectors, dictionary, generator):
    for values in (torch.full_like(VALUES, -1), torch.tensor([[0, 3]]).expand(5, 2)):
        losses = generator.losses(vectors, values, dictionary)
        assert all(loss == 0 and loss.requires_grad for loss in losses.values())


def test_exchanges_are_of_another_known_value_of_the_type():
    torch.manual_seed(0)
    seen = set()
    for _ in range(200):
        types, donors, possible = draw_exchanges(VALUES)
        assert possible.all()
        for n, (kind, donor) in enumerate(zip(types.tolist(), donors.tolist(), strict=True)):
            here, there = VALUES[n, kind], VALUES[donor, kind]
            assert here != there
            assert min(here, there) >= 0
            seen.add((n, kind, donor))
    rows = range(len(VALUES))
    assert seen == {
        (n, kind, m)
        for n in rows
        for m in rows
        for kind in (0, 1)
        if VALUES[n, kind] != VALUES[m, kind] and min(VALUES[n, kind], VALUES[m, kind]) >= 0
    }
    alone = torch.tensor([[0], [0], [-1], [1]])
    types, donors, possible = draw_exchanges(alone)
    assert possible.tolist() == [True, True, False, True]
    assert donors[0] == donors[1] == 3
    assert not draw_exchanges(alone[:1])[2].any()


def test_rare_values_are_drawn_as_often_as_frequent_ones():
    torch.manual_seed(0)
    values = torch.tensor([[0], *[[1]] * 9, [2]])
    drawn = torch.stack([values[draw_exchanges(values)[1][:1], 0] for _ in range(600)])
    assert 0.4 < (drawn == 2).float().mean() < 0.6


def test_the_memory_adds_up_what_values_are_worth(vectors, dictionary):
    torch.manual_seed(4)
    memory = ResidualMemory(dim=DIM, sizes=SIZES).double()
    torch.nn.init.normal_(memory.memory)
    torch.nn.init.normal_(memory.bias)
    fast = memory.losses(vectors, VALUES, dictionary)["loss_memory"]
    parts = []
    for vector, values in zip(vectors, VALUES.tolist(), strict=True):
        told = memory.bias + sum(memory.memory[v] for v in values if v >= 0)
        parts.append(((vector - told) ** 2).sum())
    torch.testing.assert_close(fast, mean(parts), rtol=1e-9, atol=0)
    assert_same(gradients(fast, vectors, memory), gradients(mean(parts), vectors, memory))


def test_an_exchange_in_the_memory_by_hand(dictionary):
    memory = ResidualMemory(dim=2, sizes=(2,))
    memory.memory.data = torch.tensor([[0.6, 0.0], [0.0, 0.8]])
    x = torch.tensor([[0.6, 0.0], [0.8, 0.6]])
    found = memory(x, torch.tensor([0, 0]), torch.tensor([1, 0]), dictionary)
    # (0, 0.8), and with nothing exchanged the vector itself.
    torch.testing.assert_close(found, torch.tensor([[0.0, 1.0], [0.8, 0.6]]))


def head_of(manipulator, dim=DIM, columns=(4, 0, 1, 2, 3)):
    dictionary = Dictionary(dim, SIZES, EMBEDDING)
    return ManipulationHead(
        groups=GROUPS, columns=columns, dictionary=dictionary, manipulator=manipulator
    )


def test_a_garment_with_none_or_several_values_of_a_type_has_an_unknown_one():
    head = head_of(ResidualMemory(dim=DIM, sizes=SIZES))
    labels = torch.tensor(
        [
            # striped, dotted, long, short, solid
            [-1, -1, 1, -1, 1],
            [1, -1, -1, 1, 0],
            [1, 1, 1, -1, -1],  # two patterns
            [0, 0, 0, 0, 0],
        ],
        dtype=torch.int8,
    )
    assert head.values(labels).tolist() == [[0, 3], [1, 4], [-1, 3], [-1, -1]]


def features(vectors):
    return Features(vectors, vectors[:, :, None, None])


def planted(count, generator):
    """Vectors that are sums of what their values are worth, and some noise."""
    worth = torch.rand(5, 16, generator=torch.Generator().manual_seed(7))
    values = torch.stack(
        [
            torch.randint(0, 3, (count,), generator=generator),
            torch.randint(3, 5, (count,), generator=generator),
        ],
        1,
    )
    noise = 0.05 * torch.rand(count, 16, generator=generator)
    return worth[values].sum(1) + noise, values


@pytest.mark.parametrize("name", ["AttributeGenerator", "ResidualMemory"])
def test_changed_vectors_come_near_those_that_have_the_value(name):
    torch.manual_seed(0)
    parts = {"dim": 16, "sizes": SIZES}
    if name == "AttributeGenerator":
        parts |= {"embedding_dim": EMBEDDING, "widths": (32,), "condition": "entry"}
        parts |= {"adversarial": 0.1, "cycle": 0.3, "step": 0.3}
    head = head_of(getattr(manipulation, name)(**parts), 16, range(5))
    optimizer = torch.optim.AdamW(head.parameters(), 0.01)
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        vectors, values = planted(32, generator)
        labels = F.one_hot(values, 5).sum(1) * 2 - 1
        losses = head.losses(features(vectors), SimpleNamespace(attributes=labels))
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    vectors, values = planted(64, generator)
    found = head.eval().predict(features(vectors))
    assert found["changed"].shape == (64, 5, 16)
    torch.testing.assert_close(found["embedding"].norm(dim=-1), torch.ones(64))
    like, wanted = planted(2000, generator)
    like = F.normalize(like, dim=-1)
    right = {"changed": 0, "embedding": 0}
    for n in range(64):
        target = torch.tensor([(values[n, 0] + 1) % 3, values[n, 1]])
        for key in right:
            own = found[key][n] if key == "embedding" else found[key][n, target[0]]
            right[key] += bool((wanted[(like - own).norm(dim=1).argmin()] == target).all())
    assert right["embedding"] == 0
    assert right["changed"] > 0.5 * 64
    with torch.no_grad():
        again = head.change(found["embedding"], [("pattern", "dotted")])
    torch.testing.assert_close(again, found["changed"][:, 2])


def test_what_cannot_be_changed_is_named():
    head = head_of(ResidualMemory(dim=DIM, sizes=SIZES))
    with pytest.raises(ValueError, match=r"can change pattern, sleeve; got 'colour'"):
        head.change(torch.zeros(1, DIM), [("colour", "red")])
    with pytest.raises(ValueError, match=r"pattern can be solid, striped, dotted; got 'red'"):
        head.change(torch.zeros(1, DIM), [("pattern", "red")])


@pytest.mark.parametrize(
    ("attributes", "types", "message"),
    [
        ((), (), "there are no attributes to exchange"),
        ((("maxi", "length"),), (), "the type 'length' has no two values"),
        ((("maxi", "length"),), ("fit",), "no attribute is of the type 'fit'"),
    ],
)
def test_types_that_cannot_be_exchanged(attributes, types, message):
    with pytest.raises(ValueError, match=rf"MANIPULATION\.TYPES: {message}"):
        value_groups([Attribute(*each) for each in attributes], types)


def test_an_unknown_condition_is_refused():
    with pytest.raises(ValueError, match=r"CONDITION must be one of .*, got 'photo'"):
        AttributeGenerator(
            dim=DIM, sizes=SIZES, embedding_dim=EMBEDDING, widths=(8,), condition="photo"
        )


def config(**keys):
    """The paper's sizes, with the fine labels' groups."""
    cfg = get_match_rcnn_cfg()
    cfg.merge_from_file(str(config_file("flam_VGG16")))
    names = [Attribute(name, f"group {n}") for n, group in enumerate(FINE) for name in group]
    set_taxonomy(cfg, replace(DEEPFASHION2, attributes=tuple(names)))
    for key, value in keys.items():
        cfg.merge_from_list([f"MODEL.RECOGNITION.{key}", value])
    return cfg


@pytest.mark.parametrize("name", ["AttributeGenerator", "ResidualMemory"])
def test_a_step_at_paper_size(name):
    cfg = config(**{"MANIPULATION.NAME": name})
    dim, sizes = cfg.MODEL.RECOGNITION.FUSION_DIM, [len(group) for group in FINE]
    head = ManipulationHead(cfg, dim, ShapeSpec(channels=512))
    drawn = torch.stack([torch.randint(0, size, (8,)) for size in sizes], 1)
    labels = torch.cat([F.one_hot(v, n) * 2 - 1 for v, n in zip(drawn.T, sizes, strict=True)], 1)
    own = features(torch.rand(8, dim))
    before = [value.clone() for value in head.parameters()]
    losses = head.losses(own, SimpleNamespace(attributes=labels))
    sum(losses.values()).backward()
    torch.optim.AdamW(head.parameters(), cfg.SOLVER.BASE_LR).step()
    unmoved = [b for b, a in zip(before, head.parameters(), strict=True) if torch.equal(a, b)]
    assert not unmoved
    assert head.predict(own)["changed"].shape == (8, 26, dim)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"MANIPULATION.NAME": "Wish"}, "'Wish' is not known; there are AttributeGenerator, Res"),
        ({"HEADS": ["ManipulationHead", "EmbeddingHead"]}, "both give embeddings"),
        ({"MANIPULATION.TYPES": ("fit",)}, "no attribute is of the type 'fit'"),
    ],
)
def test_configs_that_make_no_head(keys, message):
    with pytest.raises(ValueError, match=message):
        ManipulationHead(config(**keys), 16, ShapeSpec(channels=512))
