"""Random seeds."""

import logging
import os
import random
import secrets

import numpy as np
import torch

__all__ = ["seed_all_rng"]


def seed_all_rng(seed: int | None = None) -> None:
    """Make random numbers of Python, numpy and torch, and the hashes of processes started from
    here, a function of ``seed``; None draws one from the system and logs it."""
    if seed is None:
        seed = secrets.randbits(32)
        logging.getLogger(__name__).info("The seed of this run is %d", seed)
    for seeding in (random.seed, np.random.seed, torch.manual_seed):
        seeding(seed)
    os.environ["PYTHONHASHSEED"] = str(seed)
