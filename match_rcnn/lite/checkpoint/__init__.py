"""Saving and loading of weights and training state."""

from fvcore.common.checkpoint import PeriodicCheckpointer

from .detection_checkpoint import DetectionCheckpointer

__all__ = ["DetectionCheckpointer", "PeriodicCheckpointer"]
