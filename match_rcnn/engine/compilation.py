"""``torch.compile`` where it holds on images of every size: the backbone (ResNet and FPN).

What follows the backbone has shapes that depend on the data (NMS, sampling, categories), so that a
compiler would break it into pieces and compile them again and again.
"""

import importlib.util
import shutil
from typing import Any


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
