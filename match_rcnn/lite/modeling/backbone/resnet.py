"""ResNet (He et al., Deep Residual Learning, 2016) with 18, 34, 50, 101 or 152 layers."""

import itertools
import math
from typing import Any

from torch import Tensor, nn

from ...config import CfgNode
from ...layers import CNNBlockBase, ShapeSpec
from .backbone import Backbone
from .blocks import BasicBlock, BasicStem, BottleneckBlock, make_stage
from .build import BACKBONE_REGISTRY

__all__ = ["ResNet", "build_resnet_backbone"]

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
        out_features: what to return, of "stem", "res2" ...; the last one by default.
        freeze_at: see :meth:`freeze`.

    Raises:
        ValueError: for a feature in ``out_features`` that there is not.
    """

    def __init__(
        self,
        stem: CNNBlockBase,
        stages: list[list[CNNBlockBase]],
        out_features: list[str] | None = None,
        freeze_at: int = 0,
    ) -> None:
        super().__init__()
        self.stem = stem
        self._out_feature_strides = {"stem": stem.stride}
        self._out_feature_channels = {"stem": stem.out_channels}
        if out_features is not None:
            # Parameters without gradient would make distributed training wait for them.
            needed = [_STAGE_NAMES.index(f) + 1 for f in out_features if f in _STAGE_NAMES]
            stages = stages[: max(needed, default=0)]
        self.stage_names = tuple(f"res{index + 2}" for index in range(len(stages)))
        last = self._add_stages(stages)
        self._out_features = [last] if out_features is None else list(out_features)
        self._check_out_features()
        self.freeze(freeze_at)

    def _add_stages(self, stages: list[list[CNNBlockBase]]) -> str:
        """Register the stages; the last one's name, or the stem's."""
        last = "stem"
        for name, blocks in zip(self.stage_names, stages, strict=True):
            self.add_module(name, nn.Sequential(*blocks))
            stride = math.prod(block.stride for block in blocks)
            self._out_feature_strides[name] = self._out_feature_strides[last] * stride
            self._out_feature_channels[name] = blocks[-1].out_channels
            last = name
        return last

    def _check_out_features(self) -> None:
        available = list(self._out_feature_strides)
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
            raise ValueError(f"a ResNet takes a batch of images, got the shape {tuple(x.shape)}")
        features = {"stem": self.stem(x)}
        x = features["stem"]
        for name, stage in zip(self.stage_names, self.stages, strict=True):
            features[name] = x = stage(x)
        return {name: features[name] for name in self._out_features}

    def freeze(self, freeze_at: int = 0) -> "ResNet":
        """Freeze the first parts: 1 is the stem, 2 also ``res2``, and so on.

        Frozen parts take no gradient and their batch norms become ``FrozenBatchNorm2d``.
        """
        parts = [[self.stem], *(stage.children() for stage in self.stages)]
        for block in itertools.chain.from_iterable(parts[: max(freeze_at, 0)]):
            block.freeze()  # type: ignore[operator]
        return self


@BACKBONE_REGISTRY.register()
def build_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """The ResNet that ``cfg.MODEL.RESNETS`` and ``cfg.MODEL.BACKBONE`` describe."""
    node = cfg.MODEL.RESNETS
    blocks_per_stage = _blocks_per_stage(node.DEPTH)
    _check_resnet_config(node)
    stem = BasicStem(input_shape.channels or 3, node.STEM_OUT_CHANNELS, node.NORM)
    # All four are made, even where fewer are kept: the layers after them then begin with the same
    # weights as detectron2's under one seed.
    stages = [
        make_resnet_stage(node, index, num_blocks, basic=node.DEPTH in _BASIC_DEPTHS)
        for index, num_blocks in enumerate(blocks_per_stage)
    ]
    return ResNet(
        stem, stages, out_features=node.OUT_FEATURES, freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT
    )


def make_resnet_stage(
    node: CfgNode, index: int, num_blocks: int, basic: bool = False
) -> list[CNNBlockBase]:
    """The blocks of ``res2`` (``index`` 0) to ``res5`` (3), as ``cfg.MODEL.RESNETS`` says; basic
    ones or bottlenecks."""
    kwargs: dict[str, Any] = {}
    if not basic:
        kwargs = {
            "bottleneck_channels": node.NUM_GROUPS * node.WIDTH_PER_GROUP * 2**index,
            "stride_in_1x1": node.STRIDE_IN_1X1,
            "num_groups": node.NUM_GROUPS,
        }
    out_channels = node.RES2_OUT_CHANNELS * 2**index
    return make_stage(
        BasicBlock if basic else BottleneckBlock,
        num_blocks,
        in_channels=node.STEM_OUT_CHANNELS if index == 0 else out_channels // 2,
        out_channels=out_channels,
        stride_per_block=[1 if index == 0 else 2] + [1] * (num_blocks - 1),
        norm=node.NORM,
        **kwargs,
    )


def _check_resnet_config(node: CfgNode) -> None:
    """Raise ValueError for values of ``MODEL.RESNETS`` that no ResNet here can have."""
    if node.DEPTH in _BASIC_DEPTHS:
        needed = {"RES2_OUT_CHANNELS": 64, "NUM_GROUPS": 1}
        for key, value in needed.items():
            if node[key] != value:
                raise ValueError(
                    f"MODEL.RESNETS.{key} must be {value} for DEPTH {node.DEPTH}, got {node[key]}"
                )
