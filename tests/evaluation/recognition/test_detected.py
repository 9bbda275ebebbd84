"""Attributes of garments that have to be found first, by hand."""

import numpy as np
import pytest
import torch

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import Boxes, BoxMode, DatasetCatalog, Instances, MetadataCatalog
from match_rcnn.data.taxonomy import DEEPFASHION2, Attribute
from match_rcnn.engine.description import count_labels, describe_run
from match_rcnn.evaluation.evaluators import build_evaluator
from match_rcnn.evaluation.recognition.detected import DetectedAttributesEvaluator
from match_rcnn.modeling.taxonomy import set_taxonomy

NAME = "made_up_val"
#: Four of type texture, so that three can be right and one wrong; one shape.
ATTRIBUTES = (*(Attribute(n, "texture") for n in "abcd"), Attribute("e", "shape"))
LABELS = np.array([[1, -1, 0, 1, 1], [1, -1, -1, -1, -1], [-1, 1, 1, -1, 1]], np.int8)
BOX = [10.0, 10, 50, 50]


@pytest.fixture
def data_set():
    items = [
        {
            "file_name": f"{i}.jpg",
            "image_id": i,
            "annotations": [{"bbox": BOX, "bbox_mode": BoxMode.XYXY_ABS, "attributes": row}],
        }
        for i, row in enumerate(LABELS)
    ]
    DatasetCatalog.register(NAME, lambda: items)
    MetadataCatalog.get(NAME).set(
        evaluator_type="deepfashion_category",
        thing_classes=["a"],
        attribute_names=[a.name for a in ATTRIBUTES],
        attribute_types=np.array([1, 1, 1, 1, 3]),
    )
    yield items
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def output(*found):
    """Instances of (box, score, attribute scores)."""
    boxes, scores, attributes = zip(*found, strict=True) if found else ((), (), ())
    instances = Instances((100, 100))
    instances.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.scores = torch.tensor(scores)
    instances.pred_attributes = torch.tensor(attributes).reshape(-1, 5)
    return {"instances": instances}


def test_recall_by_hand(data_set):
    good, bad = [0.9, 0.1, 0.2, 0.8, 0.1], [0.1, 0.2, 0.3, 0.9, 0.5]
    evaluator = DetectedAttributesEvaluator(NAME, ATTRIBUTES, distributed=False)
    outputs = [
        # The most confident one of those that overlap, not the best placed; a better one elsewhere.
        output((BOX, 0.5, bad), ([12, 10, 50, 50], 0.7, good), ([60, 60, 90, 90], 0.9, bad)),
        output(([10, 10, 50, 31], 0.9, good), ([10, 10, 50, 29], 0.95, bad)),  # IoU .525, .475
        output(([10, 10, 50, 29], 0.9, good)),  # missed
    ]
    evaluator.process([{"image_id": i} for i in (0, 1)], outputs[:2])
    evaluator.process([{"image_id": 2}], outputs[2:])
    results = evaluator.evaluate()
    # Positives: 2 textures and a shape, 1 texture, 2 textures and a shape.
    every, found = results["attributes"], results["attributes_found"]
    assert every["texture_top3"] == pytest.approx(100 * 3 / 5)
    assert every["shape_top3"] == pytest.approx(100 * 1 / 2)
    assert every["mean_of_types_top3"] == pytest.approx(100 * (3 / 5 + 1 / 2) / 2)
    assert every["all_ranked_top3"] == pytest.approx(100 * 3 / 7)  # e is fourth or fifth
    assert every["all_ranked_top5"] == pytest.approx(100 * 4 / 7)
    assert every["detected"] == pytest.approx(100 * 2 / 3)
    assert (found["texture_top3"], found["shape_top3"]) == (100, 100)
    assert found["all_ranked_top3"] == pytest.approx(100 * 3 / 4)


def test_nothing_is_found(data_set):
    evaluator = DetectedAttributesEvaluator(NAME, ATTRIBUTES, distributed=False)
    evaluator.process([{"image_id": 0}], [output()])
    results = evaluator.evaluate()
    assert (results["attributes"]["texture_top5"], results["attributes"]["detected"]) == (0, 0)
    assert np.isnan(results["attributes_found"]["texture_top3"])


def test_a_model_without_the_stream(data_set):
    evaluator = DetectedAttributesEvaluator(NAME, ATTRIBUTES, distributed=False)
    found = output()
    found["instances"].remove("pred_attributes")
    with pytest.raises(ValueError, match="ATTRIBUTE_ON"):
        evaluator.process([{"image_id": 0}], [found])


def config(attributes=ATTRIBUTES):
    cfg = get_match_rcnn_cfg()
    cfg.MODEL.ATTRIBUTE_ON = cfg.MODEL.MATCH_ON = cfg.MODEL.MASK_ON = True
    cfg.TEST.VISUALIZE_IMAGES = 2
    taxonomy = type(DEEPFASHION2)("own", DEEPFASHION2.categories, attributes)
    set_taxonomy(cfg, taxonomy)
    return cfg


def test_it_is_all_that_scores_given_boxes(data_set):
    assert isinstance(build_evaluator(config(), NAME), DetectedAttributesEvaluator)
    with pytest.raises(ValueError, match="knows 2 attributes, and made_up_val has 5"):
        build_evaluator(config(ATTRIBUTES[:2]), NAME)


def test_what_is_scored_is_told(data_set):
    cfg = config()
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (NAME,), (NAME,)
    cfg.MODEL.MASK_ON = cfg.MODEL.MATCH_ON = False
    lines = describe_run(cfg).splitlines()
    assert lines[0].split()[-2:] == ["attributes", "given"]
    assert lines[2].split() == ["training", NAME, *["3", "3", "0", "0", "0", "0", "3", "3"]]
    assert "loss_attribute (of 3 of 3 items)" in lines[-2]
    assert lines[-1] == f"tables of {NAME}: attributes, attributes_found"
    assert count_labels(data_set).attributes == 3
