"""Draws one garment: its parts with cloth, folds and details, in the order the figure asks for."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from match_rcnn.data.synthetic.camera import Camera
from match_rcnn.data.synthetic.canvas import Canvas, Layer
from match_rcnn.data.synthetic.curves import FloatArray, smooth_closed
from match_rcnn.data.synthetic.cuts import LOWERS, Cut
from match_rcnn.data.synthetic.looks import Look
from match_rcnn.data.synthetic.rigs import RIGS
from match_rcnn.data.synthetic.shapes import FRONT, Part, Shape

_LINING = 0.55


@dataclass(frozen=True)
class Garment:
    """A garment in a picture.

    Attributes:
        item: its number in the picture, from 0.
        category_id: 1 to 13.
        cut, look: what it is.
        style: the annotation's ``style``; 0 takes part in no pair.
    """

    item: int
    category_id: int
    cut: Cut
    look: Look
    style: int


@dataclass(frozen=True)
class Light:
    """Shading of one figure: light from the side, and where the folds fall."""

    side: float
    folds: tuple[float, ...]


def random_light(rng: np.random.Generator) -> Light:
    """Light and folds."""
    folds = (*rng.uniform(8, 22, 2), *rng.uniform(-14, 14, 2), *rng.uniform(0, 6.3, 2))
    return Light(float(rng.normal(0, 0.25)), tuple(float(f) for f in folds))


class Tailor:
    """Draws the parts of ``garment`` in ``shape`` on ``canvas``."""

    def __init__(
        self, canvas: Canvas, camera: Camera, garment: Garment, shape: Shape, light: Light
    ) -> None:
        self.canvas, self.camera, self.light = canvas, camera, light
        self.garment, self.shape = garment, shape
        self.cut, self.look = garment.cut, garment.look
        self.soft = 1.0 / camera.scale
        self.ink = np.array(self.look.colours[0]) * (1 - self.look.outline)

    # -- parts --------------------------------------------------------------------------------

    def lining(self) -> None:
        """The inside of the garment, behind the body."""
        part = self.shape.parts.get("back")
        if part is not None:
            colour = np.array(self.look.colours[0]) * _LINING
            self._fill(part, colour, 0.0)

    def body(self) -> None:
        """Everything but lining and sleeves: torso or fronts, legs, straps, details."""
        self._straps()
        for name in ("torso", "front0", "front1", "leg0", "leg1"):
            if name in self.shape.parts:
                self._cloth(self.shape.parts[name])
        if self.garment.category_id in LOWERS:
            self._waistband()
        else:
            self._details()

    def sleeve(self, side: int) -> None:
        """The sleeve at ``side``, where there is one."""
        part = self.shape.parts.get(f"sleeve{side}")
        if part is not None:
            self._cloth(part)

    def sleeve_end(self, side: int, start: float) -> None:
        """What looks out of an outer sleeve that ends at ``start`` along the arm."""
        part = self.shape.parts.get(f"sleeve{side}")
        end = self.cut.sleeve
        if part is None or start >= end:
            return
        along = np.linspace(start, end, 6)
        half = self.cut.sleeve_width + (self.cut.cuff - self.cut.sleeve_width) * along / end
        outline = self.shape.pose.arm(side).outline(np.asarray(along), np.asarray(half))
        self._cloth(Part(part.name, outline, np.zeros(len(outline), bool), part.landmarks))

    def _cloth(self, part: Part) -> None:
        self._fill(part, lambda x, y: self._colours(part.name, x, y), 0.3)

    def _fill(self, part: Part, colour: Any, rounded: float) -> None:
        outline = self.camera.pixels(part.outline())
        layer = Layer(self.garment.item, part.name)
        discs = self.camera.discs(part.discs)
        self.canvas.paint([outline], colour, layer, discs=discs, rounded=rounded)
        width = max(0.8, 0.008 * self.camera.scale)
        self.canvas.stroke([outline], width, self.ink, closed=True, opacity=0.6)

    def _straps(self) -> None:
        layer = Layer(self.garment.item, "strap")
        colour = np.array(self.look.colours[0]) * 0.9
        for strap in self.shape.straps:
            line = self.camera.pixels(np.stack([strap.start, strap.end]))
            width = max(1.5, 2 * strap.half_width * self.camera.scale)
            self.canvas.stroke([line], width, colour, layer)

    # -- cloth --------------------------------------------------------------------------------

    def _frame(self, name: str, x: Any, y: Any) -> tuple[Any, Any]:
        pose = self.shape.pose
        plane = self.camera.plane(x, y)
        if name.startswith("sleeve"):
            u, v = pose.arm(int(name[-1])).coordinates(*plane)
        elif name.startswith("leg"):
            u, v = pose.leg(int(name[-1])).coordinates(*plane)
        else:
            u, v = pose.coordinates(*plane, self.shape.loose)
        return np.asarray(u, np.float32), np.asarray(v, np.float32)

    def _colours(self, name: str, x: Any, y: Any) -> Any:
        u, v = self._frame(name, x, y)
        torso = name == "torso"
        colour = self.look.paint(u, v, self.soft, torso)
        second = np.array(self.look.colours[1], np.float32)
        for mask in self._trims(name, u, v):
            colour += np.clip(mask / self.soft + 0.5, 0, 1)[..., None] * (second - colour)
        return colour * self._shading(u, v)[..., None]

    def _trims(self, name: str, u: Any, v: Any) -> list[Any]:
        """Signed distances into hem bands and side stripes."""
        trims = []
        if self.look.band:
            end = self.cut.sleeve if name.startswith("sleeve") else self.cut.hem
            trims.append(v - np.float32(end - self.look.band))
        if self.look.side_stripe and name[:-1] in ("sleeve", "leg"):
            centre = 0.03 if name.startswith("sleeve") else 0.06
            trims.append(self.look.side_stripe / 2 - np.abs(u - np.float32(centre)))
        return [np.asarray(trim, np.float32) for trim in trims]

    def _shading(self, u: Any, v: Any) -> Any:
        a, b, c, d, e, f = (np.float32(x) for x in self.light.folds)
        folds = np.sin(a * u + c * v + e) + np.sin(b * v + d * u + f)
        side = np.float32(self.light.side) * np.clip(u, -0.4, 0.4)
        return np.clip(1 + np.float32(self.look.fold) * folds + side, 0.4, 1.4)

    # -- details ------------------------------------------------------------------------------

    def _on_torso(self, x: Any, y: Any) -> FloatArray:
        plane = self.shape.pose.torso(x, y, FRONT, self.shape.loose)
        return self.camera.pixels(plane)

    def _waistband(self) -> None:
        left, middle, right = (self.shape.landmarks[i] for i in (0, 1, 2))
        line = self.camera.pixels(np.add([left, middle, right], (0.0, 0.018)))
        colour = np.array(self.look.colours[1 if self.look.belt else 0]) * 0.85
        self.canvas.stroke([line], 0.03 * self.camera.scale, colour)
        if not self.shape.pose.back and self.garment.category_id != 9:
            fly = self.shape.landmarks[1] + [[0.0, 0.03], [0.0, 0.16]]
            self.canvas.stroke([self.camera.pixels(fly)], self._thin, self.ink, opacity=0.7)

    @property
    def _thin(self) -> float:
        return max(0.8, 0.008 * self.camera.scale)

    def _details(self) -> None:
        look = self.look
        for points in self.shape.collars if look.collar is not None else ():
            edge = smooth_closed(points, np.ones(len(points), bool))[: 6 * (len(points) - 1)]
            line = self.camera.pixels(np.concatenate([edge, points[-1:]]))
            self.canvas.stroke([line], 0.03 * self.camera.scale, look.collar)
        if look.belt:
            self._belt()
        for side in (0, 1):
            self._front_edge(side)
        if not self.shape.pose.back:
            self._buttons()
            for side in (-1, 1):
                if look.pocket in (side, 2):
                    self._pocket(side)

    def _front_edge(self, side: int) -> None:
        """The facing along an open front."""
        if f"front{side}" not in self.shape.parts:
            return
        front = RIGS[self.garment.category_id].front
        if side:
            front = tuple(RIGS[self.garment.category_id].mirror(index) for index in front)
        line = self.camera.pixels(self.shape.landmarks[list(front)])
        self.canvas.stroke([line], 0.018 * self.camera.scale, self.ink, opacity=0.8)

    def _belt(self) -> None:
        x = np.linspace(-1, 1, 5) * 0.16 * self.cut.ease
        line = self._on_torso(x, np.full(5, 0.6))
        self.canvas.stroke([line], 0.035 * self.camera.scale, np.array(self.look.colours[1]) * 0.9)

    def _buttons(self) -> None:
        count = self.look.buttons
        if not count:
            return
        x = self.cut.opening[0] + 0.03 if "front0" in self.shape.parts else 0.0
        end = min(self.cut.hem - 0.06, 0.95)
        y = np.linspace(self.cut.neck_depth + 0.06, end, count)
        centres = self._on_torso(np.full(count, x), y)
        radius = max(0.9, 0.013 * self.camera.scale)
        discs = [(float(px), float(py), radius) for px, py in centres]
        if x == 0.0:
            line = self._on_torso(np.zeros(2), np.array([self.cut.neck_depth, self.cut.hem]))
            self.canvas.stroke([line], self._thin, self.ink, opacity=0.7)
        self.canvas.paint([], self.look.colours[2], discs=discs)

    def _pocket(self, side: int) -> None:
        low = "front0" in self.shape.parts
        y, width = (0.66, 0.055) if low else (0.34, 0.045)
        if self.cut.hem < y + 0.15:
            return
        x = side * (0.15 * self.cut.ease if low else 0.105)
        corners = np.array([[-1, 0], [1, 0], [1, 1.1], [0, 1.35], [-1, 1.1]]) * width
        outline = self._on_torso(corners[:, 0] + x, corners[:, 1] + y)
        colour = np.array(self.look.colours[1])
        self.canvas.paint([outline], colour, opacity=0.35)
        self.canvas.stroke([outline], self._thin, self.ink, closed=True, opacity=0.9)
