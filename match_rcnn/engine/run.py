"""A whole run as a program, behind ``tools/train_net.py``: its processes, what each does, one
message for what ended it, and an exit code.
"""

import argparse
import logging
import multiprocessing
import signal
import sys
import threading
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

from torch.multiprocessing import ProcessExitedException

from match_rcnn.config import follow_taxonomy, get_match_rcnn_cfg
from match_rcnn.d2 import (
    CfgNode,
    DetectionCheckpointer,
    comm,
    default_setup,
    log_host,
    setup_logger,
    verify_results,
)
from match_rcnn.data.datasets import register_data_sets
from match_rcnn.data.given_boxes import taxonomy_to_learn
from match_rcnn.data.recognition_loader import taxonomy_to_recognise, words_to_learn
from match_rcnn.engine.description import describe_run
from match_rcnn.engine.evaluations import averaged_weights
from match_rcnn.engine.faults import (
    Preempted,
    TrainingFault,
    explain,
    explain_writing,
    hand_on_signals,
)
from match_rcnn.engine.launch import check_processes, launch
from match_rcnn.engine.recognition import RecognitionTrainer, describe_recognition
from match_rcnn.engine.schedule import let_overrides_decide
from match_rcnn.engine.trainer import MatchRCNNTrainer
from match_rcnn.modeling.taxonomy import set_taxonomy
from match_rcnn.utils.files import atomic_write

logger = logging.getLogger(__name__)


def setup(args: argparse.Namespace) -> CfgNode:
    """The frozen config of a run: defaults, ``--config-file``, then ``KEY VALUE`` overrides."""
    cfg = get_match_rcnn_cfg()
    cfg.merge_from_file(args.config_file)
    cfg.merge_from_list(args.opts)
    let_overrides_decide(cfg, args.opts)
    register_data_sets([*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST], getattr(args, "data", ()))
    if is_recognition(cfg):
        set_taxonomy(cfg, taxonomy_to_recognise(cfg.DATASETS.TRAIN, words_to_learn(cfg)))
    else:
        follow_taxonomy(cfg, taxonomy_to_learn(cfg.DATASETS.TRAIN), args.opts[::2])
    cfg.freeze()
    default_setup(cfg, args)
    setup_logger(output=cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="match_rcnn")
    log_host()
    return cfg


def is_recognition(cfg: CfgNode) -> bool:
    """Whether the model takes one given box an image."""
    return bool(cfg.MODEL.META_ARCHITECTURE == "Recognition")


def trainer_of(cfg: CfgNode) -> type[MatchRCNNTrainer]:
    """The trainer that knows the model's data."""
    return RecognitionTrainer if is_recognition(cfg) else MatchRCNNTrainer


def train_or_evaluate(args: argparse.Namespace) -> dict[str, Any]:
    """Train (or with ``--eval-only`` evaluate) and return the last metrics by task."""
    cfg = setup(args)
    if args.eval_only:
        return _evaluate(cfg, resume=args.resume)
    check_processes(cfg.MODEL.DEVICE)
    if comm.is_main_process():
        describe = describe_recognition if is_recognition(cfg) else describe_run
        logger.info("This run:\n%s", describe(cfg))
    trainer = trainer_of(cfg)(cfg)
    _save_planned(trainer.cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train() or {}


def _save_planned(cfg: CfgNode) -> None:
    """Over the config that the host saved before the schedule was worked out."""
    if comm.is_main_process():
        with atomic_write(Path(cfg.OUTPUT_DIR) / "config.yaml") as file:
            file.write(cfg.dump().encode())


def _evaluate(cfg: CfgNode, resume: bool) -> dict[str, Any]:
    trainer = trainer_of(cfg)
    model = trainer.build_model(cfg)
    checkpointer = DetectionCheckpointer(model, save_dir=cfg.OUTPUT_DIR)
    rest = checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    if cfg.MODEL_EMA.ENABLED and averaged_weights(rest):
        logger.info("The average of the weights is evaluated (MODEL_EMA.ENABLED)")
        model.load_state_dict(averaged_weights(rest))
    results: dict[str, Any] = trainer.test(cfg, model)
    if comm.is_main_process():
        verify_results(cfg, results)
    return results


def run_program(args: argparse.Namespace) -> int:
    """Train or evaluate in the processes that ``args`` asks for.

    Returns:
        The exit code: 0, or that of the :class:`TrainingFault` that ended the run.
    """
    code: Any = multiprocessing.get_context("spawn").Value("i", 0)
    _quiet_threads()
    hand_on_signals()
    try:
        launch(
            _run_process,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args, code),
        )
    except ProcessExitedException as error:
        if not code.value:
            code.value = _code_of(error)
    return int(code.value)


def _run_process(args: argparse.Namespace, code: "Synchronized[int]") -> None:
    """One process of a run; sets ``code`` if it is the first that a fault ends."""
    _quiet_threads()  # for processes that were started, too
    try:
        train_or_evaluate(args)
    except Exception as error:
        fault = explain(error, "of the config")
        if fault is None:
            raise
        with code.get_lock():
            code.value = code.value or fault.exit_code
        _say(fault)
        # Alone, or when all end now, this is a process that did its work. Otherwise the others
        # wait for it: its exit code is what makes its parent end them.
        agreed = isinstance(fault, Preempted) and fault.agreed
        if comm.get_world_size() > 1 and not agreed:
            raise SystemExit(fault.exit_code) from None


def _quiet_threads() -> None:
    """TensorBoard writes in a thread: a full disk there is told by the next one who writes."""
    usual = threading.excepthook

    def hook(args: Any) -> None:
        if explain_writing(args.exc_value, "") is None:
            usual(args)

    threading.excepthook = hook
    logging.raiseExceptions = False  # a log on a full disk is no reason for a traceback a line


def _say(fault: TrainingFault) -> None:
    """In the log; on the console as well where a process's log does not go there."""
    level = logging.WARNING if isinstance(fault, Preempted) else logging.ERROR
    logger.log(level, "%s (exit code %d)", fault, fault.exit_code)
    if not comm.is_main_process() and not getattr(fault, "agreed", False):
        print(f"process {comm.get_rank()}: {fault}", file=sys.stderr, flush=True)


def _code_of(error: ProcessExitedException) -> int:
    """Of a process that ended without a word, such as one that the system killed."""
    if error.exit_code >= 0:
        return int(error.exit_code)
    number = -error.exit_code
    name = signal.Signals(number).name
    if name in ("SIGTERM", "SIGUSR1"):
        return Preempted.exit_code  # before its training began
    print(
        f"process {error.error_index} of this run was ended by {name}; with SIGKILL it is mostly "
        "the system, for want of memory. --resume goes on from the last checkpoint.",
        file=sys.stderr,
    )
    return 128 + number
