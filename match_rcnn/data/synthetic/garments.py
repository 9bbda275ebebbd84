"""One door to every shape."""

from match_rcnn.data.synthetic.body import Pose
from match_rcnn.data.synthetic.cuts import LOWERS, Cut
from match_rcnn.data.synthetic.lower import lower_shape
from match_rcnn.data.synthetic.shapes import Shape
from match_rcnn.data.synthetic.upper import UpperBuilder


def garment_shape(category_id: int, cut: Cut, pose: Pose) -> Shape:
    """The garment of ``category_id`` (1 to 13) with ``cut`` in ``pose``."""
    if category_id in LOWERS:
        return lower_shape(category_id, cut, pose)
    return UpperBuilder(category_id, cut, pose).shape()
