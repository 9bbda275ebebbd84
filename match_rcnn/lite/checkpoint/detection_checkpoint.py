"""The checkpointer of detection models."""

import logging
import os
import pickle
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

import torch
from fvcore.common.checkpoint import Checkpointer
from torch import nn

from ..utils import comm
from ..utils.file_io import PathManager
from .atomic_file import whole_file
from .c2_model_loading import align_and_update_state_dicts
from .safe_pickle import load_arrays


class DetectionCheckpointer(Checkpointer):
    """Saves ``.pth`` checkpoints; loads them and the weight files of other libraries.

    - ``.pth``: what :meth:`save` wrote, or a bare state dict. Read with ``weights_only``.
    - ``.pkl``: ``{"model": arrays, "__author__": str, "matching_heuristics": bool}`` of
      detectron2's model zoo, or Caffe2 blobs with Caffe2's names.

    With "matching heuristics" a weight goes to the parameter whose name ends in its name; a path
    that ends in ``?matching_heuristics=True`` asks for it. Nothing in a file is run.
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
        self._heuristics = False

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
        data = {"model": self.model.state_dict()}
        data |= {key: part.state_dict() for key, part in self.checkpointables.items()}
        path = os.path.join(self._local_save_dir(), f"{name}.pth")
        self.logger.info("Saving checkpoint to %s", path)
        with whole_file(path) as file:
            torch.save({**data, **kwargs}, file)
        self.tag_last_checkpoint(f"{name}.pth")

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Name the checkpoint from which training is to resume."""
        with whole_file(os.path.join(self._local_save_dir(), "last_checkpoint")) as file:
            file.write(last_filename_basename.encode())

    def _local_save_dir(self) -> str:
        folder: str = self.path_manager.get_local_path(self.save_dir)
        os.makedirs(folder, exist_ok=True)
        return folder

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load the model, and the named ``checkpointables`` (None: all), from ``path``.

        Wrong shapes, missing and unexpected names are skipped and logged.

        Args:
            path: file or address; "" loads nothing.

        Returns:
            What else the file holds.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is damaged or would need to run code.
        """
        self._heuristics = False
        if path:
            path = self._resolve(os.fspath(path))
        rest: dict[str, Any] = super().load(path, checkpointables=checkpointables)
        return rest

    def _resolve(self, path: str) -> str:
        """The local file behind ``path``; notes the query that may follow it."""
        address = urlsplit(path)
        query = parse_qs(address.query)
        if query.pop("matching_heuristics", []) == ["True"]:
            self._heuristics = True
        if query:
            raise ValueError(f"{path}: unknown options {', '.join(query)}")
        bare = urlunsplit(address._replace(query="")) if address.query else path
        local: str = self.path_manager.get_local_path(bare)
        if not os.path.isfile(local):
            raise FileNotFoundError(f"Checkpoint {bare} not found")
        return local

    def _load_file(self, filename: str) -> dict[str, Any]:
        try:
            if filename.endswith(".pkl"):
                with open(filename, "rb") as file:
                    checkpoint = _from_pickle(load_arrays(file))
            else:
                checkpoint = torch.load(filename, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
            raise ValueError(f"{filename} cannot be loaded as plain weights: {error}") from error
        if not isinstance(checkpoint, dict):
            raise ValueError(f"{filename} holds a {type(checkpoint).__name__}, expected weights")
        if "model" not in checkpoint:
            checkpoint = {"model": checkpoint}
        if self._heuristics:
            checkpoint["matching_heuristics"] = True
        return checkpoint

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        if checkpoint.get("matching_heuristics", False):
            self._convert_ndarray_to_tensor(checkpoint["model"])
            checkpoint["model"] = align_and_update_state_dicts(
                self.model.state_dict(),
                checkpoint["model"],
                c2_conversion=checkpoint.get("__author__") == "Caffe2",
            )
        incompatible = super()._load_model(checkpoint)
        return incompatible._replace(
            missing_keys=[k for k in incompatible.missing_keys if not _is_constant(k)],
            unexpected_keys=[k for k in incompatible.unexpected_keys if not _is_constant(k)],
        )


def _is_constant(key: str) -> bool:
    """Whether a config, not training, gives this value; older files hold some of them."""
    return key in ("pixel_mean", "pixel_std") or "anchor_generator.cell_anchors" in key


def _from_pickle(data: Any) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise pickle.UnpicklingError(f"expected a dict of weights, got {type(data).__name__}")
    if "model" in data and "__author__" in data:
        return data
    blobs = data.get("blobs", data)
    weights = {k: v for k, v in blobs.items() if not k.endswith("_momentum")}
    return {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}
