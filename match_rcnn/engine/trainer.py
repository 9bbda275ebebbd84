"""The host's ``DefaultTrainer`` with our data, optimizers, evaluators and resumption."""

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from match_rcnn.d2 import (
    CfgNode,
    DatasetEvaluator,
    DefaultTrainer,
    EventWriter,
    HookBase,
    build_detection_test_loader,
    comm,
    get_default_optimizer_params,
    hooks,
    maybe_add_gradient_clipping,
)
from match_rcnn.data.given_boxes import count_attributes
from match_rcnn.data.loader import build_train_loader_from_cfg, training_parts
from match_rcnn.data.mapper import GarmentMapper
from match_rcnn.engine.endurance import EnduringTrainer
from match_rcnn.engine.hooks import DeterministicSteps
from match_rcnn.engine.match_alone import (
    KeepStatistics,
    check_match_alone,
    train_match_head_alone,
)
from match_rcnn.engine.schedule import plan_schedule
from match_rcnn.engine.steps import set_precision
from match_rcnn.engine.tracking import build_wandb_writer
from match_rcnn.evaluation.evaluators import build_evaluator
from match_rcnn.evaluation.pictures import KeepAnnotations
from match_rcnn.inference.switches import apply_switches
from match_rcnn.modeling.backbones.stages import WITHOUT_DECAY
from match_rcnn.modeling.streams.attributes import AttributeHead
from match_rcnn.modeling.taxonomy import taxonomy_from_config


def attribute_counts(cfg: CfgNode) -> torch.Tensor:
    """(2, A) of how many training items have each attribute not, and have it."""
    count = len(taxonomy_from_config(cfg).attributes)
    counts = [count_attributes(part, count) for part in training_parts(cfg)]
    return torch.from_numpy(np.sum(counts, 0))


def weigh_attributes(model: torch.nn.Module, counts: torch.Tensor) -> None:
    """Give every attribute head its loss's weights."""
    for part in model.modules():
        if isinstance(part, AttributeHead):
            part.learn_counts(counts)


class MatchRCNNTrainer(EnduringTrainer):
    """Trains and evaluates what a config describes; see ``tools/train_net.py``."""

    def __init__(self, cfg: CfgNode) -> None:
        check_match_alone(cfg)
        counts = attribute_counts(cfg) if cfg.MODEL.ATTRIBUTE_ON else None
        super().__init__(self.plan(cfg))
        if counts is not None:
            weigh_attributes(self.model, counts)
        if cfg.SOLVER.AMP.ENABLED:
            set_precision(self._trainer, cfg.SOLVER.AMP.PRECISION)

    @classmethod
    def plan(cls, cfg: CfgNode) -> CfgNode:
        """The config with its schedule in iterations, for as many processes as there are."""
        return plan_schedule(cfg, comm.get_world_size())

    def state_dict(self) -> dict[str, Any]:
        """With the optimizer's state, which detectron2 0.6 left out."""
        state: dict[str, Any] = super().state_dict()
        if "_trainer" not in state:
            state["_trainer"] = self._trainer.state_dict()
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        if "load_state_dict" not in vars(DefaultTrainer):
            self._trainer.load_state_dict(state_dict["_trainer"])

    @classmethod
    def build_model(cls, cfg: CfgNode) -> torch.nn.Module:
        model: torch.nn.Module = super().build_model(cfg)
        apply_switches(model, cfg)
        if cfg.MODEL.ROI_MATCH_HEAD.TRAIN_ALONE:
            train_match_head_alone(model)
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: torch.nn.Module) -> torch.optim.Optimizer:
        """``SOLVER.OPTIMIZER``, torch's fused form of it, over the host's parameter groups."""
        groups = get_default_optimizer_params(
            model,
            base_lr=cfg.SOLVER.BASE_LR,
            weight_decay=cfg.SOLVER.WEIGHT_DECAY,
            weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
            bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
            weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
            overrides={name: {"weight_decay": 0.0} for name in WITHOUT_DECAY},
        )
        options = {
            "lr": cfg.SOLVER.BASE_LR,
            "weight_decay": cfg.SOLVER.WEIGHT_DECAY,
            "fused": True,
        }
        kind: Callable[..., torch.optim.Optimizer]
        if cfg.SOLVER.OPTIMIZER == "SGD":
            kind = torch.optim.SGD
            options |= {"momentum": cfg.SOLVER.MOMENTUM, "nesterov": cfg.SOLVER.NESTEROV}
        elif cfg.SOLVER.OPTIMIZER == "AdamW":
            kind = torch.optim.AdamW
        else:
            raise ValueError(
                f"SOLVER.OPTIMIZER must be 'SGD' or 'AdamW', got {cfg.SOLVER.OPTIMIZER!r}"
            )
        optimizer = kind(groups, **options)
        # A fused optimizer would undo the scaling of float16 itself, behind the clipping.
        vars(optimizer)["_step_supports_amp_scaling"] = False
        maybe_add_gradient_clipping(cfg, optimizer)  # changes it in place
        return optimizer

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> DataLoader[list[dict[str, Any]]]:
        return build_train_loader_from_cfg(cfg)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> DataLoader[Any]:
        mapper: Any = GarmentMapper(cfg, is_train=False)
        if cfg.TEST.VISUALIZE_IMAGES:
            mapper = KeepAnnotations(mapper)
        return build_detection_test_loader(cfg, dataset_name, mapper=mapper)

    def build_writers(self) -> list[EventWriter]:
        """The host's: console, metrics.json, TensorBoard; and Weights & Biases if asked for."""
        writers: list[EventWriter] = super().build_writers()
        if self.cfg.WANDB.ENABLED:
            this = weakref.proxy(self)  # a writer must not keep its trainer alive
            # Behind the console, which puts the time that is left, and before TensorBoard.
            writers.insert(1, build_wandb_writer(self.cfg, lambda: this.start_iter > 0))
        return writers

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        """Everything but retrieval, which needs the model: see :meth:`test`."""
        return build_evaluator(cfg, dataset_name)

    @classmethod
    def test(
        cls,
        cfg: CfgNode,
        model: torch.nn.Module,
        evaluators: DatasetEvaluator | Sequence[DatasetEvaluator] | None = None,
    ) -> Any:
        """Evaluate on every data set of ``DATASETS.TEST``; metrics by task."""
        if evaluators is None:
            evaluators = [build_evaluator(cfg, name, model) for name in cfg.DATASETS.TEST]
        return super().test(cfg, model, evaluators)

    def build_hooks(self) -> list[HookBase]:
        """Deterministic steps first, and the writers at the period that the config says."""
        made = [h for h in super().build_hooks() if not isinstance(h, hooks.PeriodicWriter)]
        made.insert(0, DeterministicSteps(self._trainer.data_loader))
        if self.cfg.MODEL.ROI_MATCH_HEAD.TRAIN_ALONE:
            made.insert(1, KeepStatistics())
        if comm.is_main_process():  # before the last hook, which may end training
            writer = hooks.PeriodicWriter(self.build_writers(), self.cfg.SOLVER.LOG_PERIOD)
            made.insert(-1, writer)
        return made
