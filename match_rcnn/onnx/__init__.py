"""Match R-CNN without torch: the parts that ``match_rcnn.onnx.export`` writes, run by numpy and
onnxruntime (docs/export.md).

Importing this package loads neither torch nor a host; only its module ``export`` does.
"""

from match_rcnn.onnx.predictor import OnnxPredictor

__all__ = ["OnnxPredictor"]
