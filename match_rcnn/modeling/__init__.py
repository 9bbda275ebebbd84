"""The model's own parts; importing this package registers them with the host."""

from match_rcnn.modeling.landmark_head import CategoryAwareLandmarkHead
from match_rcnn.modeling.match_head import ROI_MATCH_HEAD_REGISTRY, SiameseMatchHead
from match_rcnn.modeling.roi_heads import MatchRCNNROIHeads

__all__ = [
    "ROI_MATCH_HEAD_REGISTRY",
    "CategoryAwareLandmarkHead",
    "MatchRCNNROIHeads",
    "SiameseMatchHead",
]
