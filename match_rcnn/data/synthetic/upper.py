"""Shapes of tops, outwear and dresses."""

import numpy as np

from match_rcnn.data.synthetic.body import CHEST, CHEST_Y, SIGN, WAIST_Y, Pose, half_width
from match_rcnn.data.synthetic.curves import FloatArray
from match_rcnn.data.synthetic.cuts import DRESSES, SLINGS, Cut
from match_rcnn.data.synthetic.rigs import RIGS, Rig
from match_rcnn.data.synthetic.shapes import FRONT, Part, Pieces, Shape, Strap, disc, hem_wave

#: Where on the arm a sleeve's inner edge leaves the armpit.
_ARMPIT_ALONG = 0.17


class UpperBuilder:
    """Builds one upper garment; ``shape`` is the result."""

    def __init__(self, category_id: int, cut: Cut, pose: Pose) -> None:
        self.rig: Rig = RIGS[category_id]
        self.cut, self.pose = cut, pose
        self.loose = 1.0 if category_id in DRESSES else 0.3
        self.pieces = Pieces(category_id, pose)
        self.sling = category_id in SLINGS
        for side in (0, 1):
            self._neck(side)
            self._side(side)
            if self.rig.armpit is not None:
                self._sleeve(side)
        self._centre()

    def _node(self, index: int, side: int) -> int:
        return index if side == 0 else self.rig.mirror(index)

    def _put(
        self, index: int, side: int, x: float, y: float, depth: float = 0.0, soft: bool = False
    ) -> None:
        point = self.pose.torso(SIGN[side] * x, y, depth, self.loose)[0]
        self.pieces.put(self._node(index, side), point, soft)

    def _extra(self, name: str, side: int, x: float, y: float) -> None:
        point = self.pose.torso(SIGN[side] * x, y, 0.0, self.loose)[0]
        self.pieces.put(f"{name}{side}", point, smooth=name != "armhole_end")

    # -- torso --------------------------------------------------------------------------------

    def _neck(self, side: int) -> None:
        rig, cut = self.rig, self.cut
        x_ratio, y_ratio, _ = rig.neckline_shape
        width, top = (cut.neck_width, -0.01)
        if self.sling:
            width, top = cut.neck_width + 0.05, 0.19
            self._put(rig.shoulder, side, cut.neck_width + 0.035, 0.02)
        elif rig.armpit is None:
            width = cut.neck_width + 0.03
            self._put(rig.shoulder, side, max(cut.shoulder - 0.04, width + 0.06), 0.03)
        else:
            self._put(rig.shoulder, side, cut.shoulder, 0.05)
        self._put(rig.neck, side, width, top)
        round_ = y_ratio + 0.6 * (cut.neck_round - 0.6)
        low = top + (cut.neck_depth - top) * round_
        inner = width * x_ratio
        if rig.front:
            inner = (width + cut.opening[0]) / 2
        self._put(rig.neckline[0], side, inner, low, 0.5 * FRONT, soft=True)

    def _side(self, side: int) -> None:
        rig, cut = self.rig, self.cut
        chest = CHEST * cut.ease
        if rig.armpit is not None:
            self._put(rig.armpit, side, chest, CHEST_Y)
        else:
            start = cut.neck_width + 0.05 if self.sling else cut.shoulder - 0.04
            self._extra("armhole", side, 0.45 * start + 0.55 * chest - 0.03, 0.23)
            self._extra("armhole_end", side, chest + 0.005, CHEST_Y + 0.01)
        fractions = [*rig.side_fractions, 1.0]
        for index, f, ratio in zip((*rig.side, rig.hem), fractions, rig.side_widths, strict=True):
            y = CHEST_Y + f * (cut.hem - CHEST_Y)
            tucked = cut.waist * np.exp(-(((y - WAIST_Y) / 0.15) ** 2))
            x = chest * (1 + (ratio - 1) * cut.flare) - tucked
            x = max(x, float(half_width(y)) * 0.97) if y < 1.0 else max(x, 0.2)
            self._put(index, side, x, y, soft=index != rig.hem)

    def _centre(self) -> None:
        rig, cut = self.rig, self.cut
        top = 0.19 if self.sling else -0.01
        _, _, back = rig.neckline_shape
        dip = float(np.clip(abs(back) * 0.15, 0.03, 0.06))
        depth = -0.5 * FRONT
        self.pieces.put(rig.back, self.pose.torso(0.0, top + dip, depth, self.loose)[0], True)
        if rig.front:
            for side in (0, 1):
                self._front(side)
            return
        low = self.pose.torso(0.0, cut.neck_depth, FRONT, self.loose)[0]
        self.pieces.put(rig.neckline[1], low, smooth=cut.neck_round > 0.55)
        assert rig.middle is not None
        hem = self.pose.torso(0.0, cut.hem + cut.drop, FRONT, self.loose)[0]
        self.pieces.put(rig.middle, hem, smooth=True)

    def _front(self, side: int) -> None:
        top, bottom = self.cut.opening
        y0 = max(self.cut.neck_depth, 0.05)
        y = rig_heights(self.rig, y0, self.cut.hem + self.cut.drop * 0.5)
        t = np.linspace(0.0, 1.0, len(y)) ** 1.3
        for index, yi, x in zip(self.rig.front, y, top + t * (bottom - top), strict=True):
            ends = index in (self.rig.front[0], self.rig.front[-1])
            self._put(index, side, float(x), float(yi), FRONT, soft=not ends)

    # -- sleeves ------------------------------------------------------------------------------

    def _sleeve(self, side: int) -> None:
        rig, cut, arm = self.rig, self.cut, self.pose.arm(side)
        f = rig.outer_fractions
        width = cut.sleeve_width + (cut.cuff - cut.sleeve_width) * f
        outer = arm.at(f * cut.sleeve, width)
        for index, point in zip(rig.outer, outer, strict=True):
            self.pieces.put(self._node(index, side), point, index != rig.outer[-1])
        f = rig.inner_fractions
        start = min(_ARMPIT_ALONG, 0.55 * cut.sleeve)
        width = cut.sleeve_width + (cut.cuff - cut.sleeve_width) * f
        inner = arm.at(start + f * (cut.sleeve - start), -width)
        for index, point in zip(rig.inner, inner, strict=True):
            self.pieces.put(self._node(index, side), point, index != rig.inner[-1])

    def _sleeve_part(self, side: int) -> Part:
        rig = self.rig
        assert rig.armpit is not None
        order = [rig.shoulder, *rig.outer, *reversed(rig.inner), rig.armpit]
        chain: list[int | str] = [self._node(index, side) for index in order]
        arm = self.pose.arm(side)
        discs: tuple[tuple[float, float, float], ...] = ()
        if self.cut.sleeve > arm.first + 0.02:
            middle = 0.5 * (self.cut.sleeve_width + self.cut.cuff)
            discs = disc(arm.at(arm.first, 0.0), middle * 0.96)
        return self.pieces.part(f"sleeve{side}", chain, discs)

    # -- parts --------------------------------------------------------------------------------

    def _edge(self, side: int) -> list[int | str]:
        """From the shoulder down to the hem corner."""
        rig = self.rig
        chain: list[int | str] = [] if self.sling else [self._node(rig.shoulder, side)]
        if rig.armpit is None:
            chain += [f"armhole{side}", f"armhole_end{side}"]
        else:
            chain.append(self._node(rig.armpit, side))
        return [*chain, *(self._node(index, side) for index in (*rig.side, rig.hem))]

    def _neckline(self, front: bool) -> list[int | str]:
        """From the right neck point to the left, ends left out."""
        rig = self.rig
        if not front:
            return [rig.back]
        side, low = rig.neckline
        return [rig.mirror(side), low, side]

    def shape(self) -> Shape:
        """The garment."""
        rig, pose = self.rig, self.pose
        parts = self._open_parts() if rig.front else self._closed_parts()
        if rig.armpit is not None:
            parts += [self._sleeve_part(0), self._sleeve_part(1)]
        return Shape(
            rig.category_id,
            pose,
            self.pieces.landmarks(),
            {part.name: part for part in parts},
            self._straps(),
            self._hidden(),
            self.loose,
            self._collars(),
        )

    def _closed_parts(self) -> list[Part]:
        rig, pieces = self.rig, self.pieces
        assert rig.middle is not None
        left, right = self._edge(0), self._edge(1)
        corners = (rig.hem, rig.mirror(rig.hem))
        hem = hem_wave(pieces, corners, rig.middle, self.loose)
        loop = [rig.neck, *left[:-1], *hem, *reversed(right[:-1]), rig.mirror(rig.neck)]
        torso = pieces.part("torso", [*loop, *self._neckline(not self.pose.back)])
        if self.pose.back:
            return [torso]
        collar = [rig.neck, rig.back, rig.mirror(rig.neck), *self._neckline(True)]
        return [torso, pieces.part("back", collar)]

    def _open_parts(self) -> list[Part]:
        rig, pieces = self.rig, self.pieces
        edges = [self._edge(side) for side in (0, 1)]
        ends = [self._node(rig.front[-1], side) for side in (0, 1)]
        necks = [rig.neck, rig.mirror(rig.neck)]
        whole = [necks[0], *edges[0], *ends, *reversed(edges[1]), necks[1], rig.back]
        if self.pose.back:
            return [pieces.part("torso", whole)]
        parts = [pieces.part("back", whole)]
        for side in (0, 1):
            front = [self._node(index, side) for index in reversed(rig.front)]
            chain = [necks[side], *edges[side], *front, self._node(rig.neckline[0], side)]
            parts.append(pieces.part(f"front{side}", chain))
        return parts

    def _straps(self) -> tuple[Strap, ...]:
        if not self.sling:
            return ()
        straps = []
        for side in (0, 1):
            top, low = (self._node(i, side) for i in (self.rig.shoulder, self.rig.neck))
            nodes = self.pieces.nodes
            straps.append(Strap(nodes[top], nodes[low], self.cut.strap, frozenset((top, low))))
        return tuple(straps)

    def _hidden(self) -> frozenset[int]:
        rig = self.rig
        front = {rig.neckline[0], rig.mirror(rig.neckline[0])}
        if rig.front:
            front |= {index for i in rig.front for index in (i, rig.mirror(i))}
        else:
            front.add(rig.neckline[1])
        if self.pose.back:
            return frozenset(front)
        far = self.pose.far_side
        if far is None:
            return frozenset()
        return frozenset(self._node(index, far) for index in rig.side)

    def _collars(self) -> tuple[FloatArray, ...]:
        rig = self.rig
        neck = rig.mirror(rig.neck)
        chains: list[list[int | str]] = [[neck, *self._neckline(not self.pose.back), rig.neck]]
        if rig.front and not self.pose.back:
            low = rig.neckline[0], rig.front[0]
            left = [rig.neck, *low]
            chains = [[self._node(index, side) for index in left] for side in (0, 1)]
        return tuple(np.stack([self.pieces.nodes[n] for n in chain]) for chain in chains)


def rig_heights(rig: Rig, top: float, bottom: float) -> FloatArray:
    """Heights of the landmarks of an open front whose ends lie at ``top`` and ``bottom``."""
    y = rig.template[list(rig.front), 1]
    return np.asarray(top + (y - y[0]) / (y[-1] - y[0]) * (bottom - top))
