"""The cut of a garment: the measures that belong to a product. Units are body units (body.py)."""

from dataclasses import dataclass, replace

import numpy as np

SHORT_SLEEVES, LONG_SLEEVES = (1, 3, 10), (2, 4, 11)
OUTWEAR, SLINGS, VESTS, DRESSES = (3, 4), (6, 13), (5, 12), (10, 11, 12, 13)
TOPS, LOWERS, SKIRT = (1, 2, 5, 6), (7, 8, 9), 9
#: (lowest, highest) hem height of upper garments and skirts; trouser and shorts hems are
#: lengths along the leg. Neighbours nearly meet: a long vest is almost a vest dress.
_HEMS = {
    1: (0.66, 0.94),
    2: (0.66, 0.96),
    3: (0.66, 1.05),
    4: (0.68, 1.05),
    5: (0.62, 0.92),
    6: (0.6, 0.9),
    7: (0.2, 0.36),
    8: (0.86, 1.1),
    9: (1.0, 1.6),
    10: (1.15, 1.6),
    11: (1.15, 1.6),
    12: (1.15, 1.6),
    13: (1.15, 1.6),
}


@dataclass(frozen=True)
class Cut:
    """Measures of one garment.

    Attributes:
        hem: where it ends (height, or length along the leg).
        ease: width against the body's.
        flare: how much of the drawn template's widening below the chest it has.
        waist: how much it is drawn in at the waist.
        neck_width, neck_depth, neck_round: the neckline; ``neck_round`` 0 is a V.
        shoulder: half the distance of the shoulder points.
        sleeve, sleeve_width, cuff: length along the arm and half widths.
        opening: half the gap of open fronts at the top and at the hem.
        strap: half width of straps.
        rise: height of the waistband of skirts and trousers.
        knee, leg_end: half widths of trouser legs.
        drop: how far the middle of the hem hangs below its corners.
    """

    hem: float = 0.86
    ease: float = 1.1
    flare: float = 1.0
    waist: float = 0.0
    neck_width: float = 0.1
    neck_depth: float = 0.12
    neck_round: float = 0.6
    shoulder: float = 0.26
    sleeve: float = 0.24
    sleeve_width: float = 0.095
    cuff: float = 0.095
    opening: tuple[float, float] = (0.05, 0.08)
    strap: float = 0.012
    rise: float = 0.68
    knee: float = 0.09
    leg_end: float = 0.08
    drop: float = 0.02


def default_cut(category_id: int) -> Cut:
    """A typical cut of a category: the undeformed garment."""
    low, high = _HEMS[category_id]
    long = category_id in LONG_SLEEVES
    return Cut(
        # A jacket, not a coat: as in the drawn template.
        hem=0.9 if category_id == 4 else (low + high) / 2,
        ease=1.2 if category_id in OUTWEAR else 1.1,
        sleeve=0.64 if long else 0.26,
        cuff=0.06 if long else 0.095,
        neck_depth=0.3 if category_id in SLINGS else 0.14,
    )


def random_cut(rng: np.random.Generator, category_id: int) -> Cut:
    """A product's cut."""
    u = rng.uniform
    low, high = _HEMS[category_id]
    outwear, sling = category_id in OUTWEAR, category_id in SLINGS
    long = category_id in LONG_SLEEVES
    cuff = u(0.045, 0.085) if long else u(0.08, 0.13)
    depth = u(0.27, 0.36) if sling else u(0.06, 0.22)
    return Cut(
        hem=float(low + (high - low) * rng.beta(1.5, 1.5)),
        ease=float(u(1.12, 1.38) if outwear else u(0.98, 1.28)),
        flare=float(u(0.25, 1.05)),
        waist=float(max(0.0, u(-0.03, 0.045))),
        neck_width=float(u(0.085, 0.135)),
        neck_depth=float(depth),
        neck_round=float(u(0.45, 0.85)),
        shoulder=float(u(0.245, 0.29) + (0.02 if outwear else 0.0)),
        sleeve=float(u(0.58, 0.7) if long else u(0.13, 0.26)),
        sleeve_width=float(u(0.08, 0.115) + (0.015 if outwear else 0.0)),
        cuff=float(cuff + (0.012 if outwear else 0.0)),
        opening=(float(u(0.05, 0.1)), float(u(0.08, 0.18))),
        strap=float(u(0.008, 0.022)),
        rise=float(u(0.58, 0.78)),
        knee=float(u(0.075, 0.11)),
        leg_end=float(u(0.05, 0.125)),
        drop=float(u(-0.01, 0.06)),
    )


def vary_cut(rng: np.random.Generator, category_id: int, cut: Cut) -> Cut:
    """A sister product: the same cut but for one or two measures."""
    other = random_cut(rng, category_id)
    names = ["hem", "neck_depth", "ease"]
    if category_id in SHORT_SLEEVES + LONG_SLEEVES:
        names += ["sleeve", "cuff"]
    if category_id in OUTWEAR:
        names += ["opening"]
    if category_id in LOWERS:
        names = ["hem", "rise", "leg_end", "flare"]
    chosen = rng.choice(names, size=int(rng.integers(1, 3)), replace=False)
    return replace(cut, **{str(name): getattr(other, str(name)) for name in chosen})
