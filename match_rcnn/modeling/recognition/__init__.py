"""One given box an image: the systems of DeepFashion (2016), made of shared parts."""

from match_rcnn.modeling.recognition.attention import ATTENTION_REGISTRY, Attention
from match_rcnn.modeling.recognition.heads import RECOGNITION_HEAD_REGISTRY, RecognitionHead
from match_rcnn.modeling.recognition.heatmaps import HeatmapBranch
from match_rcnn.modeling.recognition.landmarks import LANDMARK_BRANCH_REGISTRY, LandmarkBranch
from match_rcnn.modeling.recognition.manipulation import MANIPULATOR_REGISTRY
from match_rcnn.modeling.recognition.meta_arch import Recognition
from match_rcnn.modeling.recognition.typed_attributes import TypedAttributeHead
from match_rcnn.modeling.recognition.words import WordHead

__all__ = [
    "ATTENTION_REGISTRY",
    "LANDMARK_BRANCH_REGISTRY",
    "MANIPULATOR_REGISTRY",
    "RECOGNITION_HEAD_REGISTRY",
    "Attention",
    "HeatmapBranch",
    "LandmarkBranch",
    "Recognition",
    "RecognitionHead",
    "TypedAttributeHead",
    "WordHead",
]
