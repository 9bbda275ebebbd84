"""R-CNN models: backbone, proposals, and what is done with each region.

Shapes: ``N`` images of a batch.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...config import CfgNode, configurable
from ...structures import ImageList, Instances
from ...utils.events import get_event_storage
from ..backbone import Backbone, build_backbone
from ..postprocessing import detector_postprocess
from ..proposal_generator import build_proposal_generator
from ..roi_heads import build_roi_heads
from .build import META_ARCH_REGISTRY

__all__ = ["GeneralizedRCNN", "ProposalNetwork"]

_MAX_PROPOSALS_SHOWN = 20


class _ImageModel(nn.Module):
    """Normalising and batching of images.

    Args:
        backbone: says how to pad.
        pixel_mean: of each channel, subtracted.
        pixel_std: of each channel, divided by.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self, backbone: Backbone, pixel_mean: Sequence[float], pixel_std: Sequence[float]
    ) -> None:
        super().__init__()
        if len(pixel_mean) != len(pixel_std):
            raise ValueError(f"pixel mean {pixel_mean} and std {pixel_std} differ in length")
        self.backbone: Any = backbone
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.pixel_mean.device

    def preprocess_image(self, batched_inputs: list[dict[str, Any]]) -> ImageList:
        """The batch's "image"s on the device, normalised, then padded with 0 to one size."""
        images = [x["image"].to(self.device) for x in batched_inputs]
        return ImageList.from_tensors(
            [(image - self.pixel_mean) / self.pixel_std for image in images],
            self.backbone.size_divisibility,
            padding_constraints=self.backbone.padding_constraints,
        )

    def _targets(self, batched_inputs: list[dict[str, Any]]) -> list[Instances] | None:
        """The batch's "instances" on the device; None where there are none."""
        if "instances" not in batched_inputs[0]:
            return None
        return [x["instances"].to(self.device) for x in batched_inputs]


def _rescale(
    instances: list[Instances],
    batched_inputs: list[dict[str, Any]],
    image_sizes: list[tuple[int, int]],
) -> list[Instances]:
    """Results in the size that each input asks for ("height", "width"), or in the image's own."""
    return [
        detector_postprocess(results, x.get("height", size[0]), x.get("width", size[1]))
        for results, x, size in zip(instances, batched_inputs, image_sizes, strict=True)
    ]


@META_ARCH_REGISTRY.register()
class GeneralizedRCNN(_ImageModel):
    """Any model of backbone, proposal generator and ROI heads.

    Args:
        backbone: images to feature maps.
        proposal_generator: feature maps to proposals; None where they come with the input.
        roi_heads: feature maps and proposals to detections.
        pixel_mean: of each channel.
        pixel_std: of each channel.
        input_format: of the images' channels, such as "BGR"; needed to draw them.
        vis_period: put a picture in the event storage every so many iterations; 0 never.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        proposal_generator: nn.Module | None,
        roi_heads: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        input_format: str | None = None,
        vis_period: int = 0,
    ) -> None:
        super().__init__(backbone, pixel_mean, pixel_std)
        if vis_period > 0 and input_format is None:
            raise ValueError("vis_period needs the input_format of the images, such as 'BGR'")
        self.proposal_generator = proposal_generator
        self.roi_heads: Any = roi_heads
        self.input_format = input_format
        self.vis_period = vis_period

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        backbone = build_backbone(cfg)
        shapes = backbone.output_shape()
        return {
            "backbone": backbone,
            "proposal_generator": build_proposal_generator(cfg, shapes),
            "roi_heads": build_roi_heads(cfg, shapes),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "input_format": cfg.INPUT.FORMAT,
            "vis_period": cfg.VIS_PERIOD,
        }

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Losses in training, results otherwise.

        Args:
            batched_inputs: of each image "image" (C, H, W) in the model's format and range; in
                training "instances" with ``gt_*`` fields; "proposals" where the model makes none;
                "height" and "width" of the wanted output.

        Returns:
            A dict of scalar losses; or of each image ``{"instances": Instances}``.
        """
        if not self.training:
            return self.inference(batched_inputs)
        images = self.preprocess_image(batched_inputs)
        targets = self._targets(batched_inputs)
        features = self.backbone(images.tensor)
        proposals, proposal_losses = self._propose(images, features, batched_inputs, targets)
        _, detector_losses = self.roi_heads(images, features, proposals, targets)
        if self.vis_period > 0 and get_event_storage().iter % self.vis_period == 0:
            self.visualize_training(batched_inputs, proposals)
        return {**detector_losses, **proposal_losses}

    def _propose(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        batched_inputs: list[dict[str, Any]],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Proposals of each image and the losses on them."""
        if self.proposal_generator is not None:
            return self.proposal_generator(images, features, targets)
        if "proposals" not in batched_inputs[0]:
            raise ValueError("the model makes no proposals, so each input needs 'proposals'")
        return [x["proposals"].to(self.device) for x in batched_inputs], {}

    def inference(
        self,
        batched_inputs: list[dict[str, Any]],
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> Any:
        """Results.

        Args:
            batched_inputs: see :meth:`forward`.
            detected_instances: of each image, with ``pred_boxes`` and ``pred_classes``: the model
                then only adds masks and the like.
            do_postprocess: rescale to the wanted size and paste masks.

        Returns:
            Of each image ``{"instances": Instances}``; without postprocessing only the Instances.
        """
        assert not self.training, "inference needs model.eval()"
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        if detected_instances is None:
            proposals, _ = self._propose(images, features, batched_inputs)
            results, _ = self.roi_heads(images, features, proposals, None)
        else:
            given = [x.to(self.device) for x in detected_instances]
            results = self.roi_heads.forward_with_given_boxes(features, given)
        if not do_postprocess:
            return results
        return self._postprocess(results, batched_inputs, images.image_sizes)

    @staticmethod
    def _postprocess(
        instances: list[Instances],
        batched_inputs: list[dict[str, Any]],
        image_sizes: list[tuple[int, int]],
    ) -> list[dict[str, Instances]]:
        return [{"instances": x} for x in _rescale(instances, batched_inputs, image_sizes)]

    def visualize_training(
        self, batched_inputs: list[dict[str, Any]], proposals: list[Instances]
    ) -> None:
        """Put the first image in the event storage: ground truth left, best proposals right."""
        # Drawing is rare, and matplotlib slow to import.
        from ...data.detection_utils import convert_image_to_rgb
        from ...utils.visualizer import Visualizer

        assert self.input_format is not None, "drawing needs the input_format"
        image = batched_inputs[0]["image"].permute(1, 2, 0)
        rgb = convert_image_to_rgb(image, self.input_format)
        gt_boxes = batched_inputs[0]["instances"].gt_boxes
        shown = proposals[0].proposal_boxes[:_MAX_PROPOSALS_SHOWN].tensor.cpu().numpy()
        halves = [
            Visualizer(rgb, None).overlay_instances(boxes=boxes).get_image()
            for boxes in (gt_boxes, shown)
        ]
        picture = np.concatenate(halves, axis=1).transpose(2, 0, 1)
        name = "Left: GT bounding boxes;  Right: Predicted proposals"
        get_event_storage().put_image(name, picture)


@META_ARCH_REGISTRY.register()
class ProposalNetwork(_ImageModel):
    """Proposals only.

    Args: as of :class:`GeneralizedRCNN`.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        proposal_generator: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__(backbone, pixel_mean, pixel_std)
        self.proposal_generator = proposal_generator

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        backbone = build_backbone(cfg)
        return {
            "backbone": backbone,
            "proposal_generator": build_proposal_generator(cfg, backbone.output_shape()),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """The losses in training, else of each image ``{"proposals": Instances}``.

        Args:
            batched_inputs: see :meth:`GeneralizedRCNN.forward`.
        """
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        targets = self._targets(batched_inputs)
        proposals, losses = self.proposal_generator(images, features, targets)
        if self.training:
            return losses
        rescaled = _rescale(proposals, batched_inputs, images.image_sizes)
        return [{"proposals": x} for x in rescaled]
