"""timm's classifiers as backbones (``pip install 'match_rcnn[timm]'``)."""

import importlib
from typing import Any

import torch

from match_rcnn.d2 import BACKBONE_REGISTRY, Backbone, CfgNode, ShapeSpec, configurable
from match_rcnn.modeling.backbones.stages import STAGES, fpn, freeze, replace_batch_norm


class TimmBackbone(Backbone):
    """A model of timm that gives features, by stage; weights keep timm's names below ``body``.

    Args:
        name: as ``timm.list_models()`` has it.
        pretrained: load timm's weights, from the cache or from the network.
        norm: of :data:`~match_rcnn.modeling.backbones.stages.NORMS`.
        freeze_at: 0 freezes nothing, 5 everything; how a model of timm is divided is its own.

    Raises:
        ImportError: timm is not installed.
        ValueError: an unknown name, a model without maps of strides 4 to 32, weights that are not
            to be had, or ``freeze_at`` of a part.
    """

    @configurable
    def __init__(
        self, *, name: str, pretrained: bool = False, norm: str = "", freeze_at: int = 0
    ) -> None:
        super().__init__()
        if freeze_at not in (0, 5):
            raise ValueError(
                "MODEL.BACKBONE.FREEZE_AT must be 0 (nothing) or 5 (all) for a model of timm, got "
                f"{freeze_at}"
            )
        body = _build(name, pretrained)
        strides = body.feature_info.reduction()
        missing = [stride for stride in STAGES if stride not in strides]
        if missing:
            raise ValueError(f"MODEL.TIMM.NAME: {name} has no map of stride {missing[0]}")
        self._picked = [len(strides) - 1 - strides[::-1].index(stride) for stride in STAGES]
        channels = body.feature_info.channels()
        self._out_features = list(STAGES.values())
        self._out_feature_strides = {stage: stride for stride, stage in STAGES.items()}
        self._out_feature_channels = {
            stage: channels[i] for stage, i in zip(self._out_features, self._picked, strict=True)
        }
        self.body = replace_batch_norm(body, norm)
        if freeze_at:
            freeze([self.body])
        self._channels_last = self._probe()

    @torch.no_grad()
    def _probe(self) -> bool:
        """Whether the maps are (B, H, W, C), as those of some transformers."""
        training = self.body.training
        first = self.body.eval()(torch.zeros(1, 3, 64, 64))[self._picked[0]]
        self.body.train(training)
        return bool(first.shape[1] != self._out_feature_channels["res2"])

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        node = cfg.MODEL.TIMM
        return {
            "name": node.NAME,
            "pretrained": node.PRETRAINED and not cfg.MODEL.WEIGHTS,
            "norm": node.NORM,
            "freeze_at": cfg.MODEL.BACKBONE.FREEZE_AT,
        }

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """(B, 3, H, W) images to maps (B, C, H / stride, W / stride) by stage."""
        maps = self.body(x)
        if self._channels_last:
            maps = [each.permute(0, 3, 1, 2) for each in maps]
        return {s: maps[i] for s, i in zip(self._out_features, self._picked, strict=True)}


def _build(name: str, pretrained: bool) -> Any:
    try:
        timm = importlib.import_module("timm")
    except ImportError as error:
        raise ImportError(
            "a backbone of timm needs the package: pip install 'match_rcnn[timm]'"
        ) from error
    try:
        return timm.create_model(name, pretrained=pretrained, features_only=True)
    except (RuntimeError, OSError, AttributeError) as error:
        raise ValueError(f"MODEL.TIMM: {name!r} cannot be built: {error}") from error


@BACKBONE_REGISTRY.register()
def build_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """The model that ``MODEL.TIMM`` names under an FPN."""
    return fpn(cfg, TimmBackbone(cfg))
