"""Inputs for the model's tests. Shapes as in ``match_rcnn.modeling.streams.landmark_head``."""

from collections.abc import Callable

import pytest
import torch

from match_rcnn.d2 import Boxes, Instances, Keypoints
from match_rcnn.data.taxonomy import DEEPFASHION2

CATEGORIES = DEEPFASHION2.categories

IMAGE = (400, 500)


def _boxes(n: int, generator: torch.Generator) -> torch.Tensor:
    size = 30 + 170 * torch.rand(n, 2, generator=generator)
    corner = 150 * torch.rand(n, 2, generator=generator)
    return torch.cat([corner, corner + size], dim=1)


def _landmarks(
    classes: torch.Tensor, boxes: torch.Tensor, visible: float, generator: torch.Generator
) -> torch.Tensor:
    """(R, K, 3) with some landmarks outside of the box, some exactly on its edges."""
    n = len(classes)
    place = 1.2 * torch.rand(n, DEEPFASHION2.max_landmarks, 2, generator=generator) - 0.1
    place = torch.where(torch.rand(place.shape, generator=generator) < 0.05, place.round(), place)
    corner, size = boxes[:, None, :2], (boxes[:, 2:] - boxes[:, :2])[:, None]
    xy = torch.where(place == 1, boxes[:, None, 2:], corner + place * size)
    v = torch.randint(1, 3, (n, DEEPFASHION2.max_landmarks, 1), generator=generator)
    v = v * (torch.rand(v.shape, generator=generator) < visible)
    counts = torch.tensor([c.num_landmarks for c in CATEGORIES])[classes]
    v = v * (torch.arange(DEEPFASHION2.max_landmarks) < counts[:, None])[..., None]
    return torch.cat([xy, v], dim=2) * (v > 0)


def _dense(compact: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    dense = compact.new_zeros((len(compact), DEEPFASHION2.num_landmarks, 3))
    for row, landmarks, c in zip(dense, compact, classes.tolist(), strict=True):
        row[CATEGORIES[c].slice] = landmarks[: CATEGORIES[c].num_landmarks]
    return dense


@pytest.fixture(scope="session")
def make_ground_truth() -> Callable[..., list[Instances]]:
    """``make(classes_per_image, visible=0.7, seed=0, layout="compact")`` -> Instances a image."""

    def make(
        classes: list[list[int]], visible: float = 0.7, seed: int = 0, layout: str = "compact"
    ) -> list[Instances]:
        generator = torch.Generator().manual_seed(seed)
        images = []
        for image in classes:
            ids = torch.tensor(image, dtype=torch.int64)
            boxes = _boxes(len(ids), generator)
            keypoints = _landmarks(ids, boxes, visible, generator)
            if layout == "dense":
                keypoints = _dense(keypoints, ids)
            images.append(
                Instances(
                    IMAGE,
                    proposal_boxes=Boxes(boxes),
                    gt_classes=ids,
                    gt_keypoints=Keypoints(keypoints),
                )
            )
        return images

    return make


@pytest.fixture(scope="session")
def make_detections() -> Callable[..., list[Instances]]:
    """``make(classes_per_image, seed=0)`` -> Instances a image, as the box stream leaves them."""

    def make(classes: list[list[int]], seed: int = 0) -> list[Instances]:
        generator = torch.Generator().manual_seed(seed)
        return [
            Instances(
                IMAGE,
                pred_boxes=Boxes(_boxes(len(image), generator)),
                pred_classes=torch.tensor(image, dtype=torch.int64),
                scores=torch.rand(len(image), generator=generator),
            )
            for image in classes
        ]

    return make
