"""Drawing predictions and annotations.

Shapes used below: ``N`` instances, an image of ``H`` x ``W`` pixels. Coordinates and colours are
those of :mod:`vis_image`.
"""

import math
from collections.abc import Sequence
from enum import Enum, unique
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch

from ..structures import BitMasks, Boxes, BoxMode, Instances, Keypoints, PolygonMasks
from .colormap import random_color
from .generic_mask import GenericMask
from .painter import OPACITY, Painter
from .vis_image import Array, Color, VisImage, to_rgb

__all__ = ["ColorMode", "GenericMask", "VisImage", "Visualizer"]

#: Boxes of fewer output pixels have their label outside.
_SMALL_AREA = 1000


@unique
class ColorMode(Enum):
    """How instances get their colours."""

    #: At random.
    IMAGE = 0
    #: By category, from the metadata's ``thing_colors``.
    SEGMENTATION = 1
    #: At random, over an image that is grey outside of the masks.
    IMAGE_BW = 2


class Visualizer(Painter):
    """Draws predictions and annotations, on top of the primitives of :class:`Painter`.

    Args:
        img_rgb: (H, W, 3) RGB, 0 to 255.
        metadata: of the data set; of use are ``thing_classes``, ``thing_colors`` (0 to 255),
            ``keypoint_names`` and ``keypoint_connection_rules`` (name, name, RGB 0 to 255).
        scale: size of the output over that of the image.
        instance_mode: how instances get their colours.
        font_size_scale: times the usual size of the letters.
    """

    def __init__(
        self,
        img_rgb: Array,
        metadata: Any = None,
        scale: float = 1.0,
        instance_mode: ColorMode = ColorMode.IMAGE,
        font_size_scale: float = 1.0,
    ) -> None:
        super().__init__(img_rgb, scale, font_size_scale)
        self.metadata = SimpleNamespace() if metadata is None else metadata
        self._instance_mode = instance_mode
        #: Keypoints are drawn from this score or visibility on.
        self.keypoint_threshold = 0.05

    def draw_instance_predictions(self, predictions: Instances, jittering: bool = True) -> VisImage:
        """Draw what a model found.

        Args:
            predictions: with any of pred_boxes, pred_classes, scores, pred_masks,
                pred_keypoints.
            jittering: vary the categories' colours, in the mode SEGMENTATION.
        """
        fields = predictions.to("cpu").get_fields()
        classes = fields["pred_classes"].tolist() if "pred_classes" in fields else None
        scores = fields["scores"].tolist() if "scores" in fields else None
        masks = self._masks(fields.get("pred_masks"))
        colors = self._class_colors(classes, jittering)
        opacity = 0.8 if colors is not None else OPACITY
        if self._instance_mode == ColorMode.IMAGE_BW:
            self.output.reset_image(self._grey_outside(masks))
            opacity = 0.3
        return self.overlay_instances(
            boxes=fields.get("pred_boxes"),
            labels=self._labels(classes, scores),
            masks=masks,
            keypoints=fields.get("pred_keypoints"),
            assigned_colors=colors,
            alpha=opacity,
        )

    def draw_dataset_dict(self, dic: dict[str, Any]) -> VisImage:
        """Draw the annotations of one image of a data set.

        Keypoints may be of a different number in each instance.
        """
        annos = dic.get("annotations") or []
        classes = _column(annos, "category_id")
        boxes, modes = _column(annos, "bbox"), _column(annos, "bbox_mode")
        if boxes is not None and modes is not None:
            boxes = [
                BoxMode.convert(list(map(float, box)), mode, BoxMode.XYXY_ABS)
                for box, mode in zip(boxes, modes, strict=True)
            ]
        keypoints = _column(annos, "keypoints", ())
        if keypoints is not None:
            keypoints = [np.asarray(k, dtype=np.float64).reshape(-1, 3) for k in keypoints]
        return self.overlay_instances(
            boxes=boxes,
            labels=self._labels(classes, None, _column(annos, "iscrowd", 0)),
            masks=_column(annos, "segmentation", []),
            keypoints=keypoints,
            assigned_colors=self._class_colors(classes, True),
        )

    def overlay_instances(
        self,
        *,
        boxes: Any = None,
        labels: Sequence[str] | None = None,
        masks: Any = None,
        keypoints: Any = None,
        assigned_colors: Sequence[Color] | None = None,
        alpha: float = OPACITY,
    ) -> VisImage:
        """Draw N instances, the large ones first.

        Args:
            boxes: Boxes, or (N, 4) x0, y0, x1, y1.
            labels: a text each.
            masks: BitMasks, PolygonMasks, (N, H, W), or a list with one of bitmap, list of
                polygons, COCO run-lengths or GenericMask each.
            keypoints: Keypoints, (N, K, 3), or a list of (k, 3): x, y, and a score or
                visibility.
            assigned_colors: a colour each; at random if None.
            alpha: opacity of the masks.

        Raises:
            ValueError: not as many of the one as of the other.
        """
        corners = self._convert_boxes(boxes)
        shapes = self._masks(masks)
        points = self._convert_keypoints(keypoints)
        count = _common_length(corners, shapes, points, labels)
        colors = assigned_colors or [random_color(rgb=True, maximum=1) for _ in range(count)]
        extents = corners
        if extents is None and shapes is not None:
            extents = np.array([s.bbox() for s in shapes]).reshape(-1, 4)
        for i in range(count) if extents is None else _large_first(extents):
            if corners is not None:
                self.draw_box(corners[i], edge_color=colors[i])
            if shapes is not None:
                self._draw_mask(shapes[i], colors[i], alpha)
            if labels is not None and extents is not None:
                self._draw_label(labels[i], extents[i], colors[i], corners is None)
        for instance in [] if points is None else points:
            self.draw_and_connect_keypoints(instance)
        return self.output

    def draw_and_connect_keypoints(self, keypoints: Any) -> VisImage:
        """Draw the keypoints of an instance, (K, 3) x, y, score, and join those that the
        metadata's ``keypoint_connection_rules`` name."""
        names = getattr(self.metadata, "keypoint_names", None)
        visible = {}
        for i, (x, y, score) in enumerate(np.asarray(keypoints).tolist()):
            if score > self.keypoint_threshold:
                self.draw_circle((x, y), color=(1.0, 0.0, 0.0))
                if names and i < len(names):
                    visible[names[i]] = (x, y)
        rules = getattr(self.metadata, "keypoint_connection_rules", None) or []
        for start, end, color in rules:
            if start in visible and end in visible:
                (x0, y0), (x1, y1) = visible[start], visible[end]
                self.draw_line([x0, x1], [y0, y1], color=tuple(c / 255 for c in color))
        return self.output

    def _draw_mask(self, shape: GenericMask, color: Color, alpha: float) -> None:
        if shape.has_holes:
            self.draw_binary_mask(shape.mask, color, alpha=alpha, area_threshold=0)
            return
        for polygon in shape.polygons:
            self.draw_polygon(polygon, color, alpha=alpha)

    def _draw_label(self, text: str, box: Array, color: Color, centered: bool) -> None:
        """At the upper left corner of a box, at a small one's outside; or in its middle."""
        x0, y0, x1, y1 = box.tolist()
        height, scale = self.output.height, self.output.scale
        position, alignment = (x0, y0), "left"
        if centered:
            position, alignment = ((x0 + x1) / 2, (y0 + y1) / 2), "center"
        elif (x1 - x0) * (y1 - y0) < _SMALL_AREA * scale or y1 - y0 < 40 * scale:
            position = (x1, y0) if y1 >= height - 5 else (x0, y1)
        share = (y1 - y0) / math.sqrt(height * self.output.width)
        size = float(np.clip((share - 0.02) / 0.08 + 1, 1.2, 2)) * 0.5 * self._default_font_size
        self.draw_text(
            text,
            position,
            font_size=size,
            color=self._change_color_brightness(color, 0.7),
            horizontal_alignment=alignment,
        )

    def _class_colors(
        self, classes: Sequence[int] | None, jittering: bool
    ) -> list[tuple[float, float, float]] | None:
        table = getattr(self.metadata, "thing_colors", None)
        if self._instance_mode != ColorMode.SEGMENTATION or classes is None or table is None:
            return None
        colors = [to_rgb([v / 255 for v in table[c]]) for c in classes]
        return [self._jitter(c) for c in colors] if jittering else colors

    def _labels(
        self,
        classes: Sequence[int] | None,
        scores: Sequence[float] | None,
        crowd: Sequence[int] | None = None,
    ) -> list[str] | None:
        """Such as "skirt 95%" or "skirt|crowd"; None without classes and scores."""
        names = getattr(self.metadata, "thing_classes", None)
        columns: list[list[str]] = []
        if classes is not None:
            columns.append([names[c] if names else str(c) for c in classes])
        if scores is not None:
            columns.append([f"{score * 100:.0f}%" for score in scores])
        if not columns:
            return None
        labels = [" ".join(parts) for parts in zip(*columns, strict=True)]
        flags = crowd if crowd is not None else [0] * len(labels)
        return [label + "|crowd" * bool(f) for label, f in zip(labels, flags, strict=True)]

    def _grey_outside(self, masks: Sequence[GenericMask] | None) -> Array:
        grey = cv2.cvtColor(cv2.cvtColor(self.img, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        for shape in masks or ():
            inside = shape.mask > 0
            grey[inside] = self.img[inside]
        return np.asarray(grey)

    def _jitter(self, color: Color) -> tuple[float, float, float]:
        """A colour near by, at random."""
        step = np.random.random(3)  # noqa: NPY002
        step = step / np.linalg.norm(step) * 0.5 * np.random.choice([-1, 1], 3)  # noqa: NPY002
        return to_rgb(np.clip(np.array(to_rgb(color)) + step, 0, 1))

    def _convert_boxes(self, boxes: Any) -> Array | None:
        if boxes is None:
            return None
        boxes = boxes.tensor if isinstance(boxes, Boxes) else boxes
        return _numpy(boxes).astype(np.float64).reshape(-1, 4)

    def _convert_keypoints(self, keypoints: Any) -> list[Array] | None:
        if keypoints is None:
            return None
        keypoints = keypoints.tensor if isinstance(keypoints, Keypoints) else keypoints
        return [_numpy(k) for k in keypoints]

    def _masks(self, masks: Any) -> list[GenericMask] | None:
        if masks is None:
            return None
        if isinstance(masks, BitMasks):
            masks = masks.tensor
        if isinstance(masks, PolygonMasks):
            masks = masks.polygons
        height, width = self.output.height, self.output.width
        return [
            m
            if isinstance(m, GenericMask)
            else GenericMask(m if isinstance(m, (dict, list)) else _numpy(m), height, width)
            for m in masks
        ]


def _column(annos: Sequence[dict[str, Any]], key: str, default: Any = None) -> list[Any] | None:
    """A key's values in all annotations; None if none of them has it."""
    return [a.get(key, default) for a in annos] if any(key in a for a in annos) else None


def _common_length(*columns: Any) -> int:
    lengths = {len(column) for column in columns if column is not None}
    if len(lengths) > 1:
        raise ValueError(f"expected as many boxes, masks, ... as labels, got {sorted(lengths)}")
    return lengths.pop() if lengths else 0


def _numpy(value: Any) -> Array:
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def _large_first(boxes: Array) -> list[int]:
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return [int(i) for i in np.argsort(-areas, kind="stable")]
