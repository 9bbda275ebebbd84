"""Pictures of garments: box, mask, and the category's landmarks joined by its outline."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from match_rcnn.d2 import Visualizer
from match_rcnn.structures import Garment
from match_rcnn.utils.arrays import Image

#: RGB in [0, 1], one a category: hues spread so that tops, bottoms and dresses differ at a glance.
PALETTE = (
    (0.90, 0.30, 0.25),
    (0.95, 0.55, 0.15),
    (0.80, 0.20, 0.55),
    (0.60, 0.25, 0.75),
    (0.95, 0.80, 0.20),
    (0.75, 0.65, 0.15),
    (0.20, 0.70, 0.75),
    (0.15, 0.50, 0.85),
    (0.25, 0.35, 0.75),
    (0.30, 0.75, 0.35),
    (0.15, 0.55, 0.30),
    (0.60, 0.80, 0.30),
    (0.45, 0.60, 0.15),
)


class GarmentVisualizer(Visualizer):
    """The host's ``Visualizer`` with garments.

    Args:
        image: (H, W, 3) uint8 in BGR, as :func:`read_image` and OpenCV give it.
        landmark_threshold: predicted landmarks with a lower score are not drawn.
    """

    def __init__(self, image: Image, scale: float = 1.0, landmark_threshold: float = 0.05) -> None:
        super().__init__(np.ascontiguousarray(image[:, :, ::-1]), scale=scale)
        self.landmark_threshold = landmark_threshold

    def draw_garments(self, garments: Sequence[Garment]) -> Image:
        """Draw all, the largest first, and return the picture: (H, W, 3) uint8 in BGR."""
        by_area = sorted(garments, key=lambda g: -_area(g.box))
        for garment in by_area:
            self.draw_garment(garment)
        drawn: Image = np.ascontiguousarray(self.get_output().get_image()[:, :, ::-1])
        return drawn

    def draw_garment(self, garment: Garment) -> None:
        color = PALETTE[garment.category.id - 1]
        if garment.mask is not None and garment.mask.any():
            self.draw_binary_mask(garment.mask, color=color, alpha=0.35, area_threshold=0)
        self.draw_box(garment.box, alpha=0.9, edge_color=color)
        if garment.landmarks is not None:
            self._draw_outline(garment, garment.landmarks, color)
        self._draw_name(garment, color)

    def _draw_outline(
        self, garment: Garment, landmarks: npt.NDArray[np.float32], color: tuple[float, ...]
    ) -> None:
        present = landmarks[:, 2] > (0 if garment.score is None else self.landmark_threshold)
        for start, end in garment.category.edges:
            if present[start] and present[end]:
                (x0, y0), (x1, y1) = landmarks[start, :2], landmarks[end, :2]
                self.draw_line([x0, x1], [y0, y1], color=color, linewidth=self._line_width)
        for (x, y, value), shown in zip(landmarks, present, strict=True):
            if shown:
                occluded = garment.score is None and value == 1
                self.draw_circle((x, y), (0.1, 0.1, 0.1) if occluded else color, self._radius)

    def _draw_name(self, garment: Garment, color: tuple[float, ...]) -> None:
        score = "" if garment.score is None else f" {garment.score:.0%}"
        x, y = float(garment.box[0]), float(garment.box[1])
        self.draw_text(
            f"{garment.category.name}{score}", (x, y), color=color, horizontal_alignment="left"
        )

    @property
    def _radius(self) -> int:
        return max(2, round(min(self.output.width, self.output.height) / 130))

    @property
    def _line_width(self) -> float:
        return max(1.0, min(self.output.width, self.output.height) / 300)


def draw_garments(
    image: Image, garments: Sequence[Garment], landmark_threshold: float = 0.05
) -> Image:
    """A picture of ``image`` (H, W, 3, BGR) with the garments drawn in, of the same shape."""
    visualizer = GarmentVisualizer(image, landmark_threshold=landmark_threshold)
    return visualizer.draw_garments(garments)


def _area(box: npt.NDArray[np.float32]) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))
