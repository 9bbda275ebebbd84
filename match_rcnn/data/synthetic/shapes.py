"""Garments as shapes: a cut in a pose becomes landmarks and outlined parts.

Shapes: ``n`` landmarks of the category, ``k`` control points of a part's outline. All points lie
in the picture plane in body units (body.py). Every landmark is a control point of its part's
outline (or the end of a strap), so annotations sit on the drawn edge by construction.
"""

from dataclasses import dataclass

import numpy as np

from match_rcnn.data import taxonomy
from match_rcnn.data.synthetic.body import DEPTH, Pose
from match_rcnn.data.synthetic.curves import BoolArray, FloatArray, smooth_closed


@dataclass(frozen=True)
class Part:
    """One outlined piece of a garment.

    Attributes:
        name: ``back`` (its inside, behind the body), ``torso``, ``sleeve0``, ``leg1``, ...
        points: (k, 2) control points.
        smooth: (k,) False at corners.
        landmarks: the landmarks that lie on it, 0-based.
        discs: (x, y, radius) added to the filled area: elbows and knees, where a sharply bent
            outline would cross itself.
    """

    name: str
    points: FloatArray
    smooth: BoolArray
    landmarks: frozenset[int]
    discs: tuple[tuple[float, float, float], ...] = ()

    def outline(self, per_segment: int = 6) -> FloatArray:
        """(k * per_segment, 2) the sampled outline; multiples of it are the control points."""
        return smooth_closed(self.points, self.smooth, per_segment)


@dataclass(frozen=True)
class Strap:
    """A thin band between two points of the plane; ``landmarks`` lie on its ends."""

    start: FloatArray
    end: FloatArray
    half_width: float
    landmarks: frozenset[int]


@dataclass(frozen=True)
class Shape:
    """A garment in a pose.

    Attributes:
        category_id: 1 to 13.
        pose: its pose.
        landmarks: (n, 2).
        parts: by name, in no drawing order.
        straps: thin bands.
        hidden: landmarks that the viewpoint hides although nothing is drawn over them.
        loose: how much of the pose's swing the torso part takes.
        collars: (k, 2) control points of the collar's edges as they are seen.
    """

    category_id: int
    pose: Pose
    landmarks: FloatArray
    parts: dict[str, Part]
    straps: tuple[Strap, ...] = ()
    hidden: frozenset[int] = frozenset()
    loose: float = 0.3
    collars: tuple[FloatArray, ...] = ()


class Pieces:
    """Collects landmarks of one garment, then cuts parts out of them.

    A node is a landmark (int) or an extra control point (name). ``smooth`` nodes have no corner.
    """

    def __init__(self, category_id: int, pose: Pose) -> None:
        self.category = taxonomy.DEEPFASHION2.category(category_id)
        self.pose = pose
        self.nodes: dict[int | str, FloatArray] = {}
        self.soft: set[int | str] = set()

    def put(self, node: int | str, point: FloatArray, smooth: bool = False) -> None:
        """Place ``node`` at a plane point (2,)."""
        self.nodes[node] = np.asarray(point, dtype=float).reshape(2)
        if smooth:
            self.soft.add(node)

    def part(
        self,
        name: str,
        chain: list[int | str],
        discs: tuple[tuple[float, float, float], ...] = (),
    ) -> Part:
        """The part outlined by ``chain``."""
        points = np.stack([self.nodes[node] for node in chain])
        smooth = np.array([node in self.soft for node in chain])
        landmarks = frozenset(node for node in chain if isinstance(node, int))
        return Part(name, points, smooth, landmarks, discs)

    def landmarks(self) -> FloatArray:
        """(n, 2) all landmarks."""
        return np.stack([self.nodes[i] for i in range(self.category.num_landmarks)])


def hem_wave(
    pieces: Pieces, corners: tuple[int, int], middle: int, loose: float
) -> list[int | str]:
    """A waving hem from the left to the right corner; its middle node must be placed already."""
    chain: list[int | str] = [corners[0]]
    left, centre, right = (pieces.nodes[node] for node in (corners[0], middle, corners[1]))
    wave = pieces.pose.wave
    for i, (start, end, t) in enumerate(
        [(left, centre, 0.35), (left, centre, 0.7), (centre, right, 0.3), (centre, right, 0.65)]
    ):
        if i == 2:
            chain.append(middle)
        name = f"wave{i}"
        point = start + t * (end - start) + [0.0, wave[i] * loose]
        pieces.put(name, point, smooth=True)
        chain.append(name)
    pieces.soft.add(middle)
    return [*chain, corners[1]]


def disc(points: FloatArray, radius: float) -> tuple[tuple[float, float, float], ...]:
    """One filling disc at the mean of (k, 2) points."""
    x, y = points.mean(axis=0)
    return ((float(x), float(y), float(radius)),)


FRONT = DEPTH * 0.9
