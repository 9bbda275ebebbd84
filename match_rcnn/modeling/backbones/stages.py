"""What the adapters share: maps by stage, normalised, frozen, under an FPN.

Shapes: images ``(B, 3, H, W)`` with H and W multiples of 32; stage ``resN`` has stride ``2**N``.
"""

from collections.abc import Iterable

from torch import nn

from match_rcnn.d2 import FPN, Backbone, CfgNode, FrozenBatchNorm2d, LastLevelMaxPool

#: Stages by their stride.
STAGES = {4: "res2", 8: "res3", 16: "res4", 32: "res5"}
NORMS = ("", "FrozenBN", "SyncBN")
#: Parameters of these names, which no norm layer holds, are not to decay either (Liu et al., Swin
#: Transformer, ICCV 2021; A ConvNet for the 2020s, CVPR 2022).
WITHOUT_DECAY = ("layer_scale", "gamma", "relative_position_bias_table")


def fpn(cfg: CfgNode, bottom_up: Backbone) -> Backbone:
    """The host's FPN over ``bottom_up``, with p6 for the RPN, as ``MODEL.FPN`` says."""
    return FPN(
        bottom_up=bottom_up,
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
    )


def has_layer_norm(model: nn.Module) -> bool:
    """Whether a network normalises by layers; then its stages end without a norm of their own."""
    return any(isinstance(module, nn.LayerNorm) for module in model.modules())


def replace_batch_norm(model: nn.Module, norm: str) -> nn.Module:
    """The model with its batch norm layers as a config asks for them.

    Args:
        norm: of :data:`NORMS`: as they are, with fixed statistics and weights, or over all
            processes. Names in the state dict stay.

    Raises:
        ValueError: another name.
    """
    if norm not in NORMS:
        raise ValueError(f"a backbone's NORM must be one of {NORMS}, got {norm!r}")
    if norm == "SyncBN":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return FrozenBatchNorm2d.convert_frozen_batchnorm(model) if norm == "FrozenBN" else model


def freeze(modules: Iterable[nn.Module]) -> None:
    """No parameter learns, and no statistics move."""
    for module in modules:
        for parameter in module.parameters():
            parameter.requires_grad = False
        FrozenBatchNorm2d.convert_frozen_batchnorm(module)
