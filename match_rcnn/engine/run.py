"""What ``tools/train_net.py`` does once its processes are up."""

import argparse
import logging
from pathlib import Path
from typing import Any

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import (
    CfgNode,
    DetectionCheckpointer,
    comm,
    default_setup,
    log_host,
    setup_logger,
    verify_results,
)
from match_rcnn.data.datasets import register_deepfashion2
from match_rcnn.engine.ema import averaged_weights
from match_rcnn.engine.launch import check_processes
from match_rcnn.engine.schedule import let_overrides_decide
from match_rcnn.engine.trainer import MatchRCNNTrainer
from match_rcnn.utils.files import atomic_write

logger = logging.getLogger(__name__)


def setup(args: argparse.Namespace) -> CfgNode:
    """The frozen config of a run: defaults, ``--config-file``, then ``KEY VALUE`` overrides."""
    cfg = get_match_rcnn_cfg()
    cfg.merge_from_file(args.config_file)
    cfg.merge_from_list(args.opts)
    let_overrides_decide(cfg, args.opts)
    cfg.freeze()
    default_setup(cfg, args)
    setup_logger(output=cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="match_rcnn")
    log_host()
    register_deepfashion2()
    return cfg


def train_or_evaluate(args: argparse.Namespace) -> dict[str, Any]:
    """Train (or with ``--eval-only`` evaluate) and return the last metrics by task."""
    cfg = setup(args)
    if args.eval_only:
        return _evaluate(cfg, resume=args.resume)
    check_processes(cfg.MODEL.DEVICE)
    trainer = MatchRCNNTrainer(cfg)
    _save_planned(trainer.cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train() or {}


def _save_planned(cfg: CfgNode) -> None:
    """Over the config that the host saved before the schedule was worked out."""
    if comm.is_main_process():
        with atomic_write(Path(cfg.OUTPUT_DIR) / "config.yaml") as file:
            file.write(cfg.dump().encode())


def _evaluate(cfg: CfgNode, resume: bool) -> dict[str, Any]:
    model = MatchRCNNTrainer.build_model(cfg)
    checkpointer = DetectionCheckpointer(model, save_dir=cfg.OUTPUT_DIR)
    rest = checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    if cfg.MODEL_EMA.ENABLED and averaged_weights(rest):
        logger.info("The average of the weights is evaluated (MODEL_EMA.ENABLED)")
        model.load_state_dict(averaged_weights(rest))
    results: dict[str, Any] = MatchRCNNTrainer.test(cfg, model)
    if comm.is_main_process():
        verify_results(cfg, results)
    return results
