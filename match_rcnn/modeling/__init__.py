"""The model's own parts; importing this package registers them with the host."""

from match_rcnn.modeling.landmark_head import CategoryAwareLandmarkHead
from match_rcnn.modeling.roi_heads import MatchRCNNROIHeads

__all__ = ["CategoryAwareLandmarkHead", "MatchRCNNROIHeads"]
