"""Training Match R-CNN: the trainer, its hooks, and the run behind ``tools/train_net.py``."""

from match_rcnn.engine.hooks import DeterministicSteps
from match_rcnn.engine.run import setup, train_or_evaluate
from match_rcnn.engine.trainer import MatchRCNNTrainer

__all__ = ["DeterministicSteps", "MatchRCNNTrainer", "setup", "train_or_evaluate"]
