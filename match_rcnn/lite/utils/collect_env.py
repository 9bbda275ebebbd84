"""What a run stood on: versions and devices, for the head of a log."""

import os
import platform
import sys
from importlib import metadata

import torch
import torchvision
from tabulate import tabulate

__all__ = ["collect_env_info"]

_PACKAGES = ("numpy", "fvcore", "iopath", "pycocotools", "Pillow")


def collect_env_info() -> str:
    """A table of platform, versions and devices."""
    rows = [
        ("platform", platform.platform()),
        ("Python", sys.version.replace("\n", "")),
        ("torch", torch.__version__),
        ("torchvision", torchvision.__version__),
        *((name, _version(name)) for name in _PACKAGES),
        ("OpenCV", _opencv()),
        ("threads", str(torch.get_num_threads())),
        ("DETECTRON2_DATASETS", os.environ.get("DETECTRON2_DATASETS", "not set")),
        ("CUDA", str(torch.version.cuda) if torch.cuda.is_available() else "not available"),
    ]
    for i in range(torch.cuda.device_count()):
        rows.append((f"GPU {i}", torch.cuda.get_device_name(i)))
    return tabulate(rows)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _opencv() -> str:
    try:
        import cv2
    except ImportError:
        return "not installed"
    return str(cv2.__version__)
