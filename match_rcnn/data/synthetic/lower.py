"""Shapes of shorts, trousers and skirts."""

import numpy as np

from match_rcnn.data.synthetic.body import CROTCH_Y, HIP, HIP_Y, HIPS, SIGN, Pose, half_width
from match_rcnn.data.synthetic.cuts import SKIRT, Cut
from match_rcnn.data.synthetic.shapes import FRONT, Part, Pieces, Shape, disc, hem_wave
from match_rcnn.data.synthetic.templates import TEMPLATES

_SHORTS, _TROUSERS = 7, 8
#: Legs begin this far along the thigh, at the height of the crotch.
_LEG_START = CROTCH_Y - HIP[1]


def lower_shape(category_id: int, cut: Cut, pose: Pose) -> Shape:
    """A skirt, shorts or trousers."""
    pieces = Pieces(category_id, pose)
    loose = 1.0 if category_id == SKIRT else 0.0
    waist = float(half_width(cut.rise)) * min(cut.ease, 1.1)
    for side, node in ((0, 0), (1, 2)):
        pieces.put(node, pose.torso(SIGN[side] * waist, cut.rise, 0.0, loose)[0])
    middle = pose.torso(0.0, cut.rise + 0.02, FRONT, loose)[0]
    pieces.put(1, middle, smooth=category_id == SKIRT)
    parts = _skirt(pieces, cut) if category_id == SKIRT else _legs(pieces, cut)
    hidden: frozenset[int] = frozenset()
    if pose.far_side is not None:
        sides = {SKIRT: (3, 7), _SHORTS: (3, 9), _TROUSERS: (3, 13)}[category_id]
        hidden = frozenset((sides[pose.far_side],))
    named = {part.name: part for part in parts}
    return Shape(category_id, pose, pieces.landmarks(), named, (), hidden, loose)


def _skirt(pieces: Pieces, cut: Cut) -> list[Part]:
    template = TEMPLATES[pieces.category.id].xy
    pose = pieces.pose
    # The drawn skirt widens threefold; a pencil skirt hardly at all.
    widths = [1 + (0.62 * cut.flare**1.5 + 0.02) * f * (cut.hem - cut.rise) / 0.5 for f in (0.5, 1)]
    fraction = (template[3, 1] - template[0, 1]) / (template[4, 1] - template[0, 1])
    for side in (0, 1):
        hip, corner = ((3, 4), (7, 6))[side]
        y = cut.rise + fraction * (cut.hem - cut.rise)
        pieces.put(
            hip, pose.torso(SIGN[side] * HIPS * cut.ease * widths[0], y, 0.0, 1.0)[0], smooth=True
        )
        if y > HIP_Y + 0.05:
            at_hip = HIPS * cut.ease * (1 + 0.5 * (widths[0] - 1))
            pieces.put(f"hip{side}", pose.torso(SIGN[side] * at_hip, HIP_Y, 0.0, 1.0)[0], True)
        x = HIPS * cut.ease * widths[1]
        pieces.put(corner, pose.torso(SIGN[side] * x, cut.hem, 0.0, 1.0)[0])
    middle = cut.hem + cut.drop + 0.08 * (widths[1] - 1)
    pieces.put(5, pose.torso(0.0, middle, FRONT, 1.0)[0])
    extra = [["hip0"], ["hip1"]] if "hip0" in pieces.nodes else [[], []]
    hem = hem_wave(pieces, (4, 6), 5, 1.0)
    return [pieces.part("torso", [0, *extra[0], 3, *hem, 7, *extra[1], 2, 1])]


def _legs(pieces: Pieces, cut: Cut) -> list[Part]:
    """Trousers (1-based): 1 waist, 4 thigh, 5 knee, 6 and 7 hem, 8 knee, 9 crotch."""
    crotch = 8 if pieces.category.id == _TROUSERS else 6
    drop = 0.03 if pieces.category.id == _SHORTS else 0.0
    point = pieces.pose.torso(0.0, CROTCH_Y + drop, 0.0)[0]
    pieces.put(crotch, point)
    return [_leg(pieces, cut, side, crotch) for side in (0, 1)]


def _leg(pieces: Pieces, cut: Cut, side: int, crotch: int) -> Part:
    pose, limb = pieces.pose, pieces.pose.leg(side)
    hip = pose.torso(SIGN[side] * HIPS * cut.ease, HIP_Y)[0]
    pieces.put(f"hip{side}", hip, smooth=True)
    if pieces.category.id == _SHORTS:
        chain: list[int | str] = [0, f"hip{side}", 3, 4, 5, crotch]
        thigh = (HIPS - HIP[0]) * cut.ease
        wide = thigh + (cut.flare - 0.6) * 0.06
        spots = {
            3: (0.03, thigh),
            4: (cut.hem, wide),
            5: (cut.hem + 0.01, -min(wide - 0.02, 0.082)),
        }
    else:
        chain = [0, f"hip{side}", 3, 4, 5, 6, 7, crotch]
        knee = (cut.hem - _LEG_START) * _knee_fraction(pieces) + _LEG_START
        top = (HIPS - HIP[0]) * cut.ease
        spots = {
            3: (_LEG_START + 0.03, top),
            4: (knee, cut.knee),
            5: (cut.hem, cut.leg_end),
            6: (cut.hem, -cut.leg_end),
            7: (knee, -cut.knee),
        }
    for node, (along, offset) in spots.items():
        corner = abs(along - cut.hem) < 0.02
        pieces.put(_mirror(pieces, node, side), limb.at(along, offset)[0], smooth=not corner)
    named = [_mirror(pieces, n, side) if isinstance(n, int) else n for n in chain]
    discs = disc(limb.at(limb.first, 0.0), 0.85 * cut.knee) if cut.hem > limb.first else ()
    return pieces.part(f"leg{side}", [*named, 1], discs)


def _mirror(pieces: Pieces, node: int, side: int) -> int:
    return int(pieces.category.flip_permutation[node]) if side else node


def _knee_fraction(pieces: Pieces) -> float:
    y = TEMPLATES[pieces.category.id].xy[:, 1]
    return float(np.clip((y[4] - y[8]) / (y[5] - y[8]), 0.3, 0.6))
