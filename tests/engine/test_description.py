import logging

import numpy as np
import pytest

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import BoxMode, DatasetCatalog, MetadataCatalog
from match_rcnn.engine.description import Labels, count_labels, describe_run
from match_rcnn.modeling.streams.stream import ROI_STREAM_REGISTRY, Stream


def item(**labels):
    return {"bbox": [1.0, 1, 5, 5], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0, **labels}


def image(*annotations, source=None, pair_id=None):
    own = {"file_name": "a.jpg", "image_id": 1, "width": 10, "height": 10}
    return {**own, "source": source, "pair_id": pair_id, "annotations": list(annotations)}


REGION = {"bbox": [0.0, 0, 9, 9], "iscrowd": 1}
# A file repeats a region for each category that it might be.
BOXES = [image(item(), item(**REGION), {**item(**REGION), "category_id": 1}), image(item())]
LABELLED = [
    image(
        item(segmentation=[np.zeros(6)], num_keypoints=3, style=2),
        item(segmentation=[], num_keypoints=0, style=2),
        source="user",
        pair_id=1,
    ),
    image(item(style=2), source="shop", pair_id=1),
]


@pytest.fixture
def data_sets():
    found = {"boxes": BOXES, "labelled": LABELLED}
    for name, dicts in found.items():
        DatasetCatalog.register(name, lambda dicts=dicts: dicts)
        MetadataCatalog.get(name).thing_classes = ["garment"]
    yield
    for name in found:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_labels_are_counted_item_by_item():
    assert count_labels(BOXES) == Labels(images=2, items=2, ignored=1)
    assert count_labels(LABELLED) == Labels(images=2, items=3, masks=1, landmarks=1, pairs=3)


def describe(*overrides):
    cfg = get_match_rcnn_cfg()
    cfg.merge_from_list(["MODEL.MASK_ON", True, "MODEL.MATCH_ON", True, *overrides])
    return describe_run(cfg)


def test_the_table(data_sets):
    keys = ["DATASETS.TRAIN", ("boxes", "labelled"), "DATASETS.TEST", ("boxes",)]
    lines = describe(*keys).splitlines()
    rows = [line.split() for line in lines]
    assert rows[0] == ["data", "set", "images", "items", "masks", "landmarks", "pairs", "ignored"]
    assert ["training", "boxes", "2", "2", "0", "0", "0", "1"] in rows
    assert ["training", "labelled", "2", "3", "1", "1", "3", "0"] in rows
    assert ["evaluation", "boxes", "2", "2", "0", "0", "0", "1"] in rows
    assert "loss_mask (of 1 of 5 items), loss_match (of 3 of 5 items)" in lines[-2]
    # Masks are predicted, but nothing says whether they are right.
    assert lines[-1] == "tables of boxes: bbox"


def test_streams_that_have_nothing_to_learn_from_are_told(data_sets, caplog):
    with caplog.at_level(logging.WARNING):
        describe("DATASETS.TRAIN", ("boxes",))
    assert "MaskStream learns, but no item of boxes has masks: loss_mask" in caplog.text
    assert "MatchStream learns" in caplog.text
    assert "LandmarkStream" not in caplog.text


def test_a_stream_of_ones_own_is_told_as_well(data_sets):
    @ROI_STREAM_REGISTRY.register()
    class Colours(Stream):
        loss = "loss_colours"

    try:
        keys = ["DATASETS.TRAIN", ("boxes",), "MODEL.ROI_STREAMS", ["MaskStream", "Colours"]]
        assert "loss_colours (of items with labels of its own)" in describe(*keys)
    finally:
        del ROI_STREAM_REGISTRY._obj_map["Colours"]
