"""Articles of named kinds: their attributes are what is drawn."""

from dataclasses import replace

import numpy as np
import pytest

from match_rcnn.data.synthetic.cuts import default_cut
from match_rcnn.data.synthetic.looks import Look
from match_rcnn.data.synthetic.textures import FABRICS, Print
from match_rcnn.data.synthetic.wardrobe import (
    ATTRIBUTES,
    KINDS,
    WORN,
    Article,
    fitted,
    random_article,
    recoloured,
    sister,
)

PLAIN = Print("plain", 0.1, 0.5, 0.0, 0.0, 0)
LOOK = Look(((200.0, 30.0, 30.0), (240.0, 240.0, 240.0), (20.0, 20.0, 20.0)), PLAIN)


def named(name):
    return next(kind for kind in KINDS if kind.name == name)


def article(kind, base, look=LOOK, **cut):
    return Article(named(kind), base, replace(default_cut(base), **cut), look)


@pytest.mark.parametrize(
    ("worn", "names"),
    [
        # each: what it must be called, and nothing else
        (article("Tee", 1, ease=1.1, neck_depth=0.1, hem=0.8),
         {"solid", "cotton", "short sleeve", "minimal"}),
        (article("Tee", 1, replace(LOOK, cloth=replace(PLAIN, kind="dots"), pocket=1),
                 ease=1.3, neck_depth=0.1, hem=0.7),
         {"dotted", "cotton", "short sleeve", "pocket", "loose", "cropped"}),
        (article("Sweater", 2, replace(LOOK, fabric="knit", band=0.05), neck_depth=0.2, hem=0.95),
         {"solid", "knit", "long sleeve", "deep neck", "longline", "trim", "sporty"}),
        (article("Jacket", 3, replace(LOOK, fabric="denim", pocket=2, buttons=3), hem=0.76),
         {"solid", "denim", "short sleeve", "open front", "buttons", "rugged"}),  # too short
        (article("Jeans", 8, replace(LOOK, fabric="denim", buttons=5, pocket=2), leg_end=0.06),
         {"solid", "denim", "skinny", "rugged", "minimal"}),  # no button, no pocket on trousers
        (article("Skirt", 9, replace(LOOK, cloth=replace(PLAIN, kind="flowers")),
                 hem=1.7, ease=1.3),
         {"floral", "cotton", "maxi", "a-line", "loose", "boho", "romantic"}),
        (article("Dress", 12, replace(LOOK, belt=True, collar=(0.0, 0.0, 0.0)), hem=1.4, flare=0.3,
                 neck_round=0.5, neck_depth=0.1),
         {"solid", "cotton", "midi", "sleeveless", "belt", "collar", "v neck"}),
    ],
)  # fmt: skip
def test_attributes_of_what_is_drawn(worn, names):
    assert set(worn.names) == names
    has = worn.attributes == 1
    assert {a.name for a, own in zip(ATTRIBUTES, has, strict=True) if own} == names


def test_every_kind_is_what_it_must_be_and_stays_so():
    rng = np.random.default_rng(0)
    for index in WORN * 4:
        kind = KINDS[index]
        first = random_article(rng, kind)
        for worn in (first, sister(rng, first), recoloured(rng, first)):
            assert worn.kind is kind
            assert worn.base in kind.bases
            assert worn.look.fabric in kind.fabrics
            assert not kind.prints or worn.look.cloth.kind in kind.prints
            assert not kind.buttons or worn.look.buttons in kind.buttons
            assert all(low <= getattr(worn.cut, n) <= high for n, (low, high) in kind.cut.items())
            assert fitted(np.random.default_rng(1), worn).names == worn.names
        assert recoloured(rng, first).names == first.names
        assert recoloured(rng, first).look.colours[0] != first.look.colours[0]


def test_every_attribute_is_had_by_some_and_not_by_others():
    rng = np.random.default_rng(0)
    labels = np.stack([random_article(rng).attributes for _ in range(1500)])
    assert set(np.unique(labels)) == {-1, 1}
    counts = (labels == 1).sum(0)
    rare = [a.name for a, n in zip(ATTRIBUTES, counts, strict=True) if not 4 <= n <= 1200]
    assert rare == []


def test_attributes_are_sorted_and_of_five_types():
    names = [a.name for a in ATTRIBUTES]
    assert names == sorted(set(names))
    assert {a.type for a in ATTRIBUTES} == {1, 2, 3, 4, 5}
    wanted = {"striped", "dotted", "floral", "checked", "maxi", "a-line", "slim"}
    assert wanted | {"collar", "buttons", "pocket", "belt"} <= set(names)


@pytest.mark.parametrize("fabric", FABRICS)
def test_a_fabric_shows_on_plain_cloth(fabric):
    u, v = np.meshgrid(*[np.linspace(0, 0.5, 80, dtype=np.float32)] * 2)
    plain = LOOK.paint(u, v, 0.01, torso=False)
    woven = replace(LOOK, fabric=fabric).paint(u, v, 0.01, torso=False)
    assert plain.std((0, 1)).max() == 0
    assert np.abs(woven - plain).mean() > 8
    assert woven.std((0, 1)).max() > 4
