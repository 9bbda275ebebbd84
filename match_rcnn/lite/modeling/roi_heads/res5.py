"""The ROI heads of the default config: a ResNet's last stage on each region of the stage before it
(Ren et al., Faster R-CNN, 2015, and He et al., Deep Residual Learning, appendix A: "C4").

Boxes only: masks and keypoints want the streams of :class:`StandardROIHeads`.
"""

from typing import Any

from torch import Tensor, nn

from ...config import CfgNode, configurable
from ...layers import ShapeSpec
from ...structures import ImageList, Instances
from ..backbone.resnet import make_resnet_stage
from ..poolers import ROIPooler
from .fast_rcnn import FastRCNNOutputLayers
from .roi_heads import ROI_HEADS_REGISTRY, ROIHeads, make_pooler

__all__ = ["Res5ROIHeads"]


@ROI_HEADS_REGISTRY.register()
class Res5ROIHeads(ROIHeads):
    """Boxes from the mean of ``res5`` over a region.

    Args:
        in_features: one feature map's name.
        pooler: region features.
        res5: blocks on them.
        box_predictor: from their mean to classes and boxes.
        kwargs: of :class:`ROIHeads`.
    """

    @configurable
    def __init__(
        self,
        *,
        in_features: list[str],
        pooler: ROIPooler,
        res5: nn.Module,
        box_predictor: FastRCNNOutputLayers,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.in_features = in_features
        self.pooler = pooler
        self.res5 = res5
        self.box_predictor = box_predictor

    @classmethod
    def from_config(  # type: ignore[override]
        cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]
    ) -> dict[str, Any]:
        if cfg.MODEL.MASK_ON or cfg.MODEL.KEYPOINT_ON:
            raise ValueError(
                "Res5ROIHeads of the lite host finds boxes only; with MODEL.MASK_ON or KEYPOINT_ON "
                "set MODEL.ROI_HEADS.NAME to StandardROIHeads, as configs/Base-RCNN-FPN.yaml does"
            )
        in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
        pooler, _ = make_pooler(cfg.MODEL.ROI_BOX_HEAD, in_features, input_shape)
        blocks = make_resnet_stage(cfg.MODEL.RESNETS, index=3, num_blocks=3)
        return {
            **super().from_config(cfg),
            "in_features": in_features,
            "pooler": pooler,
            "res5": nn.Sequential(*blocks),
            "box_predictor": FastRCNNOutputLayers(
                cfg, ShapeSpec(channels=blocks[-1].out_channels, height=1, width=1)
            ),
        }

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """See :meth:`ROIHeads.forward`."""
        if self.training:
            assert targets is not None, "ROI heads need targets in training"
            proposals = self.label_and_sample_proposals(proposals, targets)
        maps = [features[name] for name in self.in_features]
        pooled = self.pooler(maps, [image.proposal_boxes for image in proposals])
        predictions = self.box_predictor(self.res5(pooled).mean(dim=(2, 3)))
        if self.training:
            return proposals, self.box_predictor.losses(predictions, proposals)
        return self.box_predictor.inference(predictions, proposals)[0], {}

    def forward_with_given_boxes(
        self, features: dict[str, Tensor], instances: list[Instances]
    ) -> list[Instances]:
        """As they are: there is nothing but boxes."""
        del features
        return instances
