"""Match R-CNN on DeepFashion2: a detectron2 extension that also runs without detectron2."""

__version__ = "0.1.0"
