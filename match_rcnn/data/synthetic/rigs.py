"""What each landmark of an upper garment is, and where the drawn template puts it.

The templates of the taxonomy are drawings; to bend a sleeve or swing a hem one must know which
landmark is a cuff and which a hem corner. Only the left half is kept: the right half is its
mirror, by the taxonomy's flip pairs. Indices are 0-based within the category.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from match_rcnn.data import taxonomy
from match_rcnn.data.synthetic.curves import FloatArray
from match_rcnn.data.synthetic.templates import TEMPLATES


@dataclass(frozen=True)
class Rig:
    """Landmark roles of an upper garment, left half.

    Attributes:
        category_id: 1 to 13.
        outer: sleeve landmarks from the shoulder to the cuff's outer corner.
        inner: from the armpit to the cuff's inner corner.
        armpit: None without sleeves.
        side: between armpit and hem.
        hem: the hem's corner.
        middle: the hem's middle; None for open fronts.
        front: an open front from collar to hem: (collar end, ..., hem); empty otherwise.
    """

    category_id: int
    outer: tuple[int, ...]
    inner: tuple[int, ...]
    armpit: int | None
    side: tuple[int, ...]
    hem: int
    middle: int | None
    front: tuple[int, ...] = ()
    back: int = 0
    neck: int = 1
    neckline: tuple[int, int] = (2, 3)
    shoulder: int = 6

    @cached_property
    def template(self) -> FloatArray:
        """(n, 2) the drawn template made symmetric: x from the axis, y down."""
        category = taxonomy.DEEPFASHION2.category(self.category_id)
        drawn = TEMPLATES[self.category_id]
        points = drawn.xy * [drawn.aspect, 1.0]
        points[:, 0] -= points[[self.neck, self.mirror(self.neck)], 0].mean()
        flipped = points[category.flip_permutation] * [-1.0, 1.0]
        return np.asarray((points + flipped) / 2)

    def mirror(self, index: int) -> int:
        """The partner of a landmark on the other side."""
        return int(taxonomy.DEEPFASHION2.category(self.category_id).flip_permutation[index])

    @cached_property
    def side_fractions(self) -> FloatArray:
        """Height of each side landmark between armpit (0) and hem (1)."""
        y = self.template[:, 1]
        top = y[self.armpit] if self.armpit is not None else self._armhole_end()
        return np.asarray((y[list(self.side)] - top) / (y[self.hem] - top))

    def _armhole_end(self) -> float:
        y = self.template[:, 1]
        return float(y[self.side[0]] - 0.06 * (y[self.hem] - y[self.side[0]]))

    @cached_property
    def side_widths(self) -> FloatArray:
        """Half widths of the side landmarks and the hem corner, against the chest's."""
        x = np.abs(self.template[:, 0])
        chest = x[self.armpit] if self.armpit is not None else x[self.side[0]]
        return np.asarray(x[[*self.side, self.hem]] / chest)

    @cached_property
    def outer_fractions(self) -> FloatArray:
        """Arc length of each ``outer`` landmark from shoulder (0) to cuff (1)."""
        return self._fractions((self.shoulder, *self.outer))

    @cached_property
    def inner_fractions(self) -> FloatArray:
        """Arc length of each ``inner`` landmark from armpit (0) to cuff (1)."""
        assert self.armpit is not None
        return self._fractions((self.armpit, *self.inner))

    def _fractions(self, chain: tuple[int, ...]) -> FloatArray:
        steps = np.linalg.norm(np.diff(self.template[list(chain)], axis=0), axis=1)
        return np.asarray(np.cumsum(steps) / steps.sum())

    @cached_property
    def neckline_shape(self) -> tuple[float, float, float]:
        """(x, y of the neckline's side landmark, y of the back's middle).

        Against the neck point's half width and the neckline's depth.
        """
        points = self.template
        neck, side, low = points[self.neck], points[self.neckline[0]], points[self.neckline[1]]
        depth = low[1] - neck[1]
        ratio = side[0] / neck[0], (side[1] - neck[1]) / depth
        return float(ratio[0]), float(ratio[1]), float((points[self.back, 1] - neck[1]) / depth)


def _rig(category_id: int, side: int, sleeve: tuple[int, int] = (0, 0)) -> Rig:
    """Roles by counting along the outline: 2, 7, sleeve, armpit, side, hem, middle."""
    outer = tuple(range(7, 7 + sleeve[0]))
    end = 7 + sleeve[0] + sleeve[1]
    inner = tuple(reversed(range(7 + sleeve[0], end)))
    armpit = end if sleeve[0] else None
    start = end + (1 if sleeve[0] else 0)
    hem = start + side
    return Rig(category_id, outer, inner, armpit, tuple(range(start, hem)), hem, hem + 1)


def _open(rig: Rig, front: tuple[int, ...]) -> Rig:
    return Rig(rig.category_id, rig.outer, rig.inner, rig.armpit, rig.side, rig.hem, None, front)


RIGS: dict[int, Rig] = {
    1: _rig(1, 2, (2, 2)),
    2: _rig(2, 2, (4, 4)),
    3: _open(_rig(3, 2, (2, 2)), (3, 29, 30, 15)),
    4: _open(_rig(4, 2, (4, 4)), (3, 37, 38, 19)),
    5: _rig(5, 2),
    6: _rig(6, 2),
    10: _rig(10, 4, (2, 2)),
    11: _rig(11, 4, (4, 4)),
    12: _rig(12, 4),
    13: _rig(13, 4),
}
