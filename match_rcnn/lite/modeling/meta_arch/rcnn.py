"""R-CNN models: backbone, proposals, and what is done with each region.

Shapes: ``N`` images of a batch.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...config import CfgNode, configurable
from ...structures import ImageList, Instances
from ..backbone import Backbone, build_backbone
from ..postprocessing import detector_postprocess
from ..proposal_generator import build_proposal_generator
from ..roi_heads import build_roi_heads
from .build import META_ARCH_REGISTRY

__all__ = ["GeneralizedRCNN"]


@META_ARCH_REGISTRY.register()
class GeneralizedRCNN(nn.Module):
    """Any model of backbone, proposal generator and ROI heads.

    Args:
        backbone: images to feature maps; says how to pad.
        proposal_generator: feature maps to proposals.
        roi_heads: feature maps and proposals to detections.
        pixel_mean: of each channel, subtracted.
        pixel_std: of each channel, divided by.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        proposal_generator: nn.Module,
        roi_heads: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__()
        if len(pixel_mean) != len(pixel_std):
            raise ValueError(f"pixel mean {pixel_mean} and std {pixel_std} differ in length")
        self.backbone: Any = backbone
        self.proposal_generator = proposal_generator
        self.roi_heads: Any = roi_heads
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)

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
        }

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
        )

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """The losses in training, else of each image ``{"instances": Instances}``.

        Args:
            batched_inputs: of each image "image", (C, H, W) in the order of the config's
                ``INPUT.FORMAT``; in training "instances", its ground truth; else "height" and
                "width", the size in which results are wanted, by default the image's own.
        """
        if not self.training:
            return self.inference(batched_inputs)
        images = self.preprocess_image(batched_inputs)
        targets = [x["instances"].to(self.device) for x in batched_inputs]
        features = self.backbone(images.tensor)
        proposals, proposal_losses = self.proposal_generator(images, features, targets)
        _, detector_losses = self.roi_heads(images, features, proposals, targets)
        return {**detector_losses, **proposal_losses}

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
            proposals, _ = self.proposal_generator(images, features)
            results, _ = self.roi_heads(images, features, proposals)
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
        sizes = [
            (x.get("height", height), x.get("width", width))
            for x, (height, width) in zip(batched_inputs, image_sizes, strict=True)
        ]
        return [
            {"instances": detector_postprocess(found, *size)}
            for found, size in zip(instances, sizes, strict=True)
        ]
