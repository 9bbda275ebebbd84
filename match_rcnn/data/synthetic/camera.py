"""From the picture plane (body units) to pixels: a similarity."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from match_rcnn.data.synthetic.curves import FloatArray


@dataclass(frozen=True)
class Camera:
    """Looks at plane point ``centre``, shows it at pixel ``target``.

    Attributes:
        scale: pixels a body unit.
        angle: rotation, radians.
    """

    scale: float
    angle: float
    centre: tuple[float, float]
    target: tuple[float, float]

    def pixels(self, points: Any) -> FloatArray:
        """(k, 2) pixels of (k, 2) plane points."""
        cos, sin = self.scale * np.cos(self.angle), self.scale * np.sin(self.angle)
        moved = np.asarray(points, dtype=float).reshape(-1, 2) - self.centre
        rotation = np.array([[cos, sin], [-sin, cos]])
        return np.asarray(moved @ rotation + self.target)

    def plane(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Plane coordinates of pixels."""
        cos, sin = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        dx = (x - np.float32(self.target[0])) / np.float32(self.scale)
        dy = (y - np.float32(self.target[1])) / np.float32(self.scale)
        return (
            dx * cos + dy * sin + np.float32(self.centre[0]),
            dy * cos - dx * sin + np.float32(self.centre[1]),
        )

    def discs(self, discs: Any) -> list[tuple[float, float, float]]:
        """Discs of the plane in pixels."""
        result = []
        for x, y, radius in discs:
            px, py = self.pixels([x, y])[0]
            result.append((float(px), float(py), radius * self.scale))
        return result
