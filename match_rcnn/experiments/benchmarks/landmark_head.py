"""The category-aware landmark head against the plain 294-channel one: decoding and training.

Two parts, each with the same inputs for both ways, on the CPU:

- decoding: 56 x 56 heat maps of garment-size detections (0.3 to 0.6 of the width, 0.4 to 0.8 of
  the height of an 800 x 1067 image) to positions. Plain: every channel is resized to its box,
  then argmax, as detectron2 has it. Ours: the predicted category's channels, without resizing.
- training tail: what follows the convolutions (transposed convolution, upsampling, loss), forward
  and backward, with compact targets for ours and dense ones for the plain way.

The plain way is written out here, so that the ratios mean the same on every host.
"""

import argparse
import math
from collections.abc import Callable

import torch
from torch.nn import functional as F

from match_rcnn.d2 import Boxes, Instances, Keypoints, KRCNNConvDeconvUpsampleHead, ShapeSpec
from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.experiments.benchmarks.harness import Measurement, Result, alternate
from match_rcnn.modeling.streams.landmark_decoding import decode_landmarks
from match_rcnn.modeling.streams.landmark_head import CategoryAwareLandmarkHead

Tensor = torch.Tensor

HEIGHT, WIDTH = 800, 1067
POOLED = 14
GOALS = {"decoding time": 40, "decoding memory": 10, "training time": 6, "training memory": 3}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=int, default=3, help="of which medians are taken")
    parser.add_argument("--detections", type=int, default=100, help="to decode")
    parser.add_argument("--rois", type=int, default=64, help="positives of a training step")
    parser.add_argument("--channels", type=int, default=512, help="of the last convolution")
    parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> Result:
    torch.manual_seed(args.seed)
    result = Result("landmark-head", [], goals=dict(GOALS))
    _decoding(result, args.detections, args.runs)
    _training(result, args.rois, args.channels, args.runs)
    result.notes.append("heat maps are upsampled noise: without a clear peak, the slowest kind")
    result.notes.append("8 in 10 landmarks of a training item are labelled")
    return result


def _decoding(result: Result, detections: int, runs: int) -> None:
    boxes = garment_boxes(detections)
    classes = torch.randint(DEEPFASHION2.num_categories, (detections,))
    low = torch.randn(detections, DEEPFASHION2.num_landmarks, 2 * POOLED, 2 * POOLED)
    maps = F.interpolate(low, scale_factor=2, mode="bilinear")
    del low
    found: dict[str, Tensor] = {}

    def plain() -> None:
        found["plain"] = plain_decoding(maps, boxes)

    def ours() -> None:
        found["ours"] = grouped_decoding(maps, boxes, classes)

    ours()
    _record(result, "decoding", alternate([plain, ours], runs, warmup=0))
    expected = compact(found["plain"], classes)
    same_place = (found["ours"] - expected)[..., :2].abs().amax(2) < 1e-2
    result.checks["decoding: scores within 1e-5"] = bool(
        torch.allclose(found["ours"][..., 2], expected[..., 2], rtol=1e-5, atol=1e-5)
    )
    # Two pixels that are equal within rounding may change places.
    result.checks["decoding: 999 positions of 1000 equal"] = bool(same_place.float().mean() > 0.999)


def _training(result: Result, rois: int, channels: int, runs: int) -> None:
    head = CategoryAwareLandmarkHead(
        ShapeSpec(channels=channels, height=POOLED, width=POOLED),
        num_keypoints=DEEPFASHION2.num_landmarks,
        conv_dims=(),
        loss_normalizer="visible",
    ).train()
    features = torch.randn(rois, channels, POOLED, POOLED, requires_grad=True)
    image = training_instances(rois)
    dense = Keypoints(dense_landmarks(image.gt_keypoints.tensor, image.gt_classes))
    leaves = [features, *head.score_lowres.parameters()]
    found: dict[str, list[Tensor]] = {}

    def step(name: str, loss: Callable[[], Tensor]) -> None:
        found.pop(name, None)
        value = loss()
        found[name] = [value.detach(), *torch.autograd.grad(value, leaves)]

    def plain() -> None:
        step("plain", lambda: plain_loss(head, features, image.proposal_boxes.tensor, dense))

    def ours() -> None:
        step("ours", lambda: head(features, [image])["loss_keypoint"])

    _record(result, "training", alternate([plain, ours], runs, warmup=1))
    for name, a, b in zip(
        ("loss", "features", "weight"), found["ours"], found["plain"], strict=False
    ):
        close = (a - b).abs().max() <= 1e-5 * b.abs().max()
        result.checks[f"training: {name} within 1e-5"] = bool(close)
    # Its true gradient is zero: a softmax ignores a shift.
    bias = (found["ours"][3] - found["plain"][3]).abs().max()
    result.checks["training: bias within 1e-5"] = bool(bias <= 1e-5)


def _record(result: Result, part: str, measured: list[Measurement]) -> None:
    plain, ours = measured
    for way, m in (("plain", plain), ("ours", ours)):
        result.rows.append({"part": part, "way": way, "seconds": m.seconds, "peak MiB": m.peak_mib})
    result.ratios[f"{part} time"] = plain.seconds / ours.seconds
    result.ratios[f"{part} memory"] = plain.peak_mib / max(ours.peak_mib, 1.0)


def garment_boxes(n: int, height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    """(n, 4) boxes as garments have them, inside an image of ``height`` x ``width``."""
    image = torch.tensor([width, height])
    size = (torch.tensor([0.3, 0.4]) + torch.rand(n, 2) * torch.tensor([0.3, 0.4])) * image
    corner = torch.rand(n, 2) * (image - size)
    return torch.cat([corner, corner + size], dim=1)


def training_instances(n: int) -> Instances:
    """One image's positives, with compact landmarks, most of them in the box and labelled."""
    boxes, classes = garment_boxes(n), torch.randint(DEEPFASHION2.num_categories, (n,))
    place = 1.1 * torch.rand(n, DEEPFASHION2.max_landmarks, 2) - 0.05
    xy = boxes[:, None, :2] + place * (boxes[:, 2:] - boxes[:, :2])[:, None]
    own = (
        torch.arange(DEEPFASHION2.max_landmarks)
        < torch.tensor(DEEPFASHION2.landmark_counts)[classes][:, None]
    )
    v = 2.0 * (own & (torch.rand(n, DEEPFASHION2.max_landmarks) < 0.8))[..., None]
    return Instances(
        (HEIGHT, WIDTH),
        proposal_boxes=Boxes(boxes),
        gt_classes=classes,
        gt_keypoints=Keypoints(torch.cat([xy, v], dim=2) * (v > 0)),
    )


def dense_landmarks(landmarks: Tensor, classes: Tensor) -> Tensor:
    """(R, 39, 3) -> (R, 294, 3)."""
    dense = landmarks.new_zeros((len(landmarks), DEEPFASHION2.num_landmarks, 3))
    for row, own, c in zip(dense, landmarks, classes.tolist(), strict=True):
        row[DEEPFASHION2.categories[c].slice] = own[: DEEPFASHION2.categories[c].num_landmarks]
    return dense


def compact(landmarks: Tensor, classes: Tensor) -> Tensor:
    """(R, 294, 3) -> (R, 39, 3): the category's landmarks in front, zeros behind."""
    result = landmarks.new_zeros((len(landmarks), DEEPFASHION2.max_landmarks, 3))
    for row, dense, c in zip(result, landmarks, classes.tolist(), strict=True):
        row[: DEEPFASHION2.categories[c].num_landmarks] = dense[DEEPFASHION2.categories[c].slice]
    return result


def grouped_decoding(maps: Tensor, boxes: Tensor, classes: Tensor) -> Tensor:
    """Our way from the plain head's maps: taking out each category's channels is included."""
    landmarks = maps.new_zeros((len(maps), DEEPFASHION2.max_landmarks, 3))
    for c in classes.unique().tolist():
        rois = (classes == c).nonzero()[:, 0]
        own = maps[:, DEEPFASHION2.categories[c].slice][rois]
        landmarks[rois, : DEEPFASHION2.categories[c].num_landmarks] = decode_landmarks(
            own, boxes[rois]
        )
    return landmarks


def plain_decoding(maps: Tensor, boxes: Tensor) -> Tensor:
    """(R, 294, 3) x, y, score of every channel, over the maps resized to their boxes."""
    landmarks = maps.new_zeros((*maps.shape[:2], 3))
    for roi_maps, box, row in zip(maps, boxes, landmarks, strict=True):
        extent = (box[2:] - box[:2]).clamp(min=1)
        width, height = (math.ceil(e) for e in extent.tolist())
        full = F.interpolate(roi_maps[None], size=(height, width), mode="bicubic")[0].flatten(1)
        best, place = full.max(1)
        # The stock head scores every pixel, then looks up one.
        scores = (full - best[:, None]).exp_()
        scores = scores / (roi_maps.flatten(1) - best[:, None]).exp_().sum(1, keepdim=True)
        pixel = torch.stack((place % width, place // width), dim=1)
        row[:, :2] = (pixel + 0.5) * extent / torch.tensor([width, height]) + box[:2]
        row[:, 2] = scores.gather(1, place[:, None])[:, 0]
    return landmarks


def plain_loss(
    head: KRCNNConvDeconvUpsampleHead, features: Tensor, boxes: Tensor, dense: Keypoints
) -> Tensor:
    """Mean cross-entropy of the labelled landmarks, from all 294 channels."""
    logits = head.layers(features)
    bins, valid = dense.to_heatmap(boxes, logits.shape[-1])
    chosen = valid.flatten().nonzero()[:, 0]
    logits = logits.view(-1, logits.shape[-1] ** 2)[chosen]
    return F.cross_entropy(logits, bins.flatten()[chosen], reduction="sum") / len(chosen)
