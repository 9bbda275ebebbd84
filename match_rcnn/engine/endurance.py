"""What makes a host's trainer hard to break: around its loop, and as hooks in it.

The loop ends in one of four ways: after its last iteration; early, since a metric got no better;
with a :class:`~match_rcnn.engine.faults.TrainingFault` (:class:`Preempted` among them) that says
what happened and what is lost; or with any other error, which is a bug.
"""

import logging
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from match_rcnn.d2 import CfgNode, DefaultTrainer, HookBase, comm, hooks
from match_rcnn.data.given_boxes import taxonomy_to_learn
from match_rcnn.engine.checkpoints import EnduringCheckpointer
from match_rcnn.engine.evaluations import (
    EnduringEvaluation,
    EvaluationLog,
    WeightAverage,
    at_iteration,
    best_metric,
    cut_metrics,
)
from match_rcnn.engine.faults import Leave, Preempted, PreemptionSignals, TrainingFault, explain
from match_rcnn.engine.steps import accumulate_step, check_accumulation
from match_rcnn.engine.watch import StepWatch, UnreadableImages
from match_rcnn.modeling.taxonomy import taxonomy_from_config

logger = logging.getLogger(__name__)


class EnduringTrainer(DefaultTrainer):
    """The host's ``DefaultTrainer`` with checkpoints, evaluations and errors as
    ``docs/endurance.md`` describes them.

    Attributes:
        stop_reason: why training is to end after this step as if it were the last; "" otherwise.
        average: of the weights, if ``MODEL_EMA.ENABLED``.
    """

    def __init__(self, cfg: CfgNode) -> None:
        check_accumulation(cfg, comm.get_world_size())
        self.stop_reason = ""
        self._signals = PreemptionSignals()
        self._is_ending = False
        self._is_resumed = False
        self._done = 0
        super().__init__(cfg)

    def build_hooks(self) -> list[HookBase]:
        """The host's, with ours in the place of those that check, evaluate and save."""
        cfg = self.cfg
        self.checkpointer = EnduringCheckpointer(
            self.model,
            cfg.OUTPUT_DIR,
            kept=cfg.SOLVER.CHECKPOINTS_KEPT,
            taxonomy=taxonomy_from_config(cfg)
            if cfg.MODEL.TAXONOMY
            else taxonomy_to_learn(cfg.DATASETS.TRAIN),
            trainer=weakref.proxy(self),
        )
        self.average = (
            WeightAverage(self.checkpointer.model, cfg.MODEL_EMA.DECAY)
            if cfg.MODEL_EMA.ENABLED
            else None
        )
        data_set: Any = self._trainer.data_loader.dataset  # type: ignore[attr-defined]
        unreadable = UnreadableImages(
            Path(cfg.OUTPUT_DIR) / "unreadable_images.json",
            len(data_set),
            cfg.DATALOADER.MAX_UNREADABLE_SHARE,
        )
        periods = (cfg.SOLVER.CHECKPOINT_PERIOD, cfg.TEST.EVAL_PERIOD)
        self.watch = StepWatch(self._signals, unreadable, periods)
        built: list[HookBase] = [self.watch, unreadable]
        for hook in super().build_hooks():
            is_evaluation = isinstance(hook, hooks.EvalHook)
            # Those that need the average; checkpoints are the main process's alone.
            if is_evaluation or isinstance(hook, hooks.PeriodicCheckpointer):
                built += [self.average] if self.average and self.average not in built else []
            built.append(self._evaluation(hook) if is_evaluation else hook)
        return [*built, Ending()]

    def _evaluation(self, host: Any) -> EnduringEvaluation:
        test, metric = self.cfg.TEST, best_metric(self.cfg)
        return EnduringEvaluation(
            test.EVAL_PERIOD,
            host._func,
            checkpointer=self.checkpointer,
            log=EvaluationLog(Path(self.cfg.OUTPUT_DIR) / "evaluations.json", metric),
            signals=self._signals,
            average=self.average,
            metric=metric if test.EVAL_PERIOD > 0 else "",
            patience=test.EARLY_STOP_PATIENCE,
        )

    def is_leaving(self) -> bool:
        """Whether the loop ends before its time, so that nothing long may begin."""
        return self._is_ending or bool(self.watch.preempted)

    def train(self) -> Any:  # type: ignore[override]
        """Train to the end, as the host does.

        Raises:
            TrainingFault: training cannot go on; the message says why and what is lost.
        """
        try:
            with self._signals:
                return super().train()
        except Leave as leave:
            if leave.fault is None:
                return None
            raise leave.fault from None
        except Exception as error:  # a worker's death is told between two lines of the loop, too
            fault = explain(error, self.cfg.OUTPUT_DIR)
            if fault is None:
                raise
            raise fault from None

    def resume_or_load(self, resume: bool = True) -> None:
        self._is_resumed = resume
        super().resume_or_load(resume)

    def before_train(self) -> None:
        self._done = self.start_iter
        if self.start_iter:
            self.checkpointer.last_iteration = self.start_iter - 1
        if comm.is_main_process():
            self.checkpointer.remove_leftovers()
            if self._is_resumed:
                cut_metrics(Path(self.cfg.OUTPUT_DIR) / "metrics.json", self.start_iter)
        with self._faults():
            super().before_train()
            self._leave_if_stopped()

    def _leave_if_stopped(self) -> None:
        """A run that had stopped early is resumed: there is nothing left to do."""
        if self.stop_reason and self.start_iter:
            logger.info("Training had stopped: %s", self.stop_reason)
            raise Leave

    def before_step(self) -> None:
        with self._faults():
            super().before_step()

    def run_step(self) -> None:
        steps = self.cfg.SOLVER.ACCUMULATION_STEPS
        with self._faults():
            if steps == 1:
                super().run_step()
            else:
                self._trainer.iter = self.iter
                accumulate_step(self._trainer, steps)
        self._done = self.iter + 1

    def after_step(self) -> None:
        with self._faults():
            super().after_step()

    def after_train(self) -> None:
        """Every hook gets its turn, also when one before it fails, or training did."""
        self.storage.iter = self.iter
        fault: Leave | None = None
        for hook in self._hooks:
            if self._is_ending:
                with suppress(Exception):
                    hook.after_train()
                continue
            try:
                with self._faults():
                    hook.after_train()
            except Leave as leave:
                fault = leave
        if fault:
            raise fault

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Errors that are no bugs leave as :class:`Leave`, without the host's traceback."""
        try:
            yield
        except Leave as leave:
            self._is_ending = True
            raise leave
        except Exception as error:
            try:
                fault = self._explain(error)
            except RuntimeError as later:  # a worker's death is told at any moment, here too
                fault = self._explain(later)
            if fault is None:
                raise
            self._is_ending = True
            fault.args = (f"{fault} {self._loss_of_work()}",)
            raise Leave(fault) from error

    def _explain(self, error: Exception) -> TrainingFault | None:
        if isinstance(error, FloatingPointError):
            return self.watch.explain(error)
        return explain(error, self.cfg.OUTPUT_DIR)

    def _loss_of_work(self) -> str:
        saved = self.checkpointer.last_iteration
        if not comm.is_main_process():
            return f"At iteration {self.iter}."
        if saved is None:
            return f"At iteration {self.iter}, before a checkpoint; iterations lost: {self._done}."
        return (
            f"At iteration {self.iter}; iterations lost: {self._done - saved - 1}. The last "
            f"checkpoint is {self.checkpointer.get_checkpoint_file()}; --resume goes on from it."
        )


class Ending(HookBase):
    """Ends training after this step if a signal asks for it or ``trainer.stop_reason`` is set; the
    last hook, so that all others saw the step. Writes the averaged weights at a regular end."""

    def before_train(self) -> None:
        """A run that was killed after its last iteration may lack the files of its end."""
        trainer: Any = self.trainer
        start = trainer.start_iter
        has_end = Path(trainer.checkpointer.get_checkpoint_file()).name == "model_final.pth"
        if start >= trainer.max_iter and start and not has_end:
            with at_iteration(trainer, start - 1):
                trainer.checkpointer.save("model_final", iteration=start - 1)
                self._save_average()

    def after_step(self) -> None:
        trainer: Any = self.trainer
        signal = trainer.watch.preempted or self._own_signal()
        if signal:
            trainer.checkpointer.save_iteration(trainer.iter)
            comm.synchronize()
            file = trainer.checkpointer.get_checkpoint_file()
            text = f"{signal}: ended after iteration {trainer.iter}; --resume goes on from {file}."
            raise Leave(Preempted(text, agreed=True))
        if trainer.stop_reason or trainer.iter + 1 >= trainer.max_iter:
            self._save_average()
        if trainer.stop_reason and trainer.iter + 1 < trainer.max_iter:
            logger.info("Training ends at iteration %d: %s", trainer.iter, trainer.stop_reason)
            trainer.checkpointer.save("model_final", iteration=trainer.iter)
            comm.synchronize()
            raise Leave

    def _own_signal(self) -> str:
        """Of a run that is one process: nobody need agree."""
        trainer: Any = self.trainer
        return trainer._signals.received if comm.get_world_size() == 1 else ""

    def _save_average(self) -> None:
        trainer: Any = self.trainer
        if trainer.average:
            weights = trainer.average.averaged.state_dict()
            trainer.checkpointer.save(
                "model_ema", resumable=False, weights=weights, iteration=trainer.iter
            )
