"""ResNet (He et al., Deep Residual Learning, 2016) with 18, 34, 50, 101 or 152 layers."""

from typing import Any

import numpy as np
from torch import Tensor, nn

from ...config import CfgNode
from ...layers import CNNBlockBase, ShapeSpec
from .backbone import Backbone
from .blocks import BasicBlock, BasicStem, BottleneckBlock, make_stage
from .build import BACKBONE_REGISTRY

__all__ = [
    "BasicBlock",
    "BasicStem",
    "BottleneckBlock",
    "ResNet",
    "ResNetBlockBase",
    "build_resnet_backbone",
    "make_stage",
]

ResNetBlockBase = CNNBlockBase

_BLOCKS_PER_STAGE = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
_BASIC_DEPTHS = (18, 34)
_STAGE_NAMES = ("res2", "res3", "res4", "res5")


def _blocks_per_stage(depth: int) -> tuple[int, ...]:
    if depth not in _BLOCKS_PER_STAGE:
        raise ValueError(f"no ResNet of depth {depth}; there are {list(_BLOCKS_PER_STAGE)}")
    return _BLOCKS_PER_STAGE[depth]


class ResNet(Backbone):
    """A stem and stages ``res2``, ``res3``, ...; stages beyond the last one asked for are dropped.

    Args:
        stem: to a quarter of the image's size.
        stages: lists of blocks, as :meth:`make_stage` gives them.
        num_classes: adds average pooling and a linear layer, the feature "linear".
        out_features: what to return, of "stem", "res2" ... and "linear"; the last one by default.
        freeze_at: see :meth:`freeze`.

    Raises:
        ValueError: for a feature in ``out_features`` that there is not.
    """

    def __init__(
        self,
        stem: CNNBlockBase,
        stages: list[list[CNNBlockBase]],
        num_classes: int | None = None,
        out_features: list[str] | None = None,
        freeze_at: int = 0,
    ) -> None:
        super().__init__()
        self.stem = stem
        self.num_classes = num_classes
        self._out_feature_strides = {"stem": stem.stride}
        self._out_feature_channels = {"stem": stem.out_channels}
        if out_features is not None:
            # Parameters without gradient would make distributed training wait for them.
            needed = [_STAGE_NAMES.index(f) + 1 for f in out_features if f in _STAGE_NAMES]
            stages = stages[: max(needed, default=0)] if num_classes is None else stages
        self.stage_names = tuple(f"res{index + 2}" for index in range(len(stages)))
        last = self._add_stages(stages)
        if num_classes is not None:
            self._add_classifier(self._out_feature_channels[last], num_classes)
            last = "linear"
        self._out_features = [last] if out_features is None else list(out_features)
        self._check_out_features()
        self.freeze(freeze_at)

    def _add_stages(self, stages: list[list[CNNBlockBase]]) -> str:
        """Register the stages; the last one's name, or the stem's."""
        last = "stem"
        for name, blocks in zip(self.stage_names, stages, strict=True):
            self.add_module(name, nn.Sequential(*blocks))
            stride = int(np.prod([block.stride for block in blocks]))
            self._out_feature_strides[name] = self._out_feature_strides[last] * stride
            self._out_feature_channels[name] = blocks[-1].out_channels
            last = name
        return last

    def _add_classifier(self, channels: int, num_classes: int) -> None:
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.linear = nn.Linear(channels, num_classes)
        # Accurate, Large Minibatch SGD (Goyal et al., 2017), section 5.1.
        nn.init.normal_(self.linear.weight, std=0.01)

    def _check_out_features(self) -> None:
        available = [name for name, _ in self.named_children()]
        unknown = [name for name in self._out_features if name not in available]
        if unknown or not self._out_features:
            raise ValueError(f"no ResNet features {unknown}; there are {', '.join(available)}")

    @property
    def stages(self) -> list[nn.Module]:
        """The stages in order."""
        return [self.get_submodule(name) for name in self.stage_names]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, C, H, W) images to the features asked for."""
        if x.dim() != 4:
            raise ValueError(f"ResNet takes (N, C, H, W), got {tuple(x.shape)}")
        x = self.stem(x)
        outputs = {"stem": x} if "stem" in self._out_features else {}
        for name, stage in zip(self.stage_names, self.stages, strict=True):
            x = stage(x)
            if name in self._out_features:
                outputs[name] = x
        if "linear" in self._out_features:
            outputs["linear"] = self.linear(self.avgpool(x).flatten(1))
        return outputs

    def freeze(self, freeze_at: int = 0) -> "ResNet":
        """Freeze the first parts: 1 is the stem, 2 also ``res2``, and so on.

        Frozen parts take no gradient and their batch norms become ``FrozenBatchNorm2d``.
        """
        if freeze_at >= 1:
            self.stem.freeze()
        for index, stage in enumerate(self.stages, start=2):
            if freeze_at >= index:
                for block in stage.children():
                    block.freeze()  # type: ignore[operator]
        return self

    @staticmethod
    def make_stage(
        block_class: type[CNNBlockBase],
        num_blocks: int,
        *,
        in_channels: int,
        out_channels: int,
        **kwargs: Any,
    ) -> list[CNNBlockBase]:
        """See :func:`.blocks.make_stage`."""
        return make_stage(
            block_class, num_blocks, in_channels=in_channels, out_channels=out_channels, **kwargs
        )

    @staticmethod
    def make_default_stages(
        depth: int, block_class: type[CNNBlockBase] | None = None, **kwargs: Any
    ) -> list[list[CNNBlockBase]]:
        """The four stages of an ordinary ResNet; ``kwargs`` go to every block."""
        basic = depth in _BASIC_DEPTHS
        block_class = block_class or (BasicBlock if basic else BottleneckBlock)
        in_channels, out_channels = 64, 64 if basic else 256
        stages = []
        for index, num_blocks in enumerate(_blocks_per_stage(depth)):
            per_stage = {} if basic else {"bottleneck_channels": out_channels // 4}
            stages.append(
                make_stage(
                    block_class,
                    num_blocks,
                    in_channels=in_channels,
                    out_channels=out_channels,
                    stride_per_block=_strides(num_blocks, 1 if index == 0 else 2),
                    **per_stage,
                    **kwargs,
                )
            )
            in_channels, out_channels = out_channels, out_channels * 2
        return stages


def _strides(num_blocks: int, first: int) -> list[int]:
    return [first] + [1] * (num_blocks - 1)


@BACKBONE_REGISTRY.register()
def build_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """The ResNet that ``cfg.MODEL.RESNETS`` and ``cfg.MODEL.BACKBONE`` describe."""
    node = cfg.MODEL.RESNETS
    blocks_per_stage = _blocks_per_stage(node.DEPTH)
    _check_resnet_config(node)
    stem = BasicStem(input_shape.channels or 3, node.STEM_OUT_CHANNELS, node.NORM)
    stages = []
    in_channels, out_channels = node.STEM_OUT_CHANNELS, node.RES2_OUT_CHANNELS
    # All four are made, even where fewer are kept: the layers after them then begin with the same
    # weights as detectron2's under one seed.
    for index, num_blocks in enumerate(blocks_per_stage):
        dilation = node.RES5_DILATION if index == 3 else 1
        first_stride = 1 if index == 0 or dilation == 2 else 2
        stages.append(
            make_stage(
                BasicBlock if node.DEPTH in _BASIC_DEPTHS else BottleneckBlock,
                num_blocks,
                in_channels=in_channels,
                out_channels=out_channels,
                stride_per_block=_strides(num_blocks, first_stride),
                norm=node.NORM,
                **_bottleneck_kwargs(node, index, dilation),
            )
        )
        in_channels, out_channels = out_channels, out_channels * 2
    return ResNet(
        stem, stages, out_features=node.OUT_FEATURES, freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT
    )


def _bottleneck_kwargs(node: CfgNode, index: int, dilation: int) -> dict[str, Any]:
    """What a block of stage ``index`` takes beyond channels, stride and norm."""
    if node.DEPTH in _BASIC_DEPTHS:
        return {}
    return {
        "bottleneck_channels": node.NUM_GROUPS * node.WIDTH_PER_GROUP * 2**index,
        "stride_in_1x1": node.STRIDE_IN_1X1,
        "dilation": dilation,
        "num_groups": node.NUM_GROUPS,
    }


def _check_resnet_config(node: CfgNode) -> None:
    """Raise ValueError for values of ``MODEL.RESNETS`` that no ResNet here can have."""
    if any(node.DEFORM_ON_PER_STAGE):
        raise ValueError(
            "MODEL.RESNETS.DEFORM_ON_PER_STAGE: the lite host has no deformable convolutions; "
            "use detectron2 as the host (MATCH_RCNN_HOST=detectron2)"
        )
    if node.RES5_DILATION not in (1, 2):
        raise ValueError(f"MODEL.RESNETS.RES5_DILATION must be 1 or 2, got {node.RES5_DILATION}")
    if node.DEPTH in _BASIC_DEPTHS:
        needed = {"RES2_OUT_CHANNELS": 64, "RES5_DILATION": 1, "NUM_GROUPS": 1}
        for key, value in needed.items():
            if node[key] != value:
                raise ValueError(
                    f"MODEL.RESNETS.{key} must be {value} for DEPTH {node.DEPTH}, got {node[key]}"
                )
