"""A training and a prediction as most configs want them.

``H``, ``W`` are an image's height and width in pixels, ``C`` is 3.
"""

import logging
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from ..checkpoint import DetectionCheckpointer
from ..config import CfgNode
from ..data import MetadataCatalog
from ..data import transforms as T
from ..evaluation import (
    DatasetEvaluator,
    inference_on_dataset,
    print_csv_format,
    verify_results,
)
from ..modeling import build_model
from ..solver import LRScheduler, build_lr_scheduler, build_optimizer
from ..utils import comm
from ..utils.events import EventWriter
from ..utils.logger import setup_logger
from . import hooks
from .setup import create_ddp_model, default_writers
from .train_loop import AMPTrainer, HookBase, SimpleTrainer, State, TrainerBase

__all__ = ["DefaultPredictor", "DefaultTrainer"]

logger = logging.getLogger(__name__)


class DefaultPredictor:
    """From one image, with all that a config and its weights need, to the model's output.

    Attributes:
        metadata: of the first test data set, if there is one.
    """

    def __init__(self, cfg: CfgNode):
        self.cfg = cfg.clone()
        self.model = build_model(self.cfg)
        self.model.eval()
        if cfg.DATASETS.TEST:
            self.metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0])
        DetectionCheckpointer(self.model).load(cfg.MODEL.WEIGHTS)
        size = cfg.INPUT.MIN_SIZE_TEST
        self.aug = T.ResizeShortestEdge([size, size], cfg.INPUT.MAX_SIZE_TEST)
        self.input_format = cfg.INPUT.FORMAT
        if self.input_format not in ("RGB", "BGR"):
            raise ValueError(f"INPUT.FORMAT must be RGB or BGR, got {self.input_format!r}")

    @torch.no_grad()
    def __call__(self, original_image: np.ndarray[Any, Any]) -> dict[str, Any]:
        """
        Args:
            original_image: (H, W, C) uint8, in BGR order whatever the model's order is.

        Returns:
            The model's output, such as ``{"instances": Instances}``, in this image's pixels.
        """
        height, width = original_image.shape[:2]
        image = original_image[:, :, ::-1] if self.input_format == "RGB" else original_image
        image = self.aug.get_transform(image).apply_image(image)
        tensor = torch.as_tensor(image.astype(np.float32).transpose(2, 0, 1))
        inputs = {
            "image": tensor.to(self.cfg.MODEL.DEVICE),
            "height": height,
            "width": width,
        }
        output: dict[str, Any] = self.model([inputs])[0]
        return output


class DefaultTrainer(TrainerBase):
    """Trains what a config describes, with the usual hooks.

    To change a part, override one of the ``build_*`` methods; for a different loop, write it over
    :class:`SimpleTrainer`.

    Attributes:
        scheduler: of the learning rate.
        checkpointer: of model and training state.
        cfg: the config, after :meth:`auto_scale_workers`.
    """

    def __init__(self, cfg: CfgNode):
        super().__init__()
        if not logger.isEnabledFor(logging.INFO):
            setup_logger()
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        model = create_ddp_model(model, broadcast_buffers=False)
        trainer = AMPTrainer if cfg.SOLVER.AMP.ENABLED else SimpleTrainer
        self._trainer = trainer(model, data_loader, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = DetectionCheckpointer(
            model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self)
        )
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.register_hooks(self.build_hooks())

    def resume_or_load(self, resume: bool = True) -> None:
        """Load weights before training.

        Args:
            resume: go on after the last checkpoint in OUTPUT_DIR, if there is one. Otherwise
                MODEL.WEIGHTS are loaded, nothing but the model, and training begins at 0.
        """
        self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
        if resume and self.checkpointer.has_checkpoint():
            # ``iter`` was the last one that was done.
            self.start_iter = self.iter + 1

    def build_hooks(self) -> list[HookBase]:
        """Timer, learning rate, checkpoints, evaluation, writers.

        Who writes files is in the main process alone. Writers come last: what others put into the
        event storage after a step is then there.
        """
        cfg = self.cfg
        built: list[HookBase] = [hooks.IterationTimer(), hooks.LRScheduler()]
        if comm.is_main_process():
            period = cfg.SOLVER.CHECKPOINT_PERIOD
            built.append(hooks.PeriodicCheckpointer(self.checkpointer, period))
        built.append(hooks.EvalHook(cfg.TEST.EVAL_PERIOD, self._test_and_save_results))
        if comm.is_main_process():
            built.append(hooks.PeriodicWriter(self.build_writers(), period=20))
        return built

    def _test_and_save_results(self) -> Mapping[str, Any]:
        self._last_eval_results = self.test(self.cfg, self.model)
        return self._last_eval_results

    def build_writers(self) -> list[EventWriter]:
        """Who writes the events of training; see :func:`default_writers`."""
        return default_writers(self.cfg.OUTPUT_DIR, self.max_iter)

    def train(self) -> Any:  # type: ignore[override]
        """Train to the end.

        Returns:
            The last evaluation's results, if TEST.EXPECTED_RESULTS asks to verify them.
        """
        super().train(self.start_iter, self.max_iter)
        if self.cfg.TEST.EXPECTED_RESULTS and comm.is_main_process():
            assert hasattr(self, "_last_eval_results"), "no evaluation, but results are expected"
            verify_results(self.cfg, self._last_eval_results)
            return self._last_eval_results
        return None

    def run_step(self) -> None:
        self._trainer.iter = self.iter
        self._trainer.run_step()

    def state_dict(self) -> State:
        return {**super().state_dict(), "_trainer": self._trainer.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._trainer.load_state_dict(state_dict["_trainer"])

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        model = build_model(cfg)
        logger.info("Model:\n%s", model)
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> Optimizer:
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: Optimizer) -> LRScheduler:
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Any:
        """An endless iterable of batches. Override it: there is no mapper for all data sets."""
        raise NotImplementedError("a trainer needs its own build_train_loader()")

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Any:
        """An iterable, with a length, of one test data set's batches. Override it likewise."""
        raise NotImplementedError("to evaluate, a trainer needs its own build_test_loader()")

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        """Override it to evaluate: here is none, since data sets differ too much."""
        raise NotImplementedError(
            "there is no evaluator: override build_evaluator(), or pass evaluators to test()"
        )

    @classmethod
    def test(
        cls,
        cfg: CfgNode,
        model: nn.Module,
        evaluators: DatasetEvaluator | Sequence[DatasetEvaluator] | None = None,
    ) -> dict[str, Any]:
        """Evaluate a model on the data sets of DATASETS.TEST.

        Args:
            evaluators: one a data set; None builds them.

        Returns:
            Results by data set, or those of the only data set. Empty but in the main process.
        """
        names = cfg.DATASETS.TEST
        if isinstance(evaluators, DatasetEvaluator):
            evaluators = [evaluators]
        if evaluators is not None and len(evaluators) != len(names):
            raise ValueError(f"{len(evaluators)} evaluators for {len(names)} data sets {names}")
        results: dict[str, Any] = {}
        for i, name in enumerate(names):
            try:
                evaluator = evaluators[i] if evaluators else cls.build_evaluator(cfg, name)
            except NotImplementedError as error:
                logger.warning("%s is not evaluated: %s", name, error)
                results[name] = {}
                continue
            results[name] = inference_on_dataset(model, cls.build_test_loader(cfg, name), evaluator)
            if comm.is_main_process():
                logger.info("Metrics of %s, as lines that can be copied:", name)
                print_csv_format(results[name])
        return results[names[0]] if len(names) == 1 else results

    @staticmethod
    def auto_scale_workers(cfg: CfgNode, num_workers: int) -> CfgNode:
        """A config made for SOLVER.REFERENCE_WORLD_SIZE processes, turned into one for
        ``num_workers``: the batch and the learning rate grow with the number of processes, the
        number of iterations and all that is counted in them shrinks.

        Returns:
            A new config; the same one when the reference is 0 or ``num_workers``.

        Raises:
            ValueError: the batch cannot be divided among the reference's processes.
        """
        reference = cfg.SOLVER.REFERENCE_WORLD_SIZE
        if reference in (0, num_workers):
            return cfg
        if cfg.SOLVER.IMS_PER_BATCH % reference != 0:
            raise ValueError(
                f"SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH} cannot be split among the "
                f"{reference} processes of SOLVER.REFERENCE_WORLD_SIZE"
            )
        scaled = cfg.clone()
        scaled.defrost()
        _scale(scaled, num_workers / reference)
        scaled.SOLVER.REFERENCE_WORLD_SIZE = num_workers
        if cfg.is_frozen():
            scaled.freeze()
        return scaled

    @property
    def model(self) -> nn.Module:
        return self._trainer.model

    @model.setter
    def model(self, value: nn.Module) -> None:
        self._trainer.model = value

    @property
    def data_loader(self) -> Any:
        return self._trainer.data_loader

    @property
    def optimizer(self) -> Optimizer:
        return self._trainer.optimizer


def _scale(cfg: CfgNode, scale: float) -> None:
    solver, test = cfg.SOLVER, cfg.TEST
    solver.IMS_PER_BATCH = round(solver.IMS_PER_BATCH * scale)
    solver.BASE_LR = solver.BASE_LR * scale
    solver.MAX_ITER = round(solver.MAX_ITER / scale)
    solver.WARMUP_ITERS = round(solver.WARMUP_ITERS / scale)
    solver.STEPS = tuple(round(step / scale) for step in solver.STEPS)
    solver.CHECKPOINT_PERIOD = round(solver.CHECKPOINT_PERIOD / scale)
    test.EVAL_PERIOD = round(test.EVAL_PERIOD / scale)
    logger.info(
        "Scaled to batches of %d, learning rate %g, %d iterations, warm-up of %d.",
        solver.IMS_PER_BATCH,
        solver.BASE_LR,
        solver.MAX_ITER,
        solver.WARMUP_ITERS,
    )
