"""What streams share."""

import torch

from match_rcnn.d2 import Boxes, Instances
from match_rcnn.modeling.streams.stream import RoIFeatures, features_of_detections


def test_what_an_earlier_stream_made_of_detections_is_not_made_again():
    asked = []

    def source(name):
        def make(maps, boxes):
            asked.append((name, maps, [len(each) for each in boxes]))
            return torch.zeros(3, 1)

        return make

    images = [Instances((8, 8), pred_boxes=Boxes(torch.zeros(n, 4))) for n in (2, 1)]
    given = {"mask": RoIFeatures(torch.ones(3, 1), None), "other": RoIFeatures(torch.ones(9), None)}
    sources = {"mask": source("mask"), "class": source("class")}
    found = features_of_detections(sources, ("maps",), images, given)
    assert list(found) == ["mask", "class"]
    assert found["mask"] is given["mask"].values
    assert asked == [("class", ("maps",), [2, 1])]
