"""Mixed precision: which number format ``SOLVER.AMP`` means, and handing it to the host's trainer.

bfloat16 has float32's range and needs no scaling of the loss; it runs on GPUs since Ampere and on
processors with AMX or AVX-512 BF16. float16 is for GPUs, with a scaled loss.
"""

from pathlib import Path
from typing import Any

import torch

from match_rcnn.d2 import HOST

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


def set_precision(trainer: Any, name: str) -> None:
    """Let the host's ``AMPTrainer`` run its forward passes in a format.

    Args:
        trainer: the inner trainer, before its first step.
        name: see :func:`resolve_precision`.

    Raises:
        ValueError: see :func:`resolve_precision`; or upstream detectron2 on the CPU, whose trainer
            knows mixed precision on GPUs only; or detectron2 0.6, whose trainer knows no bfloat16.
    """
    device = next(trainer.model.parameters()).device.type
    precision = resolve_precision(name, device)
    if HOST == "detectron2" and device == "cpu":
        raise ValueError(
            "SOLVER.AMP.ENABLED: detectron2's mixed precision needs a GPU; set it to False or "
            "choose the embedded host, MATCH_RCNN_HOST=lite"
        )
    if precision == torch.bfloat16 and not hasattr(trainer, "precision"):
        raise ValueError("SOLVER.AMP.PRECISION: detectron2 0.6 knows float16 only, not bfloat16")
    trainer.precision = precision
    trainer.grad_scaler = torch.amp.GradScaler(device, enabled=precision == torch.float16)
