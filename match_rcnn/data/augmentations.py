"""Augmentations beyond the host's resizing and flipping: large-scale jitter, rotation, colours.

Each is an augmentation of the host, switched on by a config key (``INPUT.LARGE_SCALE_JITTER``,
``INPUT.ROTATION``, ``INPUT.COLOR_JITTER``), and moves boxes, polygons, masks and landmarks with the
image. All chance comes from numpy's global generator.

Shapes: an image is ``(H, W, C)`` uint8, points are ``(N, 2)`` x and y in pixels; the centre of the
first pixel is at (0.5, 0.5).
"""

from typing import Any

import cv2
import numpy as np
import pycocotools.mask as mask_util
import torch
from torchvision.transforms.v2 import functional as colour

from match_rcnn.d2 import BoxMode, CfgNode, T, detection_utils
from match_rcnn.utils.arrays import Array

Size = tuple[int, int]


def build_augmentations(cfg: CfgNode, is_train: bool) -> list[Any]:
    """What the config asks for: the host's resizing and flipping, and for training ours.

    Raises:
        ValueError: a key has a value without meaning.
    """
    augmentations: list[Any] = detection_utils.build_augmentation(cfg, is_train)
    if not is_train:
        return augmentations
    pad = [round(value) for value in cfg.MODEL.PIXEL_MEAN]
    jitter = cfg.INPUT.LARGE_SCALE_JITTER
    if jitter.ENABLED:
        # In the place of the host's resizing, which comes first.
        scales = (jitter.MIN_SCALE, jitter.MAX_SCALE)
        augmentations[0] = LargeScaleJitter(scales, tuple(jitter.SIZE), pad)
    if cfg.INPUT.ROTATION:
        augmentations.append(RandomRotation(cfg.INPUT.ROTATION, pad))
    colors = build_color_jitter(cfg)
    return augmentations if colors is None else [*augmentations, colors]


def build_color_jitter(cfg: CfgNode) -> "ColorJitter | None":
    """``INPUT.COLOR_JITTER``; None where it changes nothing."""
    node = cfg.INPUT.COLOR_JITTER
    if not any((node.BRIGHTNESS, node.CONTRAST, node.SATURATION, node.HUE)):
        return None
    return ColorJitter(
        brightness=node.BRIGHTNESS,
        contrast=node.CONTRAST,
        saturation=node.SATURATION,
        hue=node.HUE,
        is_bgr=cfg.INPUT.FORMAT == "BGR",
    )


def outlines_are_cut(cfg: CfgNode) -> bool:
    """Whether training images are cropped or rotated, so that boxes have to be fitted to what is
    left of the garments (:func:`fit_box`)."""
    return bool(cfg.INPUT.LARGE_SCALE_JITTER.ENABLED or cfg.INPUT.ROTATION)


def fit_box(annotation: dict[str, Any], image_size: Size) -> None:
    """Draw a moved item's box in to what there is of its mask and landmarks, in place.

    The box of a rotated box, or of a cropped one, is wider than the garment in it. An item without
    a mask keeps the box that it has.

    Args:
        annotation: as the host's ``transform_instance_annotations`` leaves it: ``bbox`` (4,) x1,
            y1, x2, y2, and possibly ``segmentation`` (polygons, an RLE, or a bitmap) and
            ``keypoints`` (n, 3).
        image_size: H, W of the moved image.
    """
    points = _mask_corners(annotation.get("segmentation"), image_size)
    if points is None:
        return
    landmarks = np.asarray(annotation.get("keypoints", np.zeros((0, 3)))).reshape(-1, 3)
    points = np.concatenate([points, landmarks[landmarks[:, 2] > 0, :2]])
    box = np.asarray(annotation["bbox"], dtype=np.float64)
    if len(points) == 0:
        box = np.zeros(4)  # nothing is left; the host drops boxes without area
    else:
        low, high = points.min(0), points.max(0)
        box = np.concatenate([np.maximum(box[:2], low), np.minimum(box[2:], high)])
    annotation["bbox"], annotation["bbox_mode"] = box, BoxMode.XYXY_ABS


def _mask_corners(segmentation: Any, image_size: Size) -> Array | None:
    """(N, 2) points whose bounds are the mask's; None where there is no mask."""
    if segmentation is None or (isinstance(segmentation, list) and not segmentation):
        return None
    if isinstance(segmentation, list):
        height, width = image_size
        polygons = [np.asarray(p, dtype=np.float64).reshape(-1, 2) for p in segmentation]
        return np.concatenate([clip_polygon(p, width, height) for p in polygons])
    if isinstance(segmentation, dict):
        segmentation = mask_util.decode(segmentation)
    rows, columns = np.nonzero(segmentation)
    corners = np.stack([columns, rows], axis=1).astype(np.float64)
    return np.concatenate([corners, corners + 1])


def clip_polygon(polygon: Array, width: float, height: float) -> Array:
    """(N, 2) -> (M, 2): what of a polygon lies in the rectangle from 0, 0 to ``width``, ``height``.

    One side of the rectangle after the other (Sutherland and Hodgman, 1974); the parts of a polygon
    that falls apart stay joined along the side.
    """
    for axis, sign, bound in ((0, 1, 0.0), (0, -1, -width), (1, 1, 0.0), (1, -1, -height)):
        if len(polygon) == 0:
            break
        polygon = _clip_side(polygon, axis, sign, bound)
    return polygon


def _clip_side(polygon: Array, axis: int, sign: int, bound: float) -> Array:
    """The part with ``sign * coordinate >= bound``."""
    depth = sign * polygon[:, axis] - bound
    following, next_depth = np.roll(polygon, -1, axis=0), np.roll(depth, -1)
    crosses = (depth >= 0) != (next_depth >= 0)
    gap = np.where(crosses, depth - next_depth, 1)
    cuts = polygon + (depth / gap)[:, None] * (following - polygon)
    cuts[:, axis] = sign * bound
    both = np.stack([polygon, cuts], axis=1).reshape(-1, 2)
    return both[np.stack([depth >= 0, crosses], axis=1).ravel()]


def _clip_all(polygons: list[Array], size: Size) -> list[Array]:
    """Without those of which no area is left."""
    clipped = [clip_polygon(polygon, size[1], size[0]) for polygon in polygons]
    return [polygon for polygon in clipped if len(polygon) >= 3]


class FrameTransform(T.Transform):  # type: ignore[misc]
    """Cut a frame out of an image; what lies beyond the image is filled.

    Args:
        x, y: of the frame's corner in the image, pixels.
        size: H, W of the frame.
        pad: a value a channel.
    """

    def __init__(self, x: int, y: int, size: Size, pad: list[int]) -> None:
        super().__init__()
        self.x, self.y, self.size, self.pad = x, y, size, pad

    def apply_image(self, img: Array) -> Array:
        return self._cut(img, np.asarray(self.pad, img.dtype))

    def apply_segmentation(self, segmentation: Array) -> Array:
        return self._cut(segmentation, np.zeros((), segmentation.dtype))

    def _cut(self, image: Array, pad: Array) -> Array:
        frame = np.empty((*self.size, *image.shape[2:]), image.dtype)
        frame[...] = pad
        part = image[self.y : self.y + self.size[0], self.x : self.x + self.size[1]]
        frame[: part.shape[0], : part.shape[1]] = part
        return frame

    def apply_coords(self, coords: Array) -> Array:
        return coords - np.array([self.x, self.y])

    def apply_polygons(self, polygons: list[Array]) -> list[Array]:
        return _clip_all([self.apply_coords(polygon) for polygon in polygons], self.size)


class RotationTransform(T.Transform):  # type: ignore[misc]
    """Turn an image about its centre, in a frame of the same size.

    Args:
        size: H, W.
        angle: degrees, counter-clockwise as the image is seen.
        pad: a value a channel, for what comes in at the corners.
    """

    def __init__(self, size: Size, angle: float, pad: list[int]) -> None:
        super().__init__()
        self.size, self.angle, self.pad = size, angle, pad
        self.centre = np.array([size[1], size[0]]) / 2
        cosine, sine = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
        # y points down.
        self.matrix = np.array([[cosine, sine], [-sine, cosine]])

    def apply_image(self, img: Array) -> Array:
        return self._warp(img, cv2.INTER_LINEAR, self.pad)

    def apply_segmentation(self, segmentation: Array) -> Array:
        kind = segmentation.dtype
        turned = self._warp(segmentation.astype(np.uint8), cv2.INTER_NEAREST, [0])
        return turned.astype(kind)

    def _warp(self, image: Array, interpolation: int, pad: list[int]) -> Array:
        # OpenCV counts from the centre of the first pixel.
        first = self.apply_coords(np.array([[0.5, 0.5]]))[0] - 0.5
        affine = np.column_stack([self.matrix, first])
        height, width = self.size
        return cv2.warpAffine(
            image,
            affine,
            (width, height),
            flags=interpolation,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=pad,
        )

    def apply_coords(self, coords: Array) -> Array:
        return (np.asarray(coords, np.float64) - self.centre) @ self.matrix.T + self.centre

    def apply_polygons(self, polygons: list[Array]) -> list[Array]:
        return _clip_all([self.apply_coords(polygon) for polygon in polygons], self.size)


class ColorTransform(T.Transform):  # type: ignore[misc]
    """Factors on brightness, contrast and saturation, and a turn of the hue; no point moves.

    Args:
        factors: of brightness, contrast and saturation; 1 changes nothing.
        hue: a part of the colour circle, -0.5 to 0.5.
        is_bgr: the order of the channels.
    """

    def __init__(self, factors: tuple[float, float, float], hue: float, is_bgr: bool) -> None:
        super().__init__()
        self.factors, self.hue, self.is_bgr = factors, hue, is_bgr

    def apply_image(self, img: Array) -> Array:
        step = -1 if self.is_bgr else 1
        image = torch.from_numpy(np.ascontiguousarray(img[..., ::step].transpose(2, 0, 1)))
        brightness, contrast, saturation = self.factors
        image = colour.adjust_brightness(image, brightness)
        image = colour.adjust_contrast(image, contrast)
        image = colour.adjust_saturation(image, saturation)
        if self.hue:
            image = colour.adjust_hue(image, self.hue)
        return np.ascontiguousarray(image.numpy().transpose(1, 2, 0)[..., ::step])

    def apply_coords(self, coords: Array) -> Array:
        return coords

    def apply_segmentation(self, segmentation: Array) -> Array:
        return segmentation


class LargeScaleJitter(T.Augmentation):  # type: ignore[misc]
    """Resize by a factor from a wide range, then crop or pad to a fixed frame (Ghiasi et al.,
    Simple Copy-Paste, CVPR 2021).

    Args:
        scales: the least and the largest factor; with 1 the image just fits into the frame.
        size: H, W of the frame, pixels.
        pad: a value a channel.

    Raises:
        ValueError: the range is empty or not above 0, or the size is not.
    """

    def __init__(self, scales: tuple[float, float], size: Size, pad: list[int]) -> None:
        super().__init__()
        if not 0 < scales[0] <= scales[1] or min(size) < 1:
            raise ValueError(
                "INPUT.LARGE_SCALE_JITTER needs 0 < MIN_SCALE <= MAX_SCALE and SIZE >= 1, got "
                f"{scales[0]}, {scales[1]} and {size}"
            )
        self.scales, self.size, self.pad = scales, size, pad

    def get_transform(self, image: Array) -> Any:
        height, width = image.shape[:2]
        fit = min(self.size[0] / height, self.size[1] / width)
        factor = np.random.uniform(*self.scales) * fit  # noqa: NPY002
        new = [max(1, round(side * factor)) for side in (height, width)]
        y, x = (
            np.random.randint(max(side - room, 0) + 1)  # noqa: NPY002
            for side, room in zip(new, self.size, strict=True)
        )
        frame = FrameTransform(x, y, self.size, self.pad)
        return T.TransformList([T.ResizeTransform(height, width, *new), frame])


class RandomRotation(T.Augmentation):  # type: ignore[misc]
    """Turn by an angle from -``degrees`` to ``degrees``.

    Raises:
        ValueError: ``degrees`` is not between 0 and 180.
    """

    def __init__(self, degrees: float, pad: list[int]) -> None:
        super().__init__()
        if not 0 <= degrees <= 180:
            raise ValueError(f"INPUT.ROTATION must lie between 0 and 180 degrees, got {degrees}")
        self.degrees, self.pad = degrees, pad

    def get_transform(self, image: Array) -> Any:
        angle = np.random.uniform(-self.degrees, self.degrees)  # noqa: NPY002
        return RotationTransform((image.shape[0], image.shape[1]), angle, self.pad)


class ColorJitter(T.Augmentation):  # type: ignore[misc]
    """Change brightness, contrast, saturation by factors from 1 - x to 1 + x, hue by -x to x.

    Raises:
        ValueError: a range reaches below a factor of 0, or over more than the colour circle.
    """

    def __init__(
        self, *, brightness: float, contrast: float, saturation: float, hue: float, is_bgr: bool
    ) -> None:
        super().__init__()
        self.ranges = (brightness, contrast, saturation)
        if not all(0 <= x <= 1 for x in self.ranges) or not 0 <= hue <= 0.5:
            raise ValueError(
                "INPUT.COLOR_JITTER needs BRIGHTNESS, CONTRAST and SATURATION from 0 to 1 and HUE "
                f"from 0 to 0.5, got {brightness}, {contrast}, {saturation} and {hue}"
            )
        self.hue, self.is_bgr = hue, is_bgr

    def get_transform(self, image: Array) -> Any:
        brightness, contrast, saturation = (
            np.random.uniform(1 - x, 1 + x)  # noqa: NPY002
            for x in self.ranges
        )
        hue = np.random.uniform(-self.hue, self.hue)  # noqa: NPY002
        return ColorTransform((brightness, contrast, saturation), hue, self.is_bgr)
