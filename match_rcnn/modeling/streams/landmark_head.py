"""The category-aware landmark head (docs/model.md).

The landmark loss is a softmax over positions per channel, and every landmark of an item belongs
to the item's category. So of the 294 channels an RoI needs only its category's: those of its
ground truth in training, of its prediction at inference. Loss, gradients and kept results are
those of the host's plain head, and so are the weights.

Shapes (DeepFashion2's numbers): R RoIs of all images, L = 294 channels, n landmarks of one
category (8 to 39; in other taxonomies a category may have none), K = 39 the largest n, C channels
of the last convolution, P side of the pooled features (14), S = 4 P side of the heat maps.
*Compact* landmarks are (R, K, 3), the category's own in front and zeros behind;
*dense* ones are (R, L, 3).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from match_rcnn.d2 import (
    ROI_KEYPOINT_HEAD_REGISTRY,
    CfgNode,
    Instances,
    Keypoints,
    KRCNNConvDeconvUpsampleHead,
    ShapeSpec,
    configurable,
    get_event_storage,
)
from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.modeling.streams.landmark_decoding import decode_landmarks
from match_rcnn.modeling.taxonomy import taxonomy_from_config

Tensor = torch.Tensor

#: Upsampling of the scores behind the transposed convolution.
UP_SCALE = 2


@ROI_KEYPOINT_HEAD_REGISTRY.register()
class CategoryAwareLandmarkHead(KRCNNConvDeconvUpsampleHead):
    """The host's keypoint head (8 convolutions, a transposed one, upsampling), computing for each
    RoI the channels of its category only.

    ``layers(x)`` is still the plain computation of all L channels.

    Args:
        input_shape: of the pooled features.
        num_keypoints: L.
        conv_dims: channels of each 3x3 convolution.
        landmark_counts: n of each category, in the order of their channels; sums to L.
        return_heatmaps: predictions also get ``pred_keypoint_heatmaps``, (R, K, S, S) logits,
            compact as the landmarks are.
        rois_per_chunk: at inference so many RoIs go through the layers at a time; bounds
            memory and changes nothing else.
        **kwargs: ``loss_weight`` and ``loss_normalizer`` of the host's keypoint heads.

    Raises:
        ValueError: ``landmark_counts`` do not sum to ``num_keypoints``.
    """

    _counts: Tensor  # (categories,) n of each

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        num_keypoints: int,
        conv_dims: Sequence[int],
        landmark_counts: Sequence[int] = DEEPFASHION2.landmark_counts,
        return_heatmaps: bool = False,
        rois_per_chunk: int = 32,
        **kwargs: Any,
    ) -> None:
        if sum(landmark_counts) != num_keypoints:
            raise ValueError(
                f"expected as many channels as the categories have landmarks, "
                f"{sum(landmark_counts)}; got {num_keypoints} "
                f"(MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS)"
            )
        super().__init__(input_shape, num_keypoints=num_keypoints, conv_dims=conv_dims, **kwargs)
        self.landmark_counts = tuple(landmark_counts)
        self.return_heatmaps = return_heatmaps
        self.rois_per_chunk = rois_per_chunk
        self.side = input_shape.height
        self._num_convs = len(conv_dims)
        self._skipped_batches = 0
        self.register_buffer("_counts", torch.tensor(self.landmark_counts), persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        taxonomy, classes = taxonomy_from_config(cfg), cfg.MODEL.ROI_HEADS.NUM_CLASSES
        if classes != taxonomy.num_categories:
            raise ValueError(
                f"MODEL.TAXONOMY has {taxonomy.num_categories} categories, but "
                f"MODEL.ROI_HEADS.NUM_CLASSES is {classes}"
            )
        made: dict[str, Any] = super().from_config(cfg, input_shape)
        return {**made, "landmark_counts": taxonomy.landmark_counts}

    @property
    def max_landmarks(self) -> int:
        """K."""
        return max(self.landmark_counts)

    def forward(  # type: ignore[override]  # Sequential's takes one argument
        self, x: Tensor, instances: list[Instances]
    ) -> Any:
        """
        Args:
            x: (R, channels, P, P) pooled features of all images' RoIs.
            instances: one per image. In training with ``proposal_boxes``, ``gt_classes`` and
                ``gt_keypoints`` (compact or dense); an empty one needs none of them. Otherwise
                with ``pred_boxes`` and ``pred_classes``.

        Returns:
            In training ``{"loss_keypoint": ...}``; otherwise ``instances``, each with compact
            ``pred_keypoints``: x, y in the boxes' coordinates, score.
        """
        if self.training:
            return self.losses_and_features(x, instances)[0]
        self.predict(x, instances)
        return instances

    def losses_and_features(
        self, x: Tensor, instances: list[Instances]
    ) -> tuple[dict[str, Tensor], Tensor | None, Tensor]:
        """In training, arguments as of :meth:`forward`.

        Returns:
            ``{"loss_keypoint": ...}``; what the convolutions made, (R, C, P, P) sorted by category,
            None where no landmark lies in its RoI; and the (R,) order in which they are sorted.
        """
        boxes, classes, keypoints = self._ground_truth(x, instances)
        valid = torch.zeros(0)
        if len(boxes):
            side = 2 * UP_SCALE * x.shape[-1]
            bins, valid = Keypoints(keypoints).to_heatmap(boxes, side)
        if not valid.any():
            self._count_skipped_batch()
            return {"loss_keypoint": _zero(x, *self.parameters()) * self.loss_weight}, None, classes
        order = classes.argsort(stable=True)
        features = self.features(x[order])
        loss, visible = self.tail_loss(features, classes[order], bins[order], valid[order].bool())
        if isinstance(self.loss_normalizer, str):
            loss = loss / visible
        else:
            loss = loss / (len(instances) * self.loss_normalizer)
        return {"loss_keypoint": loss * self.loss_weight}, features, order

    def _ground_truth(self, x: Tensor, instances: list[Instances]) -> tuple[Tensor, Tensor, Tensor]:
        """(R, 4) boxes, (R,) classes, (R, K, 3) landmarks."""
        boxes, classes = [x.new_zeros((0, 4))], [self._counts.new_zeros(0)]
        keypoints = [x.new_zeros((0, self.max_landmarks, 3))]
        for image in instances:
            # An image without ground truth has no gt_keypoints to ask for.
            if len(image):
                boxes.append(image.proposal_boxes.tensor)
                classes.append(image.gt_classes)
                keypoints.append(self._compact(image.gt_keypoints.tensor, image.gt_classes))
        return torch.cat(boxes).float(), torch.cat(classes), torch.cat(keypoints).float()

    def _compact(self, keypoints: Tensor, classes: Tensor) -> Tensor:
        """(R, L, 3) or (R, K, 3) landmarks -> (R, K, 3), zero behind the category's n."""
        width = keypoints.shape[1]
        if width not in (self.num_keypoints, self.max_landmarks):
            raise ValueError(
                f"expected gt_keypoints of {self.max_landmarks} (compact) or "
                f"{self.num_keypoints} (dense) landmarks, got {width}"
            )
        counts = self._counts[classes]
        steps = torch.arange(self.max_landmarks, device=keypoints.device)
        own = steps < counts[:, None]
        if width != self.max_landmarks:
            first = (self._counts.cumsum(0) - self._counts)[classes]
            channels = (first[:, None] + steps).clamp(max=width - 1)
            keypoints = keypoints.gather(1, channels[..., None].expand(-1, -1, 3))
        return keypoints * own[..., None]

    @property
    def features_shape(self) -> ShapeSpec:
        """(C, P, P): what :meth:`features` makes of an RoI."""
        return ShapeSpec(channels=self.score_lowres.in_channels, height=self.side, width=self.side)

    def features(self, x: Tensor) -> Tensor:
        """The convolutions: (R, channels, P, P) -> (R, C, P, P)."""
        for i in range(1, self._num_convs + 1):
            x = F.relu_(getattr(self, f"conv_fcn{i}")(x))
        return x

    def _low_resolution_scores(self, features: Tensor, sizes: list[int]) -> list[Tensor]:
        """Scores of each category's channels, (RoIs of the category, n, 2 P, 2 P), for features
        of RoIs that are sorted by category; ``sizes`` counts the RoIs of each. Categories without
        RoIs or without landmarks are left out."""
        deconv = self.score_lowres
        # One split has one backward for all categories; a slice for each would have a full-size
        # gradient for each.
        weights = deconv.weight.split(self.landmark_counts, dim=1)
        assert deconv.bias is not None
        biases = deconv.bias.split(self.landmark_counts)
        return [
            F.conv_transpose2d(rois, weight, bias, stride=2, padding=1)
            for rois, weight, bias in zip(features.split(sizes), weights, biases, strict=True)
            if len(rois) and weight.shape[1]
        ]

    def tail_loss(
        self, features: Tensor, classes: Tensor, bins: Tensor, valid: Tensor
    ) -> tuple[Tensor, int]:
        """What follows the convolutions in training.

        Args:
            features: (R, C, P, P).
            classes: (R,) ascending.
            bins: (R, K) linear index of each landmark's place in the S x S map.
            valid: (R, K) bool, at least one of them true, none behind a category's n.

        Returns:
            The sum of the cross-entropies, and the number of valid landmarks.
        """
        sizes = self._category_sizes(classes)
        scores = self._low_resolution_scores(features, sizes)
        own = torch.arange(bins.shape[1], device=bins.device) < self._counts[classes][:, None]
        row, landmark = (valid & own).nonzero(as_tuple=True)
        # Only labelled landmarks are upsampled: the others take no part in the loss.
        channel = (own.flatten().cumsum(0) - 1).view_as(own)[row, landmark]
        maps = _upsample(torch.cat([s.flatten(0, 1) for s in scores])[channel])
        loss = F.cross_entropy(maps.flatten(1), bins[row, landmark], reduction="sum")
        return loss, len(row)

    def _category_sizes(self, classes: Tensor) -> list[int]:
        """How many RoIs of each category there are; unlike bincount, it waits for a GPU once."""
        sizes = torch.zeros_like(self._counts).index_add_(0, classes, torch.ones_like(classes))
        return sizes.tolist()

    @torch.no_grad()
    def predict(
        self, x: Tensor, instances: list[Instances], with_features: bool = False
    ) -> Tensor | None:
        """At inference, arguments as of :meth:`forward`: sets the instances' fields.

        Returns:
            ``with_features`` what the convolutions made, (R, C, P, P) in the order of the RoIs.
        """
        boxes = torch.cat([image.pred_boxes.tensor for image in instances])
        classes = torch.cat([image.pred_classes for image in instances])
        outputs = {
            "pred_keypoints": x.new_zeros((len(x), self.max_landmarks, 3), dtype=torch.float)
        }
        if self.return_heatmaps:
            shape = (len(x), self.max_landmarks, *(2 * UP_SCALE * s for s in x.shape[-2:]))
            outputs["pred_keypoint_heatmaps"] = x.new_zeros(shape, dtype=torch.float)
        features = None
        if with_features:
            features = x.new_zeros((len(x), self.score_lowres.in_channels, *x.shape[-2:]))
        for rois in classes.argsort(stable=True).split(self.rois_per_chunk):
            made = self._predict_chunk(x, boxes, classes, rois, outputs)
            if features is not None:
                features[rois] = made.to(x.dtype)
        sizes = [len(image) for image in instances]
        for name, output in outputs.items():
            for image, part in zip(instances, output.split(sizes), strict=True):
                image.set(name, part)
        return features

    def _predict_chunk(
        self,
        x: Tensor,
        boxes: Tensor,
        classes: Tensor,
        rois: Tensor,
        outputs: dict[str, Tensor],
    ) -> Tensor:
        """Fill in the rows ``rois`` of ``outputs``, their classes ascending; their features."""
        sizes = self._category_sizes(classes[rois])
        features = self.features(x[rois])
        scores = self._low_resolution_scores(features, sizes)
        kinds = zip(rois.split(sizes), self.landmark_counts, strict=True)
        groups = [group for group, n in kinds if len(group) and n]
        for group, score in zip(groups, scores, strict=True):
            maps = _upsample(score)
            n = maps.shape[1]
            outputs["pred_keypoints"][group, :n] = decode_landmarks(maps, boxes[group])
            if self.return_heatmaps:
                outputs["pred_keypoint_heatmaps"][group, :n] = maps
        return features

    def _count_skipped_batch(self) -> None:
        self._skipped_batches += 1
        get_event_storage().put_scalar(
            "kpts_num_skipped_batches", self._skipped_batches, smoothing_hint=False
        )


def _upsample(scores: Tensor) -> Tensor:
    """(N, n, 2 P, 2 P) or (N, 2 P, 2 P) -> twice the side, in float32 whatever came."""
    maps = scores.float() if scores.dim() == 4 else scores.float()[:, None]
    maps = F.interpolate(maps, scale_factor=UP_SCALE, mode="bilinear", align_corners=False)
    return maps.view(*scores.shape[:-2], *maps.shape[-2:])


def _zero(*tensors: Tensor | nn.Parameter) -> Tensor:
    """0 with a gradient path to each tensor: distributed training must see every parameter.

    Sums over nothing, since 0 times an overflowing sum would be NaN.
    """
    return torch.stack([tensor[:0].float().sum() for tensor in tensors]).sum()
