"""Made inputs with garment-size boxes, the same for every model.

Shapes: N items of an image, P proposals, D detections, K = 39 landmark rows (compact).
"""

import math
from typing import Any

import torch

from match_rcnn.d2 import Boxes, Instances, Keypoints, PolygonMasks
from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.experiments.benchmarks.landmark_head import dense_landmarks, garment_boxes
from match_rcnn.experiments.benchmarks.rcnn.workload import Workload

Tensor = torch.Tensor

#: Proposals lie around an item this often; the rest of them is anywhere.
NEAR = 0.6
POLYGON_CORNERS = 24


def training_batch(workload: Workload) -> list[dict[str, Any]]:
    """The host's model inputs; user and shop images in turn, of one product a pair."""
    torch.manual_seed(workload.seed)
    return [_training_image(workload, number) for number in range(workload.images)]


def test_batch(workload: Workload) -> list[dict[str, Any]]:
    torch.manual_seed(workload.seed)
    size = (workload.height, workload.width)
    return [{"image": _pixels(size)} for _ in range(workload.images)]


def _pixels(size: tuple[int, int]) -> Tensor:
    """(3, H, W) uint8 noise in patches."""
    patches = torch.randint(256, (3, math.ceil(size[0] / 16), math.ceil(size[1] / 16)))
    whole = patches.repeat_interleave(16, 1).repeat_interleave(16, 2)
    return whole[:, : size[0], : size[1]].to(torch.uint8).contiguous()


def _training_image(workload: Workload, number: int) -> dict[str, Any]:
    size, n = (workload.height, workload.width), workload.items
    boxes, classes = garment_boxes(n, *size), torch.randint(DEEPFASHION2.num_categories, (n,))
    keypoints = _landmarks(boxes, classes)
    if workload.model == "stock":
        keypoints = dense_landmarks(keypoints, classes)
    targets = Instances(
        size,
        gt_boxes=Boxes(boxes),
        gt_classes=classes,
        gt_masks=PolygonMasks([[_ellipse(box)] for box in boxes]),
        gt_keypoints=Keypoints(keypoints),
        gt_pair_ids=torch.full((n,), number // 2),
        gt_sources=torch.full((n,), number % 2),
        gt_styles=1 + torch.arange(n),
        gt_has_partner=torch.ones(n, dtype=torch.bool),
    )
    return {"image": _pixels(size), "instances": targets, "height": size[0], "width": size[1]}


def _landmarks(boxes: Tensor, classes: Tensor) -> Tensor:
    """(N, K, 3) compact landmarks in the boxes, eight in ten of them labelled."""
    place = torch.rand(len(boxes), DEEPFASHION2.max_landmarks, 2)
    xy = boxes[:, None, :2] + place * (boxes[:, 2:] - boxes[:, :2])[:, None]
    own = (
        torch.arange(DEEPFASHION2.max_landmarks)
        < torch.tensor(DEEPFASHION2.landmark_counts)[classes][:, None]
    )
    v = 2.0 * (own & (torch.rand(len(boxes), DEEPFASHION2.max_landmarks) < 0.8))[..., None]
    return torch.cat([xy, v], dim=2) * (v > 0)


def _ellipse(box: Tensor) -> Any:
    angles = torch.arange(POLYGON_CORNERS) * (2 * math.pi / POLYGON_CORNERS)
    circle = torch.stack([angles.cos(), angles.sin()], dim=1)
    middle, radius = (box[2:] + box[:2]) / 2, (box[2:] - box[:2]) / 2
    return (middle + circle * radius).flatten().double().numpy()


def proposals(workload: Workload, batch: list[dict[str, Any]]) -> list[Tensor]:
    """(P, 4) boxes of each image: most near an item, as a trained proposal network has them."""
    torch.manual_seed(workload.seed + 1)
    size, count = (workload.height, workload.width), workload.proposals
    made = []
    for image in batch:
        boxes = garment_boxes(count, *size)
        if "instances" in image:
            near = image["instances"].gt_boxes.tensor
            chosen = near[torch.randint(len(near), (round(NEAR * count),))]
            extent = (chosen[:, 2:] - chosen[:, :2]).repeat(1, 2)
            boxes[: len(chosen)] = chosen + 0.12 * extent * (2 * torch.rand(chosen.shape) - 1)
        limits = torch.tensor([size[1], size[0], size[1], size[0]])
        made.append(boxes.clamp(min=0).minimum(limits))
    return made


def detections(workload: Workload) -> list[tuple[Tensor, Tensor, Tensor]]:
    """(D, 4) boxes, (D,) classes and (D,) descending scores of each image."""
    torch.manual_seed(workload.seed + 2)
    count = workload.detections
    return [
        (
            garment_boxes(count, workload.height, workload.width),
            torch.randint(DEEPFASHION2.num_categories, (count,)),
            torch.linspace(0.99, 0.6, count),
        )
        for _ in range(workload.images)
    ]
