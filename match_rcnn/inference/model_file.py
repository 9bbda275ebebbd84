"""A model in one file: weights as safetensors, with the config and taxonomy that they belong to.

Where a checkpoint is for going on with a training, a model file is for use: half precision, no
state of an optimizer, no code, and nothing else is needed to load it. ``MODEL.WEIGHTS`` takes it
wherever it takes a checkpoint.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import CfgNode, DetectionCheckpointer
from match_rcnn.data.taxonomy import Taxonomy
from match_rcnn.utils.files import atomic_write

SUFFIX = ".safetensors"
#: Of the metadata: JSON with "config" and "taxonomy".
_ENTRY = "match_rcnn"
#: Keys of a config that say where and on what a model was trained; a file of weights has no use
#: for them.
_OF_THE_TRAINING = ("DATASETS", "DATALOADER", "SOLVER", "OUTPUT_DIR", "SEED", "WANDB", "MODEL_EMA")


def write_model(
    file: str | Path,
    cfg: CfgNode,
    weights: Mapping[str, torch.Tensor],
    taxonomy: Taxonomy,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write a model file, whole or not at all.

    Args:
        cfg: a whole config; what differs from the defaults is kept, but for the training's keys.
        weights: by the host's names.
        dtype: of matrices and kernels; vectors (biases, norms) keep theirs, as their values need
            more range and take no room.

    Raises:
        ValueError: the file's name does not end in .safetensors.
    """
    if Path(file).suffix != SUFFIX:
        raise ValueError(f"expected a name that ends in {SUFFIX}, got {file}")
    config = _differences(yaml.safe_load(cfg.dump()), yaml.safe_load(get_match_rcnn_cfg().dump()))
    config = {key: value for key, value in config.items() if key not in _OF_THE_TRAINING}
    for key in ("WEIGHTS", "TAXONOMY"):
        config.get("MODEL", {}).pop(key, None)
    # One entry, as the library writes several in any order, and the checksum would change.
    metadata = {_ENTRY: json.dumps({"config": config, "taxonomy": taxonomy.to_dict()})}
    content = {
        name: (value.to(dtype) if value.is_floating_point() and value.ndim > 1 else value)
        .detach()
        .cpu()
        .contiguous()
        for name, value in weights.items()
    }
    with atomic_write(file) as stream:
        stream.write(save(content, metadata=metadata))


def _differences(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """What of a config's tree is not as in the other."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        default = defaults.get(key)
        if isinstance(value, dict) and isinstance(default, dict):
            if inner := _differences(value, default):
                found[key] = inner
        elif value != default:
            found[key] = value
    return found


def read_config(file: str | Path) -> CfgNode:
    """The whole config of a model file.

    Raises:
        ValueError: the file is damaged, or no model file.
    """
    cfg = get_match_rcnn_cfg()
    config = _stated(file).get("config")
    if config is None:
        raise ValueError(f"{file} holds no config; give one, as for a checkpoint")
    cfg.merge_from_other_cfg(CfgNode(config))
    return cfg


def _stated(file: str | Path) -> dict[str, Any]:
    """What a model file says besides its weights; {} for other safetensors files."""
    try:
        with safe_open(file, framework="pt") as opened:
            found: dict[str, Any] = json.loads((opened.metadata() or {}).get(_ENTRY, "{}"))
            return found
    except SafetensorError as error:
        raise ValueError(f"{file} is not a model file, or it is damaged") from error


def stated_taxonomy(weights: str) -> Taxonomy | None:
    """What a checkpoint or model file says of its categories; None for those of before, and of
    others."""
    if not weights.endswith((".pth", SUFFIX)):
        return None
    checkpointer: Any = DetectionCheckpointer(torch.nn.Module())
    local = checkpointer.path_manager.get_local_path(weights)
    if weights.endswith(SUFFIX):
        stated = _stated(local).get("taxonomy")
    else:
        stated = checkpointer._load_file(local).get("taxonomy")
    return None if stated is None else Taxonomy.from_dict(stated, weights)
