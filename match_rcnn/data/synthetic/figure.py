"""A dressed person, or a garment laid flat: what is drawn over what."""

from dataclasses import dataclass

import numpy as np

from match_rcnn.data.synthetic.body import (
    DEPTH,
    FOREARM,
    SHIN,
    SIGN,
    THIGH,
    UPPER_ARM,
    Limb,
    Pose,
    half_width,
)
from match_rcnn.data.synthetic.camera import Camera
from match_rcnn.data.synthetic.canvas import Canvas, Layer
from match_rcnn.data.synthetic.curves import FloatArray
from match_rcnn.data.synthetic.garments import garment_shape
from match_rcnn.data.synthetic.looks import Colour
from match_rcnn.data.synthetic.shapes import Shape
from match_rcnn.data.synthetic.tailor import Garment, Light, Tailor

_BODY = Layer(None, "body")
_SKINS = ((247, 215, 190), (232, 190, 160), (205, 155, 120), (150, 105, 75), (95, 65, 48))
_HAIRS = (
    (40, 30, 26),
    (75, 48, 30),
    (130, 88, 50),
    (205, 168, 105),
    (150, 60, 35),
    (120, 120, 122),
)


@dataclass(frozen=True)
class Person:
    """Skin and hair.

    Attributes:
        hair_length: how far the hair falls below the chin, body units; it covers necklines.
        hair_front: which sides of it lie before the shoulders.
    """

    skin: Colour
    hair: Colour
    hair_length: float
    hair_front: tuple[bool, bool]
    shoes: Colour


def random_person(rng: np.random.Generator, plain: bool) -> Person:
    """A person; ``plain`` (a model in a shop photo) rarely hides clothes behind hair."""
    skin = np.array(_SKINS[int(rng.integers(len(_SKINS)))]) + rng.normal(0, 6, 3)
    hair = np.array(_HAIRS[int(rng.integers(len(_HAIRS)))]) + rng.normal(0, 8, 3)
    long = rng.random() < (0.35 if plain else 0.5)
    front = tuple(bool(rng.random() < (0.25 if plain else 0.55)) for _ in SIGN)
    return Person(
        tuple(np.clip(skin, 0, 255)),
        tuple(np.clip(hair, 0, 255)),
        float(rng.uniform(0.15, 0.42)) if long else 0.0,
        (front[0], front[1]),
        tuple(rng.uniform(20, 200, 3)),
    )


@dataclass(frozen=True)
class Figure:
    """What is drawn together: a pose, its camera and its garments.

    Attributes:
        inner: a top or dress, or nothing.
        lower: trousers, shorts or a skirt.
        outer: outwear.
        tucked: the top goes into the lower garment.
    """

    pose: Pose
    camera: Camera
    light: Light
    person: Person
    inner: Garment | None = None
    lower: Garment | None = None
    outer: Garment | None = None
    tucked: bool = False

    def shapes(self) -> dict[int, Shape]:
        """Every garment's shape by item number."""
        garments = [g for g in (self.inner, self.lower, self.outer) if g is not None]
        return {g.item: garment_shape(g.category_id, g.cut, self.pose) for g in garments}


def draw_figure(canvas: Canvas, figure: Figure) -> None:
    """Draw a figure, back to front."""
    _Artist(canvas, figure).draw()


class _Artist:
    def __init__(self, canvas: Canvas, figure: Figure) -> None:
        self.canvas, self.figure = canvas, figure
        self.pose, self.camera, self.person = figure.pose, figure.camera, figure.person
        shapes = figure.shapes()
        self.tailors = {
            name: Tailor(canvas, figure.camera, garment, shapes[garment.item], figure.light)
            for name, garment in (
                ("inner", figure.inner),
                ("lower", figure.lower),
                ("outer", figure.outer),
            )
            if garment is not None
        }

    def draw(self) -> None:
        pose = self.pose
        behind = (0, 1) if pose.back else () if pose.far_side is None else (pose.far_side,)
        if pose.worn and not pose.back:
            self._hair_behind()
        for name in ("outer", "inner"):
            if name in self.tailors:
                self.tailors[name].lining()
        for side in behind:
            self._forearm(side)
        if pose.worn:
            self._trunk()
        order = ["inner", "lower", "outer"] if self.figure.tucked else ["lower", "inner", "outer"]
        for name in order:
            if name == "outer" and self._layered:
                self._inner_sleeves(behind)
            if name in self.tailors:
                self.tailors[name].body()
        for side in (0, 1):
            if side not in behind:
                self._forearm(side)
        if pose.worn:
            self._head()

    # -- body ---------------------------------------------------------------------------------

    def _skin(self, outline: FloatArray, colour: Colour | None = None) -> None:
        pixels = self.camera.pixels(outline)
        self.canvas.paint([pixels], colour or self.person.skin, _BODY, rounded=0.25)

    def _trunk(self) -> None:
        for side in (0, 1):
            leg = self.pose.leg(side)
            outline = _limb_outline(leg, (0.1, 0.1, 0.062, 0.036), 0.0, THIGH + SHIN)
            self._skin(outline)
            ankle = leg.at(THIGH + SHIN, 0.0)[0]
            shoe = _ellipse(np.add(ankle, (SIGN[side] * 0.02, 0.04)), 0.065, 0.045)
            self._skin(shoe, self.person.shoes)
        y = np.array([0.02, 0.05, 0.1, 0.3, 0.58, 0.86, 1.0])
        widths = np.concatenate([[0.1, 0.21, 0.22], half_width(y[3:]) * 0.96])
        outline = np.concatenate(
            [self.pose.torso(-widths, y), self.pose.torso(widths[::-1], y[::-1])]
        )
        self._skin(outline)
        neck = self.pose.torso([-0.065, 0.065, 0.085, -0.085], [-0.16, -0.16, 0.06, 0.06])
        shaded = tuple(c * 0.9 for c in self.person.skin)
        self._skin(neck, (shaded[0], shaded[1], shaded[2]))
        for side in (0, 1):
            if side != self.pose.far_side and not self.pose.back:
                self._upper_arm(side)

    def _upper_arm(self, side: int) -> None:
        """Drawn before the clothes' bodies, so that armholes lie on the shoulder."""
        arm = self.pose.arm(side)
        shoulder = arm.at([0.0, 0.0], [-0.02, 0.0])
        discs = self.camera.discs([(x, y, 0.06) for x, y in shoulder])
        self.canvas.paint([], self.person.skin, _BODY, discs=discs)
        self._skin(_limb_outline(arm, (0.06, 0.062, 0.054), 0.0, UPPER_ARM + 0.02))

    def _forearm(self, side: int) -> None:
        """The forearm, which may lie before the body, and the sleeves."""
        arm = self.pose.arm(side)
        if self.pose.worn:
            if self.pose.far_side == side or self.pose.back:
                self._upper_arm(side)
            length = UPPER_ARM + FOREARM
            self._skin(_limb_outline(arm, (0.052, 0.046, 0.034), UPPER_ARM - 0.02, length))
            self._skin(_ellipse(arm.at(length + 0.05, 0.0)[0], 0.042, 0.06))
        if self._layered and not (self.pose.back or self.pose.far_side == side):
            outer = self.tailors["outer"]
            self.tailors["inner"].sleeve_end(side, outer.cut.sleeve - 0.05)
            outer.sleeve(side)
            return
        for name in ("inner", "outer"):
            if name in self.tailors:
                self.tailors[name].sleeve(side)

    @property
    def _layered(self) -> bool:
        return "inner" in self.tailors and "outer" in self.tailors

    def _inner_sleeves(self, behind: tuple[int, ...]) -> None:
        """Sleeves under outwear: their tops lie under its fronts."""
        for side in (0, 1):
            if side not in behind:
                self.tailors["inner"].sleeve(side)

    # -- head ---------------------------------------------------------------------------------

    def _centre(self) -> FloatArray:
        turn = 0.3 * DEPTH * np.sin(self.pose.yaw)
        return np.asarray(self.pose.torso(0.0, -0.27)[0] + [turn, 0.0])

    def _hair_behind(self) -> None:
        if self.person.hair_length:
            self._locks(0.15, self.person.hair_length * 0.8)

    def _locks(self, width: float, length: float) -> None:
        x, y = self._centre()
        end = length - 0.1
        outline = np.array(
            [[x - width, y], [x + width, y], [x + width * 1.1, end], [x, end + 0.04]]
        )
        outline = np.concatenate([outline, [[x - width * 1.1, end]]])
        self._skin(outline, self.person.hair)

    def _head(self) -> None:
        centre, pose, hair = self._centre(), self.pose, self.person.hair
        self._skin(_ellipse(centre - [0.0, 0.035], 0.138, 0.165), hair)
        if pose.back:
            if self.person.hair_length:
                self._locks(0.145, self.person.hair_length)
            return
        face = np.add(centre, (0.05 * np.sin(pose.yaw), 0.015))
        self._skin(_ellipse(face, 0.112, 0.14))
        fringe = np.concatenate([_ellipse(centre - [0.0, 0.06], 0.13, 0.12, np.pi, 2 * np.pi)])
        self._skin(fringe, hair)
        self._face(face)
        for side, front in enumerate(self.person.hair_front):
            if front and self.person.hair_length:
                self._front_lock(side, centre)

    def _face(self, face: FloatArray) -> None:
        turn = 0.05 * np.sin(self.pose.yaw)
        eyes = [np.add(face, (s * 0.045 + turn, -0.005)) for s in SIGN]
        discs = self.camera.discs([(x, y, 0.013) for x, y in eyes])
        self.canvas.paint([], (40, 30, 30), _BODY, discs=discs)
        mouth = self.camera.pixels(np.add(face, [[turn - 0.03, 0.07], [turn + 0.03, 0.07]]))
        self.canvas.stroke([mouth], 0.014 * self.camera.scale, (170, 70, 70))

    def _front_lock(self, side: int, centre: FloatArray) -> None:
        x, end, sign = centre[0] + SIGN[side] * 0.12, self.person.hair_length, SIGN[side]
        outline = np.array(
            [
                [x - sign * 0.02, centre[1]],
                [x + sign * 0.035, centre[1]],
                [x + sign * 0.06, end - 0.1],
                [x, end],
                [x - sign * 0.045, end - 0.08],
            ]
        )
        self._skin(outline, self.person.hair)


def _limb_outline(limb: Limb, widths: tuple[float, ...], start: float, end: float) -> FloatArray:
    along = np.linspace(start, end, 9)
    half = np.interp(along, np.linspace(start, end, len(widths)), widths)
    return limb.outline(np.asarray(along), np.asarray(half))


def _ellipse(
    centre: FloatArray, rx: float, ry: float, start: float = 0.0, end: float = 2 * np.pi
) -> FloatArray:
    t = np.linspace(start, end, 24)
    return np.asarray(centre + np.stack([rx * np.cos(t), ry * np.sin(t)], axis=1))
