"""Test-time augmentation of all streams: an image is seen mirrored and at several sizes.

Boxes of all views are fused; then every other stream runs on the fused boxes in each view, and
what it finds is averaged: masks before they are pasted, landmarks (mirrored ones under their
mirrored names) by their scores, embeddings. Regions that a similarity compares are the first
view's.

Shapes: ``V`` views of an image; ``N`` detections of a view; ``M`` fused ones; ``K`` landmark rows
of a detection, compact or dense (:mod:`match_rcnn.structures`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torchvision.ops import box_iou
from torchvision.transforms.v2.functional import resize

from match_rcnn.d2 import Boxes, Instances
from match_rcnn.data.taxonomy import Taxonomy

Tensor = torch.Tensor
Sample = dict[str, Any]
#: H, W in pixels.
Size = tuple[int, int]

#: Of one category, detections of several views that overlap more are one garment's.
FUSED_FROM = 0.55


@dataclass(frozen=True)
class View:
    """How an image is shown: resized by ``scale``, then mirrored where ``flip`` says so."""

    scale: float = 1.0
    flip: bool = False

    def sample(self, sample: Sample) -> Sample:
        """A model's input as this view has it."""
        image = sample["image"]
        if self.scale != 1:
            size = [max(1, round(side * self.scale)) for side in image.shape[1:]]
            image = resize(image, size, antialias=True)
        return {**sample, "image": image.flip(2) if self.flip else image}

    def boxes_there(self, boxes: Tensor, own: Size, there: Size) -> Tensor:
        """(N, 4) x1, y1, x2, y2 of the image in this view, where it has the size ``there``."""
        scaled = boxes * _factors(boxes, own, there)
        return _mirrored(scaled, there[1]) if self.flip else scaled

    def boxes_back(self, boxes: Tensor, there: Size, own: Size) -> Tensor:
        """The inverse."""
        upright = _mirrored(boxes, there[1]) if self.flip else boxes
        return upright * _factors(boxes, there, own)


def _factors(boxes: Tensor, start: Size, end: Size) -> Tensor:
    return boxes.new_tensor([end[1] / start[1], end[0] / start[0]] * 2)


def _mirrored(boxes: Tensor, width: float) -> Tensor:
    return torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)


def views_of(scales: Sequence[float], flip: bool) -> list[View]:
    """Every scale, and with ``flip`` every mirrored one.

    Raises:
        ValueError: there is no scale, or one is not in (0, 1].
    """
    if not scales or not all(0 < scale <= 1 for scale in scales):
        raise ValueError(
            f"TEST.AUG.SCALES: expected numbers above 0 and up to 1 (the size of "
            f"INPUT.MIN_SIZE_TEST), got {tuple(scales)}"
        )
    sides = (False, True) if flip else (False,)
    return [View(scale, side) for scale in scales for side in sides]


@dataclass(frozen=True)
class Views:
    """How a model's images are seen, and what it takes to join the results.

    Attributes:
        views: of each image.
        taxonomy: of the model: which landmarks change places in a mirrored image.
        most: detections of an image that are kept.
    """

    views: Sequence[View]
    taxonomy: Taxonomy
    most: int = 100

    def infer(
        self,
        model: Any,
        batched_inputs: list[Sample],
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> Any:
        """The host's ``GeneralizedRCNN.inference``, over the views of each image.

        Args:
            model: of the host, in evaluation.
            batched_inputs, detected_instances, do_postprocess: as the host has them.
        """
        own = [(int(s["image"].shape[1]), int(s["image"].shape[2])) for s in batched_inputs]
        seen = [_Seen.of(model, view, batched_inputs) for view in self.views]
        if detected_instances is None:
            found = [view.detect(model, own) for view in seen]
            fused = [fuse([boxes[i] for boxes in found], self.most) for i in range(len(own))]
        else:
            fused = [given.to(model.device) for given in detected_instances]
        results = [view.finish(model, fused, own, self.taxonomy) for view in seen]
        joined = [_join(boxes, [view[i] for view in results]) for i, boxes in enumerate(fused)]
        return model._postprocess(joined, batched_inputs, own) if do_postprocess else joined


@dataclass(frozen=True)
class _Seen:
    """A batch as one view has it: the model's images and feature maps."""

    view: View
    images: Any
    maps: dict[str, Tensor]

    @classmethod
    def of(cls, model: Any, view: View, batch: list[Sample]) -> "_Seen":
        images = model.preprocess_image([view.sample(sample) for sample in batch])
        return cls(view, images, model.backbone(images.tensor))

    def detect(self, model: Any, own: Sequence[Size]) -> list[Instances]:
        """The box stream's detections, in the images' own pixels."""
        proposals, _ = model.proposal_generator(self.images, self.maps)
        found = model.roi_heads._forward_box(self.maps, proposals)
        moved = []
        for image, size in zip(found, own, strict=True):
            boxes = self.view.boxes_back(image.pred_boxes.tensor, image.image_size, size)
            moved.append(_detections(size, boxes, image.scores, image.pred_classes))
        return moved

    def finish(
        self, model: Any, detections: list[Instances], own: Sequence[Size], taxonomy: Taxonomy
    ) -> list[Instances]:
        """The other streams' fields for detections in the images' own pixels, turned back."""
        given = []
        for image, size, there in zip(detections, own, self.images.image_sizes, strict=True):
            boxes = self.view.boxes_there(image.pred_boxes.tensor, size, tuple(there))
            given.append(_detections(tuple(there), boxes, None, image.pred_classes))
        found = model.roi_heads.forward_with_given_boxes(self.maps, given)
        return [
            self._turned_back(image, size, taxonomy) for image, size in zip(found, own, strict=True)
        ]

    def _turned_back(self, found: Instances, own: Size, taxonomy: Taxonomy) -> Instances:
        if found.has("pred_masks") and self.view.flip:
            found.pred_masks = found.pred_masks.flip(-1)
        if found.has("pred_keypoints"):
            points = found.pred_keypoints
            height, width = found.image_size
            if self.view.flip:
                points = points[
                    torch.arange(len(points), device=points.device)[:, None],
                    mirrored_rows(found.pred_classes, points.shape[1], taxonomy),
                ]
                points = torch.cat([width - points[..., :1], points[..., 1:]], dim=-1)
            factors = points.new_tensor([own[1] / width, own[0] / height, 1])
            found.pred_keypoints = points * factors
        return found


def _detections(size: Size, boxes: Tensor, scores: Tensor | None, classes: Tensor) -> Instances:
    found = Instances(size)
    found.pred_boxes, found.pred_classes = Boxes(boxes), classes
    if scores is not None:
        found.scores = scores
    return found


def mirrored_rows(classes: Tensor, rows: int, taxonomy: Taxonomy) -> Tensor:
    """(N, K) where the landmarks of detections are found in a mirrored image.

    Args:
        classes: (N,) class indices.
        rows: K, compact or dense.
    """
    return _mirror_table(rows, taxonomy).to(classes.device)[classes]


@cache
def _mirror_table(rows: int, taxonomy: Taxonomy) -> Tensor:
    """(classes, K)."""
    dense = rows == taxonomy.num_landmarks and rows != taxonomy.max_landmarks
    table = torch.arange(rows).repeat(taxonomy.num_categories, 1)
    for index, category in enumerate(taxonomy.categories):
        start = category.offset if dense else 0
        place = slice(start, start + category.num_landmarks)
        table[index, place] = start + torch.as_tensor(category.flip_permutation.copy())
    return table


def fuse(found: Sequence[Instances], most: int) -> Instances:
    """Detections of several views of one image as one list, most confident first.

    Weighted boxes fusion (Solovyev, Wang and Gabruseva, 2021): of a category, a box joins the
    cluster whose mean it overlaps most, by more than :data:`FUSED_FROM`; a cluster becomes its mean
    box, weighted by the scores. Its score is the mean of the views' best, where a view that did not
    find it counts as 0.

    Args:
        found: of each view, ``pred_boxes``, ``scores``, ``pred_classes`` in the same pixels.
        most: how many are kept.
    """
    boxes = torch.cat([view.pred_boxes.tensor for view in found])
    scores = torch.cat([view.scores for view in found])
    classes = torch.cat([view.pred_classes for view in found])
    views = torch.cat([torch.full((len(view),), i) for i, view in enumerate(found)])
    clusters: list[list[int]] = []
    means = boxes.new_zeros((0, 4))
    kinds = classes.new_zeros(0)
    for i in scores.argsort(descending=True, stable=True).tolist():
        overlaps = box_iou(boxes[i : i + 1], means)[0] * (kinds == classes[i])
        if len(clusters) and float(overlaps.max()) > FUSED_FROM:
            k = int(overlaps.argmax())
            clusters[k].append(i)
            means[k] = _mean(boxes[clusters[k]], scores[clusters[k]])
        else:
            clusters.append([i])
            means = torch.cat([means, boxes[i : i + 1]])
            kinds = torch.cat([kinds, classes[i : i + 1]])
    best = scores.new_zeros((len(clusters), len(found)))
    for k, members in enumerate(clusters):
        for i in reversed(members):  # the best of a view is its first
            best[k, int(views[i])] = scores[i]
    joined = _detections(found[0].image_size, means, best.mean(1), kinds)
    return joined[joined.scores.argsort(descending=True, stable=True)[:most]]


def _mean(boxes: Tensor, scores: Tensor) -> Tensor:
    return (boxes * scores[:, None]).sum(0) / scores.sum().clamp(min=1e-9)


def _join(detections: Instances, found: Sequence[Instances]) -> Instances:
    """Fused detections with the mean of what the views found for each of them."""
    joined = Instances(detections.image_size, **detections.get_fields())
    for field, value in found[0].get_fields().items():
        if joined.has(field):
            continue
        values = torch.stack([view.get(field).float() for view in found])
        joined.set(field, _JOINED.get(field, torch.mean)(values, 0).to(value.dtype))
    return joined


def _mean_landmarks(points: Tensor, dim: int) -> Tensor:
    """(V, N, K, 3) -> (N, K, 3): the mean place, weighted by the scores; the mean score."""
    scores = points[..., 2:]
    # Rows that are not the category's have score 0, and stay at 0.
    places = (points[..., :2] * scores).sum(dim) / scores.sum(dim).clamp(min=1e-12)
    return torch.cat([places, scores.mean(dim)], dim=-1)


def _first(values: Tensor, dim: int) -> Tensor:
    """The first view's: a mirrored one has the left regions of a garment on the right."""
    return values.select(dim, 0)


_JOINED: dict[str, Callable[[Tensor, int], Tensor]] = {
    "pred_keypoints": _mean_landmarks,
    "regions": _first,
}
