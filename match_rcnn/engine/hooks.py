"""Hooks that the host does not have."""

import random
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from match_rcnn.d2 import HookBase, comm
from match_rcnn.data.pairs import PairBatchSampler
from match_rcnn.data.streams import StreamBatchSampler


class DeterministicSteps(HookBase):
    """Make every training step a function of (seed, process, iteration) alone.

    Before each step the random generators (Python, numpy, torch, CUDA) are seeded from these
    three, so that a run that was interrupted goes on as if it had not been. The seed is stored
    in the checkpoint; on resume the stored one holds, and the loader passes over the batches
    that were used (:mod:`match_rcnn.data.streams`).

    Args:
        loader: the training loader, whose batch sampler is set to the first iteration.
    """

    def __init__(self, loader: Iterable[Any]) -> None:
        sampler = getattr(loader, "batch_sampler", None)
        if not isinstance(sampler, (StreamBatchSampler, PairBatchSampler)):
            raise TypeError(f"expected a loader of match_rcnn.data.loader, got {type(sampler)}")
        self._loader = loader
        self._sampler = sampler
        self.seed = sampler.stream.seed

    def before_train(self) -> None:
        self._sampler.start = self.trainer.start_iter
        self._sampler.stream.reseed(self.seed)
        inner: Any = getattr(self.trainer, "_trainer", self.trainer)
        if "_data_loader_iter" in vars(inner):  # detectron2 0.6 began before `start` was known
            inner._data_loader_iter = iter(self._loader)

    def before_step(self) -> None:
        sequence = np.random.SeedSequence([self.seed, comm.get_rank(), self.trainer.iter])
        seed = int(sequence.generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002  the host's augmentations draw from it
        torch.manual_seed(seed)

    def state_dict(self) -> dict[str, int]:
        return {"seed": self.seed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.seed = state["seed"]
