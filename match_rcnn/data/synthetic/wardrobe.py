"""Garments with names and attributes: what a shop calls what the generator draws.

A :class:`Kind` is a category of clothes (a tee, a cardigan): which of the thirteen drawn garments
it may be, and what its cut and cloth must be. An attribute is a rule over what is drawn, so a
garment has it exactly when the drawing does.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from match_rcnn.data.synthetic.cuts import (
    DRESSES,
    LONG_SLEEVES,
    LOWERS,
    OUTWEAR,
    SHORT_SLEEVES,
    SKIRT,
    SLINGS,
    VESTS,
    Cut,
    random_cut,
    vary_cut,
)
from match_rcnn.data.synthetic.looks import (
    Colour,
    Look,
    contrasting,
    random_look,
    recolour,
    vary_look,
)

UPPER, LOWER, FULL = 1, 2, 3
_ALL = ("cotton", "cotton", "cotton", "denim", "knit", "ribbed", "leather", "lace", "chiffon")
_LIGHT = ("cotton", "cotton", "knit", "ribbed", "lace", "chiffon")
_CHECKS = ("gingham", "tartan", "grid")
_TROUSERS, _SHORTS = 8, 7
#: Hems of the longest dresses and skirts, which DeepFashion2's generator does not draw.
_LONG = (1.66, 1.9)


@dataclass(frozen=True)
class Kind:
    """A category of clothes.

    Attributes:
        name: as in ``list_category_cloth.txt``.
        type: 1 upper body, 2 lower body, 3 full body.
        bases: of the thirteen drawn categories; none: it is listed and nobody wears it.
        fabrics: its cloth.
        prints: its prints; none: any.
        cut: bounds of measures of :class:`~match_rcnn.data.synthetic.cuts.Cut`.
        buttons: how many it may have; none: whatever comes.
        collar, band, stripe, pocket: whether it must have them.
    """

    name: str
    type: int
    bases: tuple[int, ...] = ()
    fabrics: tuple[str, ...] = _ALL
    prints: tuple[str, ...] = ()
    cut: dict[str, tuple[float, float]] = field(default_factory=dict, hash=False)
    buttons: tuple[int, ...] = ()
    collar: bool = False
    band: bool = False
    stripe: bool = False
    pocket: bool = False


#: In the order of the types, as in the official list.
KINDS = (
    Kind("Blazer", UPPER, (4,), ("cotton",), ("plain", "stripes", "grid"), {"hem": (0.84, 0.98)},
         (3, 5), pocket=True),
    Kind("Blouse", UPPER, (1, 2), ("chiffon", "lace"), buttons=(0,)),
    Kind("Button-Down", UPPER, (1, 2), ("cotton", "cotton", "denim"), buttons=(5, 7), collar=True),
    Kind("Cardigan", UPPER, (4,), ("knit",), (), {"hem": (0.85, 1.05)}),
    Kind("Flannel", UPPER, (2,), ("cotton",), _CHECKS, buttons=(5, 7)),
    Kind("Halter", UPPER, (6,), _LIGHT),
    Kind("Jacket", UPPER, (3, 4), ("denim", "leather"), ("plain",), {"hem": (0.68, 0.84)}),
    Kind("Sweater", UPPER, (2,), ("knit", "ribbed"), buttons=(0,), band=True),
    Kind("Tank", UPPER, (5,), ("cotton", "ribbed", "knit")),
    Kind("Tee", UPPER, (1,), ("cotton",), buttons=(0,)),
    Kind("Culottes", LOWER, (8,), _LIGHT, (),
         {"hem": (0.6, 0.85), "leg_end": (0.13, 0.17), "knee": (0.11, 0.13)}),
    Kind("Cutoffs", LOWER, (7,), ("denim",), ("plain",)),
    Kind("Jeans", LOWER, (8,), ("denim",), ("plain",)),
    Kind("Joggers", LOWER, (8,), ("cotton",), ("plain", "speckle", "block"), band=True,
         stripe=True),
    Kind("Leggings", LOWER, (8,), ("cotton", "ribbed", "leather"), (),
         {"leg_end": (0.045, 0.06), "knee": (0.06, 0.075), "ease": (0.94, 1.0)}),
    Kind("Shorts", LOWER, (7,), _LIGHT),
    Kind("Skirt", LOWER, (9,)),
    Kind("Cape", FULL),
    Kind("Coat", FULL, (4,), ("cotton", "knit", "leather"), (), {"hem": (1.2, 1.5)}),
    Kind("Dress", FULL, (10, 11, 12), buttons=(0,)),
    Kind("Kaftan", FULL, (11,), ("cotton", "chiffon"), (),
         {"ease": (1.3, 1.45), "flare": (0.9, 1.05)}, (0,)),
    Kind("Shirtdress", FULL, (10, 11), ("cotton", "denim"), buttons=(5, 7), collar=True),
    Kind("Sundress", FULL, (13,), _LIGHT),
)  # fmt: skip
WORN = tuple(i for i, kind in enumerate(KINDS) if kind.bases)

_CLOTH_COLOURS: dict[str, tuple[Colour, ...]] = {
    "denim": ((62, 84, 124), (40, 54, 88), (104, 130, 168), (34, 36, 44)),
    "leather": ((48, 44, 44), (96, 62, 44), (128, 40, 44), (70, 66, 60)),
}
#: Names of cloth colours, for the words of a description.
_COLOUR_NAMES = {
    "white": (238, 236, 232),
    "black": (36, 36, 40),
    "grey": (128, 130, 134),
    "navy": (36, 46, 84),
    "blue": (92, 118, 158),
    "beige": (205, 186, 158),
    "brown": (112, 82, 60),
    "red": (186, 36, 48),
    "green": (52, 110, 78),
    "pink": (226, 150, 166),
}


@dataclass(frozen=True)
class Article:
    """A garment of a kind: what is drawn, and what it is called."""

    kind: Kind
    base: int
    cut: Cut
    look: Look

    @property
    def attributes(self) -> np.ndarray[Any, np.dtype[np.int8]]:
        """(A,) 1 for each attribute that it has, -1 for the others."""
        return np.array([1 if a.holds(self) else -1 for a in ATTRIBUTES], dtype=np.int8)

    @property
    def names(self) -> list[str]:
        """The attributes that it has."""
        return [a.name for a in ATTRIBUTES if a.holds(self)]

    @property
    def colour(self) -> str:
        """The name of the base colour's nearest neighbour."""
        base = np.array(self.look.colours[0])
        return min(_COLOUR_NAMES, key=lambda n: float(np.abs(base - _COLOUR_NAMES[n]).sum()))


def random_article(rng: np.random.Generator, kind: Kind | None = None) -> Article:
    """A garment of a kind, or of any that is worn."""
    kind = kind or KINDS[WORN[int(rng.integers(len(WORN)))]]
    base = int(rng.choice(kind.bases))
    cut = random_cut(rng, base)
    look = replace(random_look(rng, base), fabric=str(rng.choice(kind.fabrics)))
    if base in (*DRESSES, SKIRT) and rng.random() < 0.3:
        cut = replace(cut, hem=float(rng.uniform(*_LONG)))
    return fitted(rng, Article(kind, base, cut, look))


def sister(rng: np.random.Generator, article: Article) -> Article:
    """Another article of the same kind that differs in a detail or two: plain cloth always in its
    cut, since a look may change in what plain cloth does not show."""
    cut, look = article.cut, article.look
    change = rng.random()
    if change < 0.5 or look.cloth.kind == "plain":
        cut = vary_cut(rng, article.base, cut)
    if change > 0.3:
        look = vary_look(rng, article.base, look)
    return fitted(rng, replace(article, cut=cut, look=look))


def recoloured(rng: np.random.Generator, article: Article) -> Article:
    """The same article in another colour: none of its attributes changes."""
    look = article.look
    if look.fabric in _CLOTH_COLOURS:
        return replace(article, look=_dyed(rng, look))
    return replace(article, look=_with_contrast(rng, recolour(rng, look)))


def fitted(rng: np.random.Generator, article: Article) -> Article:
    """The article made to what its kind must be; what is so already stays."""
    kind, base = article.kind, article.base
    changes: dict[str, Any] = {
        name: float(rng.uniform(low, high))
        for name, (low, high) in kind.cut.items()
        if not low <= getattr(article.cut, name) <= high
    }
    cut = replace(article.cut, **changes)
    look = article.look
    if look.fabric not in kind.fabrics:
        look = replace(look, fabric=str(rng.choice(kind.fabrics)))
    if look.fabric in _CLOTH_COLOURS and look.colours[0] not in _CLOTH_COLOURS[look.fabric]:
        look = _dyed(rng, look)
    if kind.prints and look.cloth.kind not in kind.prints:
        look = replace(look, cloth=replace(look.cloth, kind=str(rng.choice(kind.prints))))
    if kind.buttons and look.buttons not in kind.buttons:
        look = replace(look, buttons=int(rng.choice(kind.buttons)))
    if look.buttons:
        look = replace(look, graphic=None)
    if kind.collar and look.collar is None:
        look = replace(look, collar=contrasting(rng, look.colours[0]))
    if kind.band and not look.band:
        look = replace(look, band=float(rng.uniform(0.035, 0.06)))
    if kind.stripe and not look.side_stripe:
        look = replace(look, side_stripe=float(rng.uniform(0.025, 0.04)))
    if kind.pocket and not look.pocket:
        look = replace(look, pocket=2)
    if base in OUTWEAR or base in LOWERS:
        look = replace(look, graphic=None)
    return replace(article, cut=cut, look=_with_contrast(rng, look))


def _dyed(rng: np.random.Generator, look: Look) -> Look:
    colours = [c for c in _CLOTH_COLOURS[look.fabric] if c != look.colours[0]]
    base = colours[int(rng.integers(len(colours)))]
    second = contrasting(rng, base)
    return replace(look, colours=(base, second, contrasting(rng, second)))


def _with_contrast(rng: np.random.Generator, look: Look) -> Look:
    """Buttons, a collar and a band that can be told from the cloth."""
    base, second, third = look.colours
    if look.buttons and np.abs(np.subtract(base, third)).sum() < 130:
        look = replace(look, colours=(base, second, contrasting(rng, base)))
    if look.collar is not None and np.abs(np.subtract(base, look.collar)).sum() < 130:
        look = replace(look, collar=contrasting(rng, base))
    return look


# Attributes --------------------------------------------------------------------------------------

TEXTURE, FABRIC, SHAPE, PART, STYLE = 1, 2, 3, 4, 5


@dataclass(frozen=True)
class Attribute:
    """A name, its type from 1 (texture, fabric, shape, part, style), and what it means."""

    name: str
    type: int
    holds: Callable[[Article], bool]


def _printed(*kinds: str) -> Callable[[Article], bool]:
    return lambda a: a.look.cloth.kind in kinds


def _woven(fabric: str) -> Callable[[Article], bool]:
    return lambda a: a.look.fabric == fabric


def _based(*bases: int) -> Callable[[Article], bool]:
    return lambda a: a.base in bases


def _skirted(a: Article) -> bool:
    return a.base in (*DRESSES, SKIRT)


def _ends(low: float, high: float) -> Callable[[Article], bool]:
    """Of dresses and skirts: where the hem is."""
    return lambda a: _skirted(a) and low <= a.cut.hem < high


def _is_top(a: Article) -> bool:
    return a.kind.type == UPPER


def _closed_neck(a: Article) -> bool:
    return a.base not in (*LOWERS, *OUTWEAR, *SLINGS)


def _has_pocket(a: Article) -> bool:
    """The tailor leaves it out where the hem is too near."""
    return bool(a.look.pocket) and a.base not in LOWERS and a.cut.hem >= _pocket_end(a)


def _pocket_end(a: Article) -> float:
    return 0.81 if a.base in OUTWEAR else 0.49


def _has_buttons(a: Article) -> bool:
    return a.look.buttons > 0 and a.base not in LOWERS


def _has_collar(a: Article) -> bool:
    return a.look.collar is not None and a.base not in LOWERS


def _has_stripe(a: Article) -> bool:
    return a.look.side_stripe > 0 and a.base in (*SHORT_SLEEVES, *LONG_SLEEVES, _TROUSERS, _SHORTS)


def _is_slim(a: Article) -> bool:
    return a.cut.ease <= 1.06 and a.base != SKIRT


def _is_loose(a: Article) -> bool:
    return a.cut.ease >= 1.22


def _is_floral(a: Article) -> bool:
    return a.look.cloth.kind == "flowers"


def _is_checked(a: Article) -> bool:
    return a.look.cloth.kind in _CHECKS


def _is_bare(a: Article) -> bool:
    """Plain, and without any detail."""
    look = a.look
    details = look.graphic, look.band, look.side_stripe, look.belt
    return look.cloth.kind == "plain" and not (
        any(details) or _has_buttons(a) or _has_collar(a) or _has_pocket(a)
    )


#: By name, as in the official list.
ATTRIBUTES = tuple(
    sorted(
        (
            Attribute("solid", TEXTURE, _printed("plain")),
            Attribute("striped", TEXTURE, _printed("stripes", "double stripes")),
            Attribute("dotted", TEXTURE, _printed("dots")),
            Attribute("floral", TEXTURE, _is_floral),
            Attribute("checked", TEXTURE, _is_checked),
            Attribute("zigzag", TEXTURE, _printed("zigzag")),
            Attribute("abstract print", TEXTURE, _printed("blobs")),
            Attribute("ombre", TEXTURE, _printed("gradient")),
            Attribute("colorblock", TEXTURE, _printed("block")),
            Attribute("marled", TEXTURE, _printed("speckle")),
            Attribute("graphic", TEXTURE, lambda a: a.look.graphic is not None),
            Attribute("cotton", FABRIC, _woven("cotton")),
            Attribute("denim", FABRIC, _woven("denim")),
            Attribute("knit", FABRIC, _woven("knit")),
            Attribute("ribbed", FABRIC, _woven("ribbed")),
            Attribute("leather", FABRIC, _woven("leather")),
            Attribute("lace", FABRIC, _woven("lace")),
            Attribute("chiffon", FABRIC, _woven("chiffon")),
            Attribute("maxi", SHAPE, _ends(1.62, 9.0)),
            Attribute("midi", SHAPE, _ends(1.36, 1.62)),
            Attribute("mini", SHAPE, _ends(0.0, 1.36)),
            Attribute("a-line", SHAPE, lambda a: _skirted(a) and a.cut.flare >= 0.75),
            Attribute("slim", SHAPE, _is_slim),
            Attribute("loose", SHAPE, _is_loose),
            Attribute("cropped", SHAPE, lambda a: _is_top(a) and a.cut.hem < 0.75),
            Attribute("longline", SHAPE, lambda a: _is_top(a) and a.cut.hem >= 0.92),
            Attribute("wide leg", SHAPE, lambda a: a.base == _TROUSERS and a.cut.leg_end >= 0.1),
            Attribute("skinny", SHAPE, lambda a: a.base == _TROUSERS and a.cut.leg_end < 0.07),
            Attribute("collar", PART, _has_collar),
            Attribute("buttons", PART, _has_buttons),
            Attribute("pocket", PART, _has_pocket),
            Attribute("belt", PART, lambda a: a.look.belt),
            Attribute("v neck", PART, lambda a: _closed_neck(a) and a.cut.neck_round <= 0.55),
            Attribute("deep neck", PART, lambda a: _closed_neck(a) and a.cut.neck_depth >= 0.17),
            Attribute("long sleeve", PART, _based(*LONG_SLEEVES)),
            Attribute("short sleeve", PART, _based(*SHORT_SLEEVES)),
            Attribute("sleeveless", PART, _based(*VESTS)),
            Attribute("strappy", PART, _based(*SLINGS)),
            Attribute("open front", PART, _based(*OUTWEAR)),
            Attribute("trim", PART, lambda a: a.look.band > 0),
            Attribute("side stripe", PART, _has_stripe),
            Attribute("boho", STYLE, lambda a: _printed("zigzag", "flowers")(a) and _is_loose(a)),
            Attribute("classic", STYLE, lambda a: _is_checked(a) or _printed("stripes")(a)),
            Attribute("sporty", STYLE, lambda a: _has_stripe(a) or a.look.band > 0),
            Attribute("minimal", STYLE, _is_bare),
            Attribute(
                "romantic", STYLE, lambda a: _is_floral(a) or a.look.fabric in ("lace", "chiffon")
            ),
            Attribute("rugged", STYLE, lambda a: a.look.fabric in ("denim", "leather")),
        ),
        key=lambda attribute: attribute.name,
    )
)

_Rule = Callable[[Article], bool]


def _always(_: Article) -> bool:
    return True


#: The six groups of the fine labels, in the order of their types: of each a garment has the first
#: value that holds, and no other.
FINE: tuple[dict[str, _Rule], ...] = (
    {
        "graphic": lambda a: a.look.graphic is not None,
        "floral": _is_floral,
        "striped": _printed("stripes", "double stripes"),
        "lattice": _is_checked,
        "dotted": _printed("dots"),
        "solid": _printed("plain"),
        "printed": _always,
    },
    {
        "long_sleeve": _based(*LONG_SLEEVES),
        "short_sleeve": _based(*SHORT_SLEEVES),
        "sleeveless": _always,
    },
    {"maxi_length": _ends(1.36, 9.0), "mini_length": _skirted, "no_dress": _always},
    {
        "deep_neckline": lambda a: _closed_neck(a) and a.cut.neck_depth >= 0.17,
        "v_neckline": lambda a: _closed_neck(a) and a.cut.neck_round <= 0.55,
        "crew_neckline": _closed_neck,
        "no_neckline": _always,
    },
    {
        "denim": _woven("denim"),
        "chiffon": _woven("chiffon"),
        "leather": _woven("leather"),
        "lace": _woven("lace"),
        "knit": lambda a: a.look.fabric in ("knit", "ribbed"),
        "cotton": _always,
    },
    {"tight": _is_slim, "loose": _is_loose, "conventional": _always},
)


def fine_labels(article: Article) -> list[int]:
    """1 for the value that it has of each group of :data:`FINE`, 0 for the others."""
    found = [next(name for name, holds in group.items() if holds(article)) for group in FINE]
    return [int(name == own) for group, own in zip(FINE, found, strict=True) for name in group]
