"""Training the match head alone, on top of a detector that stays as it is."""

from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from match_rcnn.d2 import CfgNode, HookBase
from match_rcnn.modeling.streams.matching import MatchStream


def check_match_alone(cfg: CfgNode) -> None:
    """
    Raises:
        ValueError: the match head is to be trained alone, on a detector that has learned nothing.
    """
    if cfg.MODEL.ROI_MATCH_HEAD.TRAIN_ALONE and not cfg.MODEL.WEIGHTS:
        raise ValueError(
            "MODEL.ROI_MATCH_HEAD.TRAIN_ALONE trains on top of a detector: name its checkpoint in "
            "MODEL.WEIGHTS"
        )


def train_match_head_alone(model: torch.nn.Module) -> None:
    """Let gradients reach the match head's parameters only, and leave the other streams out.

    Raises:
        ValueError: the model has no match head.
    """
    head = _match_head(model)
    heads: Any = model.roi_heads
    heads.train_only(MatchStream)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for parameter in head.parameters():
        parameter.requires_grad_(True)


class KeepStatistics(HookBase):
    """Batch norm outside of the match head normalises by its running statistics, which stay."""

    def before_step(self) -> None:
        trainer: Any = self.trainer
        model: Any = getattr(trainer.model, "module", trainer.model)
        own = set(_match_head(model).modules())
        for module in model.modules():
            if isinstance(module, _BatchNorm) and module not in own:
                module.eval()


def _match_head(model: Any) -> torch.nn.Module:
    head: torch.nn.Module | None = getattr(model.roi_heads, "match_head", None)
    if head is None:
        raise ValueError(
            "MODEL.ROI_MATCH_HEAD.TRAIN_ALONE needs a match head: MODEL.MATCH_ON is False"
        )
    return head
