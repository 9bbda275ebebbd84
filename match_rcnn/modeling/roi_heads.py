"""Match R-CNN's streams over one set of RoIs (PAPER.md, section 2).

The detection stream comes first: in training it shares the sampled proposals with the others, at
inference it chooses the boxes that they work on. The other streams run in the order that
``MatchRCNNROIHeads.streams`` lists; a further stream is a method in that list, with an
``_init_*_head`` classmethod that builds its modules.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from match_rcnn.d2 import ROI_HEADS_REGISTRY, ImageList, Instances, StandardROIHeads

Features = dict[str, torch.Tensor]
Losses = dict[str, torch.Tensor]
#: (features, instances) -> losses in training; the instances with further fields at inference.
Stream = Callable[[Features, list[Instances]], Any]


@ROI_HEADS_REGISTRY.register()
class MatchRCNNROIHeads(StandardROIHeads):
    """Box, mask and landmark streams.

    Training: every stream gets the sampled proposals with their ``gt_*`` fields and takes its own
    positives: masks IoU >= 0.5, landmarks those of them with a visible landmark inside.
    Inference: streams other than the box stream see the kept detections only, after NMS.
    """

    def streams(self) -> Sequence[Stream]:
        """What runs after the box stream, in order; a later one may use an earlier one's fields.

        A stream that the config switches off (``MASK_ON``, ``KEYPOINT_ON``) returns no loss, or
        the instances as they are.
        """
        return (self._forward_mask, self._forward_keypoint)

    def forward(
        self,
        images: ImageList,
        features: Features,
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], Losses]:
        """
        Args:
            images: not used; part of the host's interface.
            features: feature maps (images, channels, height, width) by name.
            proposals: one per image, with ``proposal_boxes`` and ``objectness_logits``.
            targets: in training, the ground truth, one per image.

        Returns:
            In training the sampled proposals and the losses of all streams; at inference the
            detections and an empty dict.

        Raises:
            ValueError: in training without targets.
        """
        del images
        if not self.training:
            detections = self._forward_box(features, proposals)
            return self.forward_with_given_boxes(features, detections), {}
        if targets is None:
            raise ValueError("training needs targets; got none")
        proposals = self.label_and_sample_proposals(proposals, targets)
        losses: Losses = self._forward_box(features, proposals)
        for stream in self.streams():
            losses.update(stream(features, proposals))
        return proposals, losses

    def forward_with_given_boxes(
        self, features: Features, instances: list[Instances]
    ) -> list[Instances]:
        """Run every stream but the box stream on given boxes, at inference.

        Args:
            features: as in :meth:`forward`.
            instances: one per image, with ``pred_boxes`` and ``pred_classes``.

        Returns:
            The instances with the fields of the other streams.
        """
        assert not self.training
        assert all(image.has("pred_boxes") and image.has("pred_classes") for image in instances)
        for stream in self.streams():
            instances = stream(features, instances)
        return instances
