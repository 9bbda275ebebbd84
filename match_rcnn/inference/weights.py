"""Weights by name: a shipped model, a file, an address with a checksum, a file of a hub."""

import os
import re
import urllib.request
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from urllib.parse import urldefrag, urlsplit

from tqdm import tqdm

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import CfgNode, read_plain
from match_rcnn.inference.model_file import SUFFIX, read_config, stated_taxonomy, write_model
from match_rcnn.modeling.taxonomy import taxonomy_from_config
from match_rcnn.retrieval.gallery.items import optional_module
from match_rcnn.utils.files import atomic_write
from match_rcnn.utils.shipped import config_file, shipped_models

_HUB = "hf://"


def cache_folder() -> Path:
    """Where fetched weights stay: ``MATCH_RCNN_CACHE``, or the user's cache."""
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "match_rcnn"
    return Path(os.environ.get("MATCH_RCNN_CACHE") or usual)


def find_weights(name: str | Path) -> Path:
    """The local file of weights.

    Args:
        name: of a shipped model; a file (safetensors or a checkpoint);
            ``https://...#sha256=<64 digits>``; or ``hf://owner/repository/file``. What is fetched
            is kept in :func:`cache_folder`.

    Raises:
        FileNotFoundError: there is no such file, nor a model of that name.
        ValueError: an address without a checksum, or of which something else came.
        MissingPackageError: ``hf://`` without huggingface_hub.
    """
    text = str(name)
    if text.startswith(_HUB):
        return _from_hub(text)
    if text.startswith(("https://", "http://")):
        return _from_address(text)
    known = shipped_models()
    if text in known and not Path(name).is_file():
        return known[text]
    if not Path(name).is_file():
        raise FileNotFoundError(
            f"no checkpoint at {name}, and no model of that name comes with the package "
            f"({', '.join(known) or 'none does'}); train one or pass its path"
        )
    return Path(name)


def _from_address(address: str) -> Path:
    bare, fragment = urldefrag(address)
    match = re.fullmatch(r"sha256=([0-9a-f]{64})", fragment.lower())
    if not match:
        raise ValueError(f"{address}: say what is expected there by #sha256= and 64 digits")
    file = cache_folder() / match[1] / (Path(urlsplit(bare).path).name or "weights")
    if file.is_file():
        return file
    digest = sha256()
    with urllib.request.urlopen(bare, timeout=60) as source, atomic_write(file) as target:
        size = int(source.headers.get("Content-Length") or 0) or None
        with tqdm(total=size, unit="B", unit_scale=True, desc=file.name) as bar:
            while part := source.read(1 << 20):
                digest.update(part)
                target.write(part)
                bar.update(len(part))
        if digest.hexdigest() != match[1]:
            raise ValueError(
                f"{bare} is another file than expected: its sha256 is {digest.hexdigest()}, "
                f"not {match[1]}"
            )
    return file


def _from_hub(address: str) -> Path:
    owner, _, rest = address.removeprefix(_HUB).partition("/")
    repository, _, file = rest.partition("/")
    if not (owner and repository and file):
        raise ValueError(f"expected {_HUB}owner/repository/file, got {address}")
    hub = optional_module("huggingface_hub")
    return Path(hub.hf_hub_download(f"{owner}/{repository}", file))


def shown_from(cfg: CfgNode, asked: float | None = None) -> float:
    """The score that commands show garments from: what is asked for, else the model's own
    (``TEST.SHOWN_FROM``), else 0.5."""
    return asked if asked is not None else cfg.TEST.SHOWN_FROM or 0.5


def model_config(
    weights: str | Path, config: str | Path | None = None, opts: Sequence[str] | None = None
) -> CfgNode:
    """The config of weights by name (:func:`find_weights`), which its ``MODEL.WEIGHTS`` names.

    Args:
        weights: besides, with a config, what ``MODEL.WEIGHTS`` takes: addresses without checksums.
        config: a file or a shipped config's name; None: what the model file holds, or the
            ``config.yaml`` beside a checkpoint.
        opts: ``KEY VALUE`` overrides.

    Raises:
        FileNotFoundError, ValueError: as :func:`find_weights`; or nothing says the config.
    """
    file = str(weights)
    if config is None or not _is_the_hosts(file):
        file = str(find_weights(weights))
    if config is None and file.endswith(SUFFIX):
        cfg = read_config(file)
    else:
        cfg = get_match_rcnn_cfg()
        cfg.merge_from_file(str(config_file(config or _config_beside(Path(file)))))
    cfg.merge_from_list(list(opts or []))
    cfg.MODEL.WEIGHTS = file
    return cfg


def _is_the_hosts(weights: str) -> bool:
    """Whether it is an address that the host fetches."""
    return "://" in weights and "#" not in weights and not weights.startswith(_HUB)


def _config_beside(checkpoint: Path) -> Path:
    beside = checkpoint.parent / "config.yaml"
    if not beside.is_file():
        raise ValueError(f"{checkpoint} says no config, and there is no {beside}; pass --config")
    return beside


def pack_model(weights: str | Path, output: str | Path, config: str | Path | None = None) -> int:
    """Write a checkpoint as a model file (:mod:`match_rcnn.inference.model_file`).

    Args:
        config: as :func:`model_config`'s.

    Returns:
        How many weights it has.
    """
    file = find_weights(weights)
    cfg = model_config(file, config or _config_beside(file))
    content = read_plain(file)
    state = content.get("model", content)
    taxonomy = stated_taxonomy(str(file)) or taxonomy_from_config(cfg)
    write_model(output, cfg, state, taxonomy)
    return len(state)
