"""``from match_rcnn.predictor import MatchRCNNPredictor``, as the README has it."""

from match_rcnn.inference.predictor import MatchRCNNPredictor

__all__ = ["MatchRCNNPredictor"]
