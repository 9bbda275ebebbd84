"""The checkpointer of detection models."""

import logging
import os
from pathlib import Path
from typing import Any

import torch
from fvcore.common.checkpoint import Checkpointer
from torch import nn

from ...utils.files import atomic_write
from ..utils import comm
from ..utils.file_io import PathManager
from .c2_model_loading import align_and_update_state_dicts
from .weight_files import PlainWeights


class DetectionCheckpointer(PlainWeights, Checkpointer):
    """Saves ``.pth`` checkpoints; loads them and the weight files of other libraries.

    - ``.pth``: what :meth:`save` wrote, or a bare state dict. Read with ``weights_only``.
    - ``.pkl``: ``{"model": arrays, "__author__": str, "matching_heuristics": bool}`` of
      detectron2's model zoo, or Caffe2 blobs with Caffe2's names.

    With "matching heuristics" a weight goes to the parameter whose name ends in its name.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        save_to_disk: bool | None = None,
        **checkpointables: Any,
    ):
        """
        Args:
            model: also one wrapped for parallel training.
            save_dir: where checkpoints and the text file ``last_checkpoint`` go.
            save_to_disk: None for the main process alone.
            checkpointables: more objects with ``state_dict`` and ``load_state_dict``, by key.
        """
        if save_to_disk is None:
            save_to_disk = comm.is_main_process()
        super().__init__(model, save_dir, save_to_disk=save_to_disk, **checkpointables)
        self.path_manager = PathManager
        self.logger = logging.getLogger(__name__)

    def save(self, name: str, **kwargs: Any) -> None:
        """Write ``save_dir/name.pth``, whole or not at all, and name it in ``last_checkpoint``.

        Args:
            name: without folder and suffix.
            kwargs: more data, returned by :meth:`load`.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        if os.path.basename(name) != name:
            raise ValueError(f"a checkpoint's name may have no folder, got {name!r}")
        parts = {"model": self.model, **self.checkpointables}
        states = {key: part.state_dict() for key, part in parts.items()}
        path = self._local_dir() / f"{name}.pth"
        self.logger.info("Saving checkpoint to %s", path)
        with atomic_write(path) as file:
            torch.save({**states, **kwargs}, file)
        self.tag_last_checkpoint(path.name)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Name the checkpoint from which training is to resume."""
        with atomic_write(self._local_dir() / "last_checkpoint") as file:
            file.write(last_filename_basename.encode())

    def _local_dir(self) -> Path:
        return Path(self.path_manager.get_local_path(self.save_dir))

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        if checkpoint.get("matching_heuristics", False):
            weights = {k: torch.as_tensor(v) for k, v in checkpoint["model"].items()}
            caffe2 = checkpoint.get("__author__") == "Caffe2"
            expected = self.model.state_dict()
            checkpoint["model"] = align_and_update_state_dicts(expected, weights, caffe2)
        found = super()._load_model(checkpoint)
        return found._replace(
            missing_keys=[k for k in found.missing_keys if not _is_constant(k)],
            unexpected_keys=[k for k in found.unexpected_keys if not _is_constant(k)],
        )


def _is_constant(key: str) -> bool:
    """Whether a config, not training, gives this value; older files hold some of them."""
    return key in ("pixel_mean", "pixel_std") or "anchor_generator.cell_anchors" in key
