"""What a config says about how a trained model computes.

bfloat16 has float32's range and needs no scaling of the loss; it runs on GPUs since Ampere and on
processors with AMX or AVX-512 BF16. float16 is for GPUs, with a scaled loss.

``torch.compile`` takes the backbone (ResNet and FPN), which holds on images of every size. What
follows it has shapes that depend on the data (NMS, sampling, categories), so that a compiler would
break it into pieces and compile them again and again.
"""

import importlib.util
import shutil
from contextlib import nullcontext
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from torch import nn

from match_rcnn.d2 import CfgNode
from match_rcnn.inference.views import Views, views_of
from match_rcnn.modeling.taxonomy import taxonomy_from_config

PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve_precision(name: str, device: str, key: str = "SOLVER.AMP.PRECISION") -> torch.dtype:
    """The format that a config key names.

    Args:
        name: "bfloat16", "float16", or "" for the device's usual one: float16 on a GPU, bfloat16
            on the CPU.
        device: the model's device type.
        key: for messages.

    Raises:
        ValueError: an unknown name, or float16 on the CPU.
    """
    if not name:
        return torch.bfloat16 if device == "cpu" else torch.float16
    if name not in PRECISIONS:
        raise ValueError(f"{key} must be '', {' or '.join(map(repr, PRECISIONS))}; got {name!r}")
    if name == "float16" and device == "cpu":
        raise ValueError(f"{key} float16 needs a GPU; use bfloat16 on the CPU")
    return PRECISIONS[name]


def bfloat16_is_fast(cpuinfo: str | Path = "/proc/cpuinfo") -> bool:
    """Whether this machine's processor computes in bfloat16; False where Linux does not say."""
    try:
        text = Path(cpuinfo).read_text(encoding="utf-8")
    except OSError:
        return False
    return bool({"amx_bf16", "avx512_bf16"} & set(text.split()))


def apply_switches(model: nn.Module, cfg: CfgNode) -> None:
    """``MODEL.CHANNELS_LAST``, ``MODEL.COMPILE``, ``TEST.PRECISION`` and ``TEST.AUG``, in place.

    Raises:
        ValueError: a switch asks for what this machine lacks.
    """
    if cfg.MODEL.CHANNELS_LAST:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if cfg.MODEL.COMPILE:
        compile_backbone(model)
    if cfg.TEST.PRECISION:
        infer_in(model, cfg.TEST.PRECISION)
    if cfg.TEST.AUG.ENABLED:
        views = views_of(cfg.TEST.AUG.SCALES, cfg.TEST.AUG.FLIP)
        see_in(model, Views(views, taxonomy_from_config(cfg), cfg.TEST.DETECTIONS_PER_IMAGE))


def infer_in(model: nn.Module, name: str) -> None:
    """From now on the model's inference runs in "bfloat16" or "float16", however it is called: by
    ``model(batch)``, or ``model.inference`` with boxes of the caller's. Training is left alone.

    Results come in float32.

    Raises:
        ValueError: see :func:`resolve_precision`; or the model has no method ``inference``.
    """
    device = next(model.parameters()).device.type
    host = _with_inference(model, "TEST.PRECISION")
    host.inference_precision = resolve_precision(name, device, "TEST.PRECISION")


def see_in(model: nn.Module, views: Views) -> None:
    """From now on the model's inference sees each image in several views.

    Raises:
        ValueError: the model has no method ``inference``.
    """
    _with_inference(model, "TEST.AUG").inference_views = views


def _with_inference(model: nn.Module, key: str) -> Any:
    host: Any = model
    if not hasattr(model, "inference"):
        raise ValueError(f"{key}: {type(model).__name__} has no method inference to change")
    # A bound method, so that a copy of the model runs the copy's weights.
    host.inference = MethodType(_infer, model)
    return host


def _infer(model: Any, *args: Any, **kwargs: Any) -> Any:
    """The class's ``inference``, in the instance's precision and views."""
    device = next(model.parameters()).device.type
    views: Views | None = getattr(model, "inference_views", None)
    precision: torch.dtype | None = getattr(model, "inference_precision", None)
    infer = type(model).inference if views is None else views.infer
    context = nullcontext() if precision is None else torch.autocast(device, dtype=precision)
    with context:
        found = infer(model, *args, **kwargs)
    for image in found:
        _to_float32(image["instances"] if isinstance(image, dict) else image)
    return found


def _to_float32(instances: Any) -> None:
    for field, value in instances.get_fields().items():
        if isinstance(value, torch.Tensor) and value.dtype in (torch.bfloat16, torch.float16):
            instances.set(field, value.float())


def compile_backbone(model: Any) -> None:
    """Compile ``model.backbone`` in place, for variable sizes; happens at its first call.

    Parameter names, checkpoints and results stay (results within rounding: operations are fused).

    Raises:
        ValueError: the compiler that torch needs is not on this machine.
    """
    missing = missing_compiler(next(model.parameters()).device.type)
    if missing:
        raise ValueError(
            f"MODEL.COMPILE needs {missing}, which this machine lacks; install it or set "
            "MODEL.COMPILE False"
        )
    model.backbone.compile(dynamic=True)


def missing_compiler(device: str) -> str:
    """What torch.compile would miss for a device type; "" if nothing."""
    if not any(map(shutil.which, ("c++", "g++", "clang++", "clang"))):
        return "a C++ compiler (g++ or clang)"
    if device == "cuda" and importlib.util.find_spec("triton") is None:
        return "triton"
    return ""
