"""A generated DeepFashion2: learnable, not trivial, and free for anyone to have."""

from match_rcnn.data.synthetic.dataset import generate

__all__ = ["generate"]
