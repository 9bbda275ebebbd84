"""Schedules given in epochs, or for another number of processes, as the iterations that hosts know.

Names: ``N`` images of the training set as the loader filters it, ``B`` images of a batch over all
processes (``SOLVER.IMS_PER_BATCH``). An epoch is ``N`` images. Batches run on from one epoch into
the next, none is cut or filled up; so ``k`` epochs are over with the first iteration by which
``k N`` images were drawn: ``ceil(k N / B)`` iterations, 11,998 for one epoch of 191,961 images in
batches of 16, and 143,971 for twelve. With ``PairSampler`` an epoch is ``N`` images as well:
``DATALOADER.PAIR_SHARE`` of them are drawn as pairs, the rest in the order that shows every image
once.
"""

import itertools
import logging
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from match_rcnn.d2 import CfgNode, DefaultTrainer
from match_rcnn.data.loader import count_training_images

logger = logging.getLogger(__name__)

#: Keys in epochs, and those in iterations that they decide.
IN_EPOCHS = {
    "SOLVER.EPOCHS": "SOLVER.MAX_ITER",
    "SOLVER.EPOCH_STEPS": "SOLVER.STEPS",
    "SOLVER.WARMUP_EPOCHS": "SOLVER.WARMUP_ITERS",
    "SOLVER.CHECKPOINT_EPOCHS": "SOLVER.CHECKPOINT_PERIOD",
    "TEST.EVAL_EPOCHS": "TEST.EVAL_PERIOD",
}


def plan_schedule(cfg: CfgNode, world_size: int) -> CfgNode:
    """The config that ``world_size`` processes train by: scaled to them, epochs as iterations.

    Planning a planned config for as many processes gives the same once more.

    Returns:
        A new config; the same one where there is nothing to do. The training set is read only
        if a key is given in epochs.

    Raises:
        ValueError: a key's value cannot be used; the message names the key.
    """
    planned = scale_to_processes(cfg, world_size)
    if any(_get(planned, key) not in (None, ()) for key in IN_EPOCHS):
        planned = epochs_to_iterations(planned, count_training_images(planned))
    return planned


def scale_to_processes(cfg: CfgNode, world_size: int) -> CfgNode:
    """The host's linear rule: from a config for ``SOLVER.REFERENCE_WORLD_SIZE`` processes to one
    for ``world_size``. Batch and learning rate grow with the number of processes; what is counted
    in iterations (end, steps, warm-up, periods) shrinks. The host logs the result.

    Raises:
        ValueError: the batch cannot be shared equally by the reference's processes.
    """
    reference, batch = cfg.SOLVER.REFERENCE_WORLD_SIZE, cfg.SOLVER.IMS_PER_BATCH
    if reference not in (0, world_size) and batch % reference:
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH is {batch}, but SOLVER.REFERENCE_WORLD_SIZE says that it is "
            f"meant for {reference} processes, and it is no multiple of them. Leave the batch as "
            f"it is ({world_size} processes get their share of it), or add "
            "SOLVER.REFERENCE_WORLD_SIZE 0 to take all numbers as they are"
        )
    scaled: CfgNode = DefaultTrainer.auto_scale_workers(cfg, world_size)
    return scaled


def epochs_to_iterations(cfg: CfgNode, images: int) -> CfgNode:
    """A new config whose keys in iterations follow from those in epochs that are set.

    Args:
        images: ``N``.
    """
    planned = cfg.clone()
    planned.defrost()
    batch = cfg.SOLVER.IMS_PER_BATCH
    for key, counted in IN_EPOCHS.items():
        epochs = _get(cfg, key)
        if epochs in (None, ()):
            continue
        found: Any
        if counted == "SOLVER.STEPS":
            found = _steps(epochs, images, batch)
        else:
            found = iterations(epochs, images, batch, key)
        _set(planned, counted, found)
    logger.info("%s", _describe(planned, images))
    if cfg.is_frozen():
        planned.freeze()
    return planned


def iterations(epochs: Any, images: int, batch: int, key: str = "epochs") -> int:
    """Those after which ``epochs`` times ``images`` images were drawn, in batches of ``batch``.

    Decimals are taken as they are written: 17.28 is 1728 / 100.

    Args:
        key: for the message.

    Raises:
        ValueError: ``epochs`` is not a number above 0.
    """
    is_number = isinstance(epochs, (int, float)) and not isinstance(epochs, bool)
    if not is_number or not math.isfinite(epochs) or epochs <= 0:
        raise ValueError(f"{key} must be a number of epochs above 0, or null; got {epochs!r}")
    return math.ceil(Fraction(str(epochs)) * images / batch)


def _steps(epochs: Any, images: int, batch: int) -> tuple[int, ...]:
    if not isinstance(epochs, (list, tuple)):
        raise ValueError(f"SOLVER.EPOCH_STEPS must be such as (8, 11), got {epochs!r}")
    steps = tuple(iterations(e, images, batch, "SOLVER.EPOCH_STEPS") for e in epochs)
    if any(a >= b for a, b in itertools.pairwise(epochs)):
        raise ValueError(f"SOLVER.EPOCH_STEPS must grow from step to step, got {epochs!r}")
    return steps


def _describe(cfg: CfgNode, images: int) -> str:
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR":
        drops = f"drops after {', '.join(map(str, solver.STEPS)) or 'none'}"
        if solver.EPOCH_STEPS:
            drops += f" (epochs {', '.join(map(str, solver.EPOCH_STEPS))})"
    else:
        drops = solver.LR_SCHEDULER_NAME
    end = f"end after {solver.MAX_ITER}"
    if solver.EPOCHS is not None:
        end += f" (epoch {solver.EPOCHS})"
    return (
        f"Schedule in iterations: {images} training images in batches of {solver.IMS_PER_BATCH} "
        f"are {images / solver.IMS_PER_BATCH:.1f} an epoch; learning rate {solver.BASE_LR:g}, "
        f"warm-up {solver.WARMUP_ITERS}, {drops}, {end}; checkpoint every "
        f"{solver.CHECKPOINT_PERIOD}, evaluation every {cfg.TEST.EVAL_PERIOD or 'end'}"
    )


def let_overrides_decide(cfg: CfgNode, overrides: Sequence[str]) -> None:
    """Unset in place the key in epochs of what the command line gives in iterations: whoever asks
    for ``SOLVER.MAX_ITER 100`` means it.

    Args:
        overrides: KEY VALUE KEY VALUE ...
    """
    given = overrides[0::2]
    for key, counted in IN_EPOCHS.items():
        if counted in given and key not in given:
            _set(cfg, key, () if key == "SOLVER.EPOCH_STEPS" else None)


def _get(cfg: CfgNode, key: str) -> Any:
    section, name = key.split(".")
    value = cfg[section][name]
    return tuple(value) if isinstance(value, list) else value


def _set(cfg: CfgNode, key: str, value: Any) -> None:
    section, name = key.split(".")
    cfg[section][name] = value
