"""torchvision's classifiers as backbones: ConvNeXt, Swin, MobileNetV3, EfficientNet and others
whose layers are a sequence called ``features``.

The weights keep torchvision's names below ``backbone.bottom_up``, so that a file of its weights
fits (``tools/convert_weights.py``). The last map of each stride is a stage's; where a network
normalises by layers, each stage gets a layer norm of its own, as the detectors of Swin (Liu et al.,
ICCV 2021) and ConvNeXt (Liu et al., CVPR 2022) have it.
"""

from typing import Any

import torch
from torch import nn
from torchvision import models
from torchvision.models.convnext import LayerNorm2d

from match_rcnn.d2 import BACKBONE_REGISTRY, Backbone, CfgNode, ShapeSpec, configurable
from match_rcnn.modeling.backbones.stages import (
    STAGES,
    fpn,
    freeze,
    has_layer_norm,
    replace_batch_norm,
)

Tensor = torch.Tensor

_PROBE = 64


class TorchvisionBackbone(Backbone):
    """A classifier's ``features``, by stage.

    Args:
        name: as ``torchvision.models.list_models()`` has it, such as ``"convnext_tiny"``.
        weights: ``"DEFAULT"`` or another name of torchvision's weights for it, which are loaded
            from the cache or from the network; ``""``: at random.
        norm: of :data:`~match_rcnn.modeling.backbones.stages.NORMS`.
        freeze_at: as for a ResNet: 0 freezes nothing, 1 the stem (all of stride 2, or the one layer
            that a network begins with), n all up to stride 2**n.
        last: the stage behind which layers are left out; "": none are.

    Raises:
        ValueError: an unknown name, a model of another form, a stage that it has not, or weights
            that are not to be had.
    """

    @configurable
    def __init__(
        self, *, name: str, weights: str = "", norm: str = "", freeze_at: int = 0, last: str = ""
    ) -> None:
        super().__init__()
        model = _build(name, weights)
        self.features = nn.Sequential(*_layers(replace_batch_norm(model, norm)))
        # Swin's maps are (B, H, W, C).
        self._channels_last = isinstance(model, models.SwinTransformer)
        maps = self._probe()
        strides = [_PROBE // size[-1] for size in maps]
        #: Index of the last layer of each stage.
        self._ends = {
            len(strides) - 1 - strides[::-1].index(stride): stage
            for stride, stage in STAGES.items()
            if stride in strides
        }
        if last:
            self._end_with(last)
        self._out_features = list(self._ends.values())
        channels = {stage: maps[end][1] for end, stage in self._ends.items()}
        self._out_feature_channels = channels
        self._out_feature_strides = {stage: strides[end] for end, stage in self._ends.items()}
        norms = has_layer_norm(self.features)
        self.norms = nn.ModuleDict(
            {stage: LayerNorm2d(width) for stage, width in channels.items()} if norms else {}
        )
        freeze(
            layer
            for i, (layer, stride) in enumerate(zip(self.features, strides, strict=False))
            if freeze_at and (i == 0 or stride <= 2**freeze_at)
        )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        node = cfg.MODEL.TORCHVISION
        return {
            "name": node.NAME,
            # MODEL.WEIGHTS has them all.
            "weights": "" if cfg.MODEL.WEIGHTS else node.WEIGHTS,
            "norm": node.NORM,
            "freeze_at": cfg.MODEL.BACKBONE.FREEZE_AT,
        }

    def _end_with(self, last: str) -> None:
        """Leave out the stages, and the layers, behind one."""
        end = next((end for end, stage in self._ends.items() if stage == last), None)
        if end is None:
            raise ValueError(f"there is no stage {last!r}; there are {list(self._ends.values())}")
        self.features = nn.Sequential(*list(self.features)[: end + 1])
        self._ends = {i: stage for i, stage in self._ends.items() if i <= end}

    @torch.no_grad()
    def _probe(self) -> list[torch.Size]:
        """The shape (B, C, h, w) behind each layer, for an image of ``_PROBE`` pixels a side."""
        training = self.features.training
        self.features.eval()
        x, shapes = torch.zeros(1, 3, _PROBE, _PROBE), []
        for layer in self.features:
            x = layer(x)
            shapes.append(self._channels_first(x).shape)
        self.features.train(training)
        return shapes

    def _channels_first(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2) if self._channels_last else x

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) images to maps (B, C, H / stride, W / stride) by stage."""
        maps = {}
        for i, layer in enumerate(self.features):
            x = layer(x)
            stage = self._ends.get(i)
            if stage is not None:
                out = self._channels_first(x)
                maps[stage] = self.norms[stage](out) if stage in self.norms else out
        return maps


def _build(name: str, weights: str) -> nn.Module:
    if name not in models.list_models():
        raise ValueError(
            f"MODEL.TORCHVISION.NAME: torchvision has no model {name!r}; see "
            "torchvision.models.list_models()"
        )
    try:
        model: nn.Module = models.get_model(name, weights=weights or None)
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"MODEL.TORCHVISION.WEIGHTS: {weights!r} of {name} cannot be loaded ({error}); convert "
            "a file of them with tools/convert_weights.py and name it in MODEL.WEIGHTS"
        ) from error
    if not isinstance(getattr(model, "features", None), nn.Sequential):
        raise ValueError(
            f"MODEL.TORCHVISION.NAME: {name} has no sequence of layers called features; ConvNeXt, "
            "Swin, MobileNet and EfficientNet have one"
        )
    return model


def _layers(model: nn.Module) -> list[nn.Module]:
    return list(model.get_submodule("features").children())


@BACKBONE_REGISTRY.register()
def build_torchvision_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """The classifier that ``MODEL.TORCHVISION`` names under an FPN."""
    return fpn(cfg, TorchvisionBackbone(cfg))


@BACKBONE_REGISTRY.register()
def build_torchvision_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """The classifier that ``MODEL.TORCHVISION`` names up to the stage that a recognition model
    takes: VGG16 to conv4_3 for ``MODEL.RECOGNITION.IN_FEATURE res3``."""
    explicit = TorchvisionBackbone.from_config(cfg)
    return TorchvisionBackbone(**explicit, last=cfg.MODEL.RECOGNITION.IN_FEATURE)
