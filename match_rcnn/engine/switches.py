"""What a config says about how a model computes: the same results, sooner."""

from typing import Any

import torch
from torch import nn

from match_rcnn.d2 import CfgNode
from match_rcnn.engine.compilation import compile_backbone
from match_rcnn.inference.precision import resolve_precision


def apply_switches(model: nn.Module, cfg: CfgNode) -> None:
    """``MODEL.CHANNELS_LAST``, ``MODEL.COMPILE`` and ``TEST.PRECISION``, in place.

    Raises:
        ValueError: a switch asks for what this machine lacks.
    """
    if cfg.MODEL.CHANNELS_LAST:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if cfg.MODEL.COMPILE:
        compile_backbone(model)
    if cfg.TEST.PRECISION:
        infer_in(model, cfg.TEST.PRECISION)


def infer_in(model: nn.Module, name: str) -> None:
    """From now on the model's inference runs in "bfloat16" or "float16"; training is left alone.

    Results come in float32. See :func:`resolve_precision` for what it raises.
    """
    device = next(model.parameters()).device.type
    casting = _Casting(device, resolve_precision(name, device, "TEST.PRECISION"))
    model.register_forward_pre_hook(casting.begin)
    model.register_forward_hook(casting.end, always_call=True)


class _Casting:
    """Autocast as a pair of hooks: around the forward pass, so that whoever calls the model gets
    it."""

    def __init__(self, device: str, precision: torch.dtype) -> None:
        self.device, self.precision = device, precision
        self.running: list[torch.autocast] = []

    def begin(self, model: nn.Module, inputs: Any) -> None:
        if not model.training:
            self.running.append(torch.autocast(self.device, dtype=self.precision))
            self.running[-1].__enter__()

    def end(self, model: nn.Module, inputs: Any, outputs: Any) -> Any:
        if self.running:
            self.running.pop().__exit__(None, None, None)
            for image in outputs if isinstance(outputs, list) else ():
                _to_float32(image["instances"])
        return outputs


def _to_float32(instances: Any) -> None:
    for field, value in instances.get_fields().items():
        if isinstance(value, torch.Tensor) and value.dtype in (torch.bfloat16, torch.float16):
            instances.set(field, value.float())
