"""Made-up ground truth and predictions for the evaluation benchmark, held as the evaluator does.

Shapes: ``I`` images, ``N`` boxes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils

from match_rcnn.data.coco_labels import LandmarkColumns
from match_rcnn.data.sources.deepfashion2 import SOURCES
from match_rcnn.data.synthetic.templates import TEMPLATES
from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.evaluation.coco.arrays import GroundTruth
from match_rcnn.evaluation.coco.predictions import ImagePredictions
from match_rcnn.evaluation.coco.subsets import LEVELS
from match_rcnn.utils.arrays import FloatArray, IntArray

_SIZES = ((640, 480), (800, 600), (1000, 750))  # height, width
_VARIANTS = 6  # masks of an item and of the background that detections share
_LANDMARK_DETECTIONS = 20
_ITEM_COLUMNS = ("ids", "image", "category", "boxes", "areas", "crowd", "num_keypoints")


@dataclass(frozen=True)
class World:
    """Made-up ground truth and predictions of ``I`` images; image ids are 1 to I."""

    truth: GroundTruth
    predictions: list[ImagePredictions]

    def first(self, images: int) -> "World":
        """The same, of the first images only."""
        truth, kept = self.truth, np.flatnonzero(self.truth.image < images)
        assert truth.masks is not None
        assert truth.landmarks is not None
        assert truth.sources is not None
        part = GroundTruth(
            name=truth.name,
            image_ids=truth.image_ids[:images],
            image_sizes=truth.image_sizes[:images],
            sources=truth.sources[:images],
            category_ids=truth.category_ids,
            category_names=truth.category_names,
            attributes={name: levels[kept] for name, levels in truth.attributes.items()},
            landmarks=truth.landmarks.take(kept),
            masks=tuple(truth.masks[i] for i in kept),
            **{key: getattr(truth, key)[kept] for key in _ITEM_COLUMNS},
        )
        return World(part, self.predictions[:images])


def make_world(images: int, items: float, detections: tuple[int, int], seed: int = 0) -> World:
    """Args: items: on average, at least one; detections: fewest and most of an image."""
    rng = np.random.default_rng(seed)
    counts = 1 + rng.poisson(items - 1, images)
    sizes: IntArray = np.array(_SIZES)[np.arange(images) % len(_SIZES)]
    image = np.repeat(np.arange(images), counts)
    category = rng.integers(DEEPFASHION2.num_categories, size=len(image))
    boxes = _random_boxes(rng, sizes[image])
    masks = [_masks(rng, box, size) for box, size in zip(boxes, sizes[image], strict=True)]
    truth = _truth(rng, sizes, image, category, boxes, [group[0] for group in masks])
    shared = [_masks(rng, _random_boxes(rng, np.array([s]))[0], s) for s in np.array(_SIZES)]
    first = np.append(0, np.cumsum(counts))
    predictions = []
    for index in range(images):
        own = slice(first[index], first[index + 1])
        groups = [*masks[own], shared[index % len(_SIZES)]]
        number = int(rng.integers(detections[0], detections[1] + 1))
        predictions.append(
            _predict(rng, index, sizes[index], boxes[own], category[own], groups, number)
        )
    return World(truth, predictions)


def _truth(
    rng: np.random.Generator,
    sizes: IntArray,
    image: IntArray,
    category: IntArray,
    boxes: FloatArray,
    masks: list[bytes],
) -> GroundTruth:
    order = np.lexsort((image, category))
    landmarks = [_landmarks(rng, box, k) for box, k in zip(boxes, category, strict=True)]
    columns = LandmarkColumns(DEEPFASHION2)
    members = [(c, np.flatnonzero(category[order] == c.id - 1)) for c in DEEPFASHION2.categories]
    tables = [(c.id, own, [landmarks[i] for i in order[own]]) for c, own in members]
    columns.add(len(order), [(c, own, np.array(points)) for c, own, points in tables])
    return GroundTruth(
        name="made up",
        image_ids=np.arange(len(sizes)) + 1,
        image_sizes=sizes,
        sources=np.array(SOURCES)[rng.integers(2, size=len(sizes))],
        category_ids=np.arange(DEEPFASHION2.num_categories) + 1,
        category_names=tuple(c.coco_name for c in DEEPFASHION2.categories),
        ids=order + 1,
        image=image[order],
        category=category[order],
        boxes=boxes[order],
        areas=boxes[order, 2:].prod(1),
        crowd=np.zeros(len(order), dtype=bool),
        num_keypoints=np.array([(landmarks[i][:, 2] > 0).sum() for i in order]),
        attributes={name: rng.integers(1, 4, len(order)) for name in LEVELS},
        landmarks=columns.build(),
        masks=tuple(masks[i] for i in order),
    )


def _random_boxes(rng: np.random.Generator, sizes: IntArray) -> FloatArray:
    """(N, 4) x, y, width, height of garments in images of (N, 2) height, width."""
    span = rng.uniform([0.3, 0.35], [0.6, 0.8], (len(sizes), 2)) * sizes[:, ::-1]
    corner = rng.uniform(0, 1, (len(sizes), 2)) * (sizes[:, ::-1] - span)
    return np.rint(np.hstack([corner, span]))


def _masks(rng: np.random.Generator, box: FloatArray, size: IntArray) -> list[bytes]:
    """Run lengths of a garment-like outline in the box, and of ``_VARIANTS`` others near it."""
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    circle = np.column_stack([np.cos(angles), np.sin(angles)])
    polygons = []
    for spread in (0.0, *np.linspace(0.02, 0.3, _VARIANTS)):
        radius = 1 + rng.normal(0, 0.03 + spread / 3, (24, 1))
        center = box[:2] + box[2:] * (0.5 + rng.normal(0, spread / 3, 2))
        polygons.append((center + circle * radius * box[2:] / 2).ravel().tolist())
    height, width = size.tolist()
    return [mask["counts"] for mask in mask_utils.frPyObjects(polygons, height, width)]


def _landmarks(rng: np.random.Generator, box: FloatArray, category: int) -> FloatArray:
    own = DEEPFASHION2.categories[category]
    labels = rng.choice([0, 1, 2], p=[0.2, 0.3, 0.5], size=(own.num_landmarks, 1))
    labels *= rng.random() > 0.02  # two of a hundred items have none
    return np.hstack([np.rint(box[:2] + TEMPLATES[own.id].xy * box[2:]), labels]) * (labels > 0)


def _predict(
    rng: np.random.Generator,
    index: int,
    size: IntArray,
    boxes: FloatArray,
    category: IntArray,
    masks: list[list[bytes]],
    number: int,
) -> ImagePredictions:
    """A third near an item with its category, a sixth with another one, the rest anywhere."""
    item = rng.integers(len(boxes), size=number)
    kind = rng.choice(3, p=[1 / 3, 1 / 6, 1 / 2], size=number)
    spread = rng.uniform(0.01, 0.25, (number, 1))
    near = boxes[item] + rng.normal(0, 1, (number, 4)) * spread * boxes[item][:, [2, 3, 2, 3]]
    anywhere = _random_boxes(rng, np.repeat(size[None], number, 0))
    own = np.where(kind[:, None] == 2, anywhere, np.maximum(near, 1))
    found = np.where(
        kind == 0, category[item], rng.integers(DEEPFASHION2.num_categories, size=number)
    )
    # Better ones tend to have higher scores; two digits, so that some are equal.
    score = np.where(kind == 0, 0.9 - 2 * spread[:, 0], 0.3) + rng.normal(0, 0.15, number)
    scores: FloatArray = np.round(np.clip(score, 0.05, 1), 2).astype(np.float64)
    order = np.argsort(-scores, kind="stable")
    own, found, kind, item = own[order], found[order], kind[order], item[order]
    group = np.where(kind == 2, len(masks) - 1, item)  # the last group is the background's
    variant = 1 + rng.integers(_VARIANTS, size=number)  # the first mask is the item's own
    return ImagePredictions(
        image_id=index + 1,
        size=(int(size[0]), int(size[1])),
        category_ids=found + 1,
        boxes=own.astype(np.float32),
        scores=scores[order].astype(np.float32),
        masks=[masks[g][v] for g, v in zip(group, variant, strict=True)],
        landmarks=[
            _detected_landmarks(rng, box, int(k))
            for box, k in zip(own[:_LANDMARK_DETECTIONS], found, strict=False)
        ],
    )


def _detected_landmarks(rng: np.random.Generator, box: FloatArray, category: int) -> Any:
    own = DEEPFASHION2.categories[category]
    points = np.ones((own.num_landmarks, 3), dtype=np.float32)
    points[:, :2] = (
        box[:2] + TEMPLATES[own.id].xy * box[2:] + rng.normal(0, 4, (own.num_landmarks, 2))
    )
    return points
