"""Training: the loop, its hooks, the default trainer and predictor, and starting processes."""

from . import hooks
from .defaults import DefaultPredictor, DefaultTrainer
from .launch import launch
from .setup import default_argument_parser, default_setup
from .train_loop import AMPTrainer, HookBase, SimpleTrainer, TrainerBase

__all__ = [
    "AMPTrainer",
    "DefaultPredictor",
    "DefaultTrainer",
    "HookBase",
    "SimpleTrainer",
    "TrainerBase",
    "default_argument_parser",
    "default_setup",
    "hooks",
    "launch",
]
