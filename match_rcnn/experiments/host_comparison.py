"""What a host computes, as numbers that another run can be held against.

:func:`observe` builds the model of a config, loads generated images with the config's own loader,
trains a few iterations and finds items; :func:`compare` tells what differs between two such runs:
on lite and on detectron2, before and after an upgrade. ``tools/compare_hosts.py`` runs it.

Names of what is observed are ``"section: name"``. Sections of many tensors (weights, gradients)
get one line of the table: the one that differs most, relative to its largest value. A gradient
whose true value is 0 (a bias in front of batch norm) is rounding, another one on every machine:
gradients are relative to no less than a hundredth of the largest of all.
"""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import (
    HOST,
    HOST_VERSION,
    CfgNode,
    DetectionCheckpointer,
    EventStorage,
    Instances,
    PathManager,
)
from match_rcnn.data.conversion import convert
from match_rcnn.data.datasets import register_deepfashion2
from match_rcnn.data.synthetic import generate
from match_rcnn.engine import MatchRCNNTrainer
from match_rcnn.utils.arrays import Array
from match_rcnn.utils.files import atomic_write

Observation = dict[str, Array]

#: Of the largest of its section, the least that a tensor's differences are relative to.
_FLOORS = {"gradients": 0.01}
#: Sections with a line for each of their names.
_LISTED = ("losses of", "detections")
_MADE_BY = "made by"
#: Generated images a split: the first ones of its first products, users' and shops'.
_IMAGES = 12


@dataclass(frozen=True)
class Plan:
    """What to run.

    Attributes:
        config_file: a yaml file; its data sets and ``MODEL.WEIGHTS`` are replaced.
        overrides: keys and values in turn.
        weights: a file for ``MODEL.WEIGHTS``; empty: drawn from ``seed``.
        iterations: of training; its losses, and the first one's gradients, are observed.
        images: how many the detections are of.
        pixels: the longer side of the generated images.
    """

    config_file: str
    overrides: tuple[str, ...] = ()
    weights: str = ""
    iterations: int = 2
    images: int = 2
    pixels: int = 640
    seed: int = 1


@dataclass(frozen=True)
class Difference:
    """A line of the table: the tensor of a section that differs most.

    Attributes:
        values, different: numbers of the whole section.
        largest_value: of this run's tensor, absolute.
        largest_difference: in the tensor; infinite where shapes differ or one run has none.
        relative: their ratio; of gradients see the module.
    """

    name: str
    values: int
    different: int
    largest_value: float
    largest_difference: float
    relative: float


def observe(plan: Plan) -> Observation:
    """All numbers of a run of ``plan`` on this process's host.

    Raises:
        FileNotFoundError, KeyError, ValueError: the config, the weights or a key are wrong.
    """
    with tempfile.TemporaryDirectory() as folder, _data_sets(folder, plan):
        cfg = _config(plan, folder)
        torch.manual_seed(plan.seed)
        model = MatchRCNNTrainer.build_model(cfg)
        if plan.weights:
            DetectionCheckpointer(model).load(PathManager.get_local_path(plan.weights))
        found = {_MADE_BY: np.array(_made_by(cfg))}
        found |= _tensors("weights at the start", model.state_dict())
        found |= _train(cfg, model, plan)
        found |= _tensors("weights at the end", model.state_dict())
        return found | _detect(cfg, model, plan)


@contextmanager
def _data_sets(folder: str, plan: Plan) -> Iterator[None]:
    """Generated data in ``folder``, registered while the block runs."""
    root = Path(folder) / "deepfashion2"
    validation = max(plan.images, _IMAGES)
    generate(root, _IMAGES, validation, plan.seed, plan.pixels, progress=False)
    for split in ("train", "validation"):
        target = root / "annotations" / f"{split}.json"
        target.parent.mkdir(exist_ok=True)
        convert(root, split, target, compact=True, workers=1)
    register_deepfashion2(folder)
    try:
        yield
    finally:
        register_deepfashion2()


def _config(plan: Plan, folder: str) -> CfgNode:
    cfg = get_match_rcnn_cfg()
    if not Path(plan.config_file).is_file():
        raise FileNotFoundError(f"no config at {plan.config_file}")
    cfg.merge_from_file(plan.config_file)
    cfg.SOLVER.IMS_PER_BATCH = 2
    if not plan.weights:
        cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0  # drawn weights are sure of nothing
    cfg.merge_from_list(list(plan.overrides))
    cfg.DATASETS.TRAIN = ("deepfashion2_train",)
    cfg.DATASETS.TEST = ("deepfashion2_validation",)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.MODEL.WEIGHTS = ""
    cfg.OUTPUT_DIR = folder
    cfg.SEED = plan.seed
    return cfg


def _made_by(cfg: CfgNode) -> list[str]:
    return [
        f"{HOST} {HOST_VERSION}",
        f"torch {torch.__version__} on {cfg.MODEL.DEVICE}, {torch.get_num_threads()} threads",
        f"python {sys.version.split()[0]}, numpy {np.__version__}",
    ]


def _train(cfg: CfgNode, model: torch.nn.Module, plan: Plan) -> Observation:
    """Losses of every iteration, the batch and the gradients of the first."""
    found: Observation = {}
    optimizer = MatchRCNNTrainer.build_optimizer(cfg, model)
    scheduler = MatchRCNNTrainer.build_lr_scheduler(cfg, optimizer)
    batches = iter(MatchRCNNTrainer.build_train_loader(cfg))
    model.train()
    torch.manual_seed(plan.seed)
    for iteration in range(plan.iterations):
        batch = next(batches)
        with EventStorage(iteration):
            losses = model(batch)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        if iteration == 0:
            found |= _batch(batch)
            gradients = {k: p.grad for k, p in model.named_parameters() if p.grad is not None}
            found |= _tensors("gradients", gradients)
        found |= _tensors(f"losses of iteration {iteration + 1}", losses)
        optimizer.step()
        scheduler.step()
    return found


def _batch(batch: Sequence[dict[str, Any]]) -> Observation:
    found: Observation = {}
    for place, sample in enumerate(batch):
        found |= _tensors(f"training images {place}", {"pixels": sample["image"]})
        found |= _tensors(f"training targets {place}", _fields(sample["instances"]))
    # One section each, whatever the number of images.
    return {_without_number(name): value for name, value in found.items()}


def _without_number(name: str) -> str:
    section, _, rest = name.partition(": ")
    section, _, number = section.rpartition(" ")
    return f"{section}: {rest} {number}"


def _detect(cfg: CfgNode, model: torch.nn.Module, plan: Plan) -> Observation:
    """The items of the first validation images, field by field, all images in one array."""
    loader = iter(MatchRCNNTrainer.build_test_loader(cfg, cfg.DATASETS.TEST[0]))
    model.eval()
    images: list[dict[str, Array]] = []
    with torch.no_grad():
        for _ in range(plan.images):
            (output,) = model(next(loader))
            images.append(_fields(output["instances"].to("cpu")))
    found = {"detections: number": np.array([len(image["scores"]) for image in images])}
    for name in images[0]:
        # Masks are as large as their image.
        parts = [image[name].reshape(-1) for image in images]
        found[f"detections: {name}"] = np.concatenate(parts)
    return found


def _fields(instances: Instances) -> dict[str, Array]:
    """Every field as an array; coordinates and scores of landmarks apart."""
    found: dict[str, Array] = {}
    for name, value in instances.get_fields().items():
        if hasattr(value, "polygons"):
            parts = [np.asarray(p, float) for item in value.polygons for p in item]
            found[name] = np.concatenate([np.zeros(0), *parts])
        else:
            tensor = value if isinstance(value, torch.Tensor) else value.tensor
            found[name] = _array(tensor)
    points = found.pop("pred_keypoints", None)
    if points is not None:
        found["landmarks"], found["landmark_scores"] = points[..., :2], points[..., 2]
    return found


def _tensors(section: str, tensors: dict[str, Any]) -> Observation:
    return {f"{section}: {name}": _array(value) for name, value in tensors.items()}


def _array(value: Any) -> Array:
    if isinstance(value, torch.Tensor):
        # A copy: training goes on in the same memory. numpy has no bfloat16.
        value = value.detach().float() if value.dtype == torch.bfloat16 else value.detach()
        return value.cpu().numpy().copy()
    return np.asarray(value)


def save(file: str | Path, observation: Observation) -> None:
    """Write ``file``, whole or not at all (numpy's .npz)."""
    with atomic_write(file) as stream:
        np.savez(stream, **observation)  # type: ignore[arg-type]  # its own keywords


def load(file: str | Path) -> Observation:
    """Read what :func:`save` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else.
    """
    try:
        with np.load(file, allow_pickle=False) as stored:
            found = dict(stored)
    except FileNotFoundError:
        raise FileNotFoundError(f"no observation at {file}") from None
    except (ValueError, OSError, AttributeError, TypeError) as error:
        raise ValueError(f"{file} is no observation of compare_hosts.py: {error}") from error
    if _MADE_BY not in found:
        raise ValueError(f"{file} is no observation of compare_hosts.py")
    return found


def made_by(observation: Observation) -> str:
    """Host and versions, in one line."""
    return ", ".join(observation[_MADE_BY].tolist())


def compare(one: Observation, other: Observation) -> list[Difference]:
    """The lines of the table, in the order of the run."""
    sections: dict[str, list[Difference]] = {}
    floors = {section: share * _largest(one, section) for section, share in _FLOORS.items()}
    names = [*one, *(name for name in other if name not in one)]
    for name in names:
        if name != _MADE_BY:
            listed = name.startswith(_LISTED)
            section = name if listed else name.partition(":")[0]
            line = _difference(name, one.get(name), other.get(name), floors.get(section, 0.0))
            sections.setdefault(section, []).append(line)
    return [_worst(section, lines) for section, lines in sections.items()]


def _largest(observation: Observation, section: str) -> float:
    own = [a for name, a in observation.items() if name.startswith(f"{section}: ") and a.size]
    return max((float(np.nanmax(np.abs(a))) for a in own), default=0.0)


def _difference(name: str, one: Array | None, other: Array | None, floor: float) -> Difference:
    if one is None or other is None or one.shape != other.shape:
        size = max(a.size for a in (one, other) if a is not None)
        return Difference(name, size, size, float("nan"), float("inf"), float("inf"))
    if one.size == 0:
        return Difference(name, 0, 0, 0.0, 0.0, 0.0)
    a, b = one.astype(np.float64), other.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        distance = np.where(same, 0.0, np.abs(a - b))
    largest = float(np.nan_to_num(distance, nan=np.inf, posinf=np.inf).max())
    scale = float(np.abs(a).max(initial=0.0, where=np.isfinite(a)))
    base = max(scale, floor)
    relative = largest / base if base else (np.inf if largest else 0.0)
    return Difference(name, one.size, int((~same).sum()), scale, largest, float(relative))


def _worst(section: str, lines: list[Difference]) -> Difference:
    worst = max(lines, key=lambda line: (line.relative, np.nan_to_num(line.largest_value)))
    name = section
    if len(lines) > 1:
        name += f" ({len(lines)})"
        if worst.different:
            name += f", most in {worst.name.partition(': ')[2]}"
    values, different = (sum(getattr(x, k) for x in lines) for k in ("values", "different"))
    return replace(worst, name=name, values=values, different=different)
