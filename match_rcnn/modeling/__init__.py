"""The model's own parts; importing this package registers them with the host."""

from match_rcnn.modeling import backbones, recognition
from match_rcnn.modeling.proposals import IgnoringRPN
from match_rcnn.modeling.roi_heads import MatchRCNNCascadeROIHeads, MatchRCNNROIHeads
from match_rcnn.modeling.streams.landmark_head import CategoryAwareLandmarkHead
from match_rcnn.modeling.streams.match_head import ROI_MATCH_HEAD_REGISTRY, SiameseMatchHead
from match_rcnn.modeling.streams.stream import ROI_STREAM_REGISTRY

__all__ = [
    "ROI_MATCH_HEAD_REGISTRY",
    "ROI_STREAM_REGISTRY",
    "CategoryAwareLandmarkHead",
    "IgnoringRPN",
    "MatchRCNNCascadeROIHeads",
    "MatchRCNNROIHeads",
    "SiameseMatchHead",
]
