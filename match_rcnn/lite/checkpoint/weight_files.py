"""Files of weights, read without running code from them, for the checkpointers of both hosts."""

import os
import pickle
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from .safe_pickle import load_arrays

# How files of torch.save begin: a zip archive, or the pickles of torch before 1.6.
_BEGINNINGS = (b"PK\x03\x04", b"\x80\x02")


def read_plain(path: str | os.PathLike[str]) -> Any:
    """What a ``.pkl`` file of numpy arrays, or any other file as of ``torch.save``, holds.

    A ``.safetensors`` file is ``{"model": tensors by name, "metadata": texts by name}``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, of another kind or would need to run code.
    """
    path = os.fspath(path)
    with open(path, "rb") as file:
        try:
            if path.endswith(".safetensors"):
                return _read_safetensors(path)
            if path.endswith(".pkl"):
                return load_arrays(file)
            if not file.read(4).startswith(_BEGINNINGS):
                raise pickle.UnpicklingError("it does not begin as files of torch.save do")
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, SafetensorError, EOFError, RuntimeError) as error:
            reason = _reason(error)
            raise ValueError(f"{path} cannot be read as plain weights: {reason}") from error


def _read_safetensors(path: str) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return {"model": weights, "metadata": file.metadata() or {}}


def _reason(error: Exception) -> str:
    """What is wrong with the file: our own sentence, or the one that matters in torch's page."""
    message = str(error)
    code = re.search(r"Unsupported (?:global|class): (?:GLOBAL )?(\S+)", message)
    if code:
        return f"it asks for {code[1]}, and could run code by that"
    ours = isinstance(error, pickle.UnpicklingError) and "\n" not in message
    return message if ours else "it is damaged"


def read_checkpoint(path: str) -> dict[str, Any]:
    """A file as a checkpoint, ``{"model": weights by name, ...}``.

    Bare weights are taken as well. In a ``.pkl`` they are Caffe2's: their names need translation.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: as :func:`read_plain`; the file holds something else than weights by name.
    """
    content = read_plain(path)
    caffe2 = path.endswith(".pkl") and not (
        isinstance(content, dict) and {"model", "__author__"} <= content.keys()
    )
    if caffe2:
        blobs = content.get("blobs", content) if isinstance(content, dict) else content
        weights = {k: v for k, v in _weights(blobs, path).items() if not k.endswith("_momentum")}
        return {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}
    wrapped = isinstance(content, dict) and "model" in content
    checkpoint: dict[str, Any] = content if wrapped else {"model": content}
    _weights(checkpoint["model"], path)
    return checkpoint


def _weights(content: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds no weights by name, but a {type(content).__name__}")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor | np.ndarray):
            what = f"a {type(value).__name__} by the name of {name!r}"
            raise ValueError(f"{path} holds {what}, where weights by name were expected")
    return content


class PlainWeights:
    """How a checkpointer reads; stands before fvcore's or detectron2's among the bases.

    A path that ends in ``?matching_heuristics=True`` asks for the matching of names by their ends.
    """

    _heuristics = False

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load the model, and the named ``checkpointables`` (None: all), from ``path``.

        Wrong shapes, missing and unexpected names are skipped and logged.

        Args:
            path: file or address; "" loads nothing.

        Returns:
            What else the file holds.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is damaged, would need to run code, or holds no weights.
        """
        local = self._resolve(os.fspath(path)) if path else path
        base: Any = super()
        rest: dict[str, Any] = base.load(local, checkpointables=checkpointables)
        return rest

    def _resolve(self, path: str) -> str:
        """The local file behind ``path``; notes the query that may follow it."""
        address = urlsplit(path)
        query = parse_qs(address.query)
        self._heuristics = query.pop("matching_heuristics", []) == ["True"]
        if query:
            raise ValueError(f"{path}: unknown options {', '.join(query)}")
        bare = urlunsplit(address._replace(query="")) if address.query else path
        paths: Any = self.path_manager  # type: ignore[attr-defined]
        local: str = paths.get_local_path(bare)
        if not os.path.isfile(local):
            raise FileNotFoundError(f"there are no weights at {bare}")
        return local

    def _load_file(self, filename: str) -> dict[str, Any]:
        checkpoint = read_checkpoint(filename)
        if self._heuristics:
            checkpoint["matching_heuristics"] = True
        return checkpoint
