"""Attributes learned from given boxes and from foreground, beside images to detect in."""

import dataclasses

import pytest
import torch
import yaml

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import Boxes, EventStorage, Instances, ShapeSpec, build_model
from match_rcnn.data.taxonomy import DEEPFASHION2, Attribute
from match_rcnn.modeling.streams.attributes import AttributeHead, AttributeStream
from match_rcnn.modeling.taxonomy import set_taxonomy

SIZE = (96, 128)
TAXONOMY = dataclasses.replace(
    DEEPFASHION2,
    attributes=(Attribute("red", "texture"), Attribute("maxi", "shape"), Attribute("v", "part")),
)


def make_config(taxonomy=TAXONOMY, name="MatchRCNNROIHeads"):
    cfg = get_match_rcnn_cfg()
    cfg.merge_from_file("configs/quickstart.yaml")
    set_taxonomy(cfg, taxonomy)
    cfg.MODEL.ATTRIBUTE_ON = True
    cfg.MODEL.ROI_HEADS.NAME = name
    cfg.MODEL.ROI_HEADS.IOU_THRESHOLDS = [0.5]
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    for key in ("ROI_MASK_HEAD", "ROI_BOX_HEAD"):
        cfg.MODEL[key].CONV_DIM = 8
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 16
    cfg.MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS = cfg.MODEL.ROI_MATCH_HEAD.CONV_DIMS = [8]
    cfg.MODEL.ROI_ATTRIBUTE_HEAD.CONV_DIMS, cfg.MODEL.ROI_ATTRIBUTE_HEAD.FC_DIM = [8], 16
    return cfg


def build(cfg):
    torch.manual_seed(0)
    return build_model(cfg).train()


def given(labels, box=(10.0, 10, 60, 80)):
    """An image of a given box, as the mapper makes it."""
    rows = torch.tensor([labels], dtype=torch.int8)
    instances = Instances(SIZE, gt_boxes=Boxes(torch.tensor([box])), gt_attributes=rows)
    return {"image": image(1), "instances": instances}


def image(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 255, (3, *SIZE), generator=generator, dtype=torch.uint8)


def detected(**fields):
    """An image to detect in, of two items without masks and landmarks."""
    boxes = Boxes(torch.tensor([[10.0, 10, 60, 80], [70, 20, 120, 90]]))
    instances = Instances(SIZE, gt_boxes=boxes, gt_classes=torch.tensor([0, 7]), **fields)
    return {"image": image(2), "instances": instances}


def train(model, batch):
    torch.manual_seed(3)  # what is sampled is the same
    model.zero_grad()
    with EventStorage():
        return model(batch)


DETECTION = ("loss_rpn_cls", "loss_rpn_loc")


@pytest.mark.parametrize("name", ["MatchRCNNROIHeads", "MatchRCNNCascadeROIHeads"])
def test_detection_does_not_see_given_boxes(name):
    """Its losses are those of the other images alone, wherever in the batch they are. Without
    batch norm, whose statistics are of all images."""
    cfg = make_config(name=name)
    cfg.MODEL.RESNETS.NORM = "FrozenBN"
    model = build(cfg)
    alone = train(model, [detected()])
    mixed = train(model, [given([1, -1, 0]), detected(), given([1, 1, 1])])
    assert mixed.keys() == alone.keys()
    for loss, value in alone.items():
        if loss != "loss_attribute":
            assert float(mixed[loss].detach()) == pytest.approx(float(value.detach()), rel=1e-5)
    assert alone["loss_attribute"] == 0
    # Logits begin near 0: log 2 each of the five that are known.
    assert float(mixed["loss_attribute"].detach()) == pytest.approx(0.693, abs=0.3)


def test_batches_of_given_boxes_alone_reach_every_parameter():
    model = build(make_config())
    losses = train(model, [given([1, -1, 0]), given([0, 0, -1])])
    assert all(bool(value == 0) == (name != "loss_attribute") for name, value in losses.items())
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert model.roi_heads.attribute_head.predictor.weight.grad.any()
    assert not model.roi_heads.box_predictor.cls_score.weight.grad.any()
    assert not model.proposal_generator.rpn_head.conv.weight.grad.any()


def test_batches_without_attributes_reach_every_parameter():
    model = build(make_config())
    train(model, [detected()])["loss_attribute"].backward()
    for parameter in model.roi_heads.attribute_head.parameters():
        assert parameter.grad is not None
        assert not parameter.grad.any()


def test_foreground_with_known_attributes_is_learned_from():
    """Of two items one is known: only its RoIs are taken."""
    labels = torch.tensor([[1, -1, -1], [0, 0, 0]], dtype=torch.int8)
    rois = Instances(SIZE, gt_attributes=labels[[0, 1, 0]], gt_classes=torch.tensor([0, 7, 13]))
    stream = AttributeStream(
        sources={},
        head=AttributeHead({"class": ShapeSpec(channels=4)}, 3),
        num_classes=13,
    )
    assert stream._labelled(rois).tolist() == [True, False, False]  # the last is background
    loss = train(build(make_config()), [detected(gt_attributes=labels)])["loss_attribute"]
    assert float(loss.detach()) == pytest.approx(0.693, abs=0.3)


def test_scores_at_inference():
    model = build(make_config()).eval()
    with torch.no_grad():
        model.roi_heads.attribute_head.predictor.bias[:] = torch.tensor([20.0, 0, -20])
        (found,) = model([{"image": image(2), "height": 192, "width": 256}])
    scores = found["instances"].pred_attributes
    assert scores.shape == (len(found["instances"]), 3)
    assert len(scores) > 0
    torch.testing.assert_close(scores.mean(0), torch.tensor([1.0, 0.5, 0]), atol=0.05, rtol=0)


@pytest.mark.parametrize("features", ["pyramid", "pyramid+class", "class"])
def test_features(features):
    cfg = make_config()
    cfg.MODEL.ROI_ATTRIBUTE_HEAD.FEATURES = features
    assert train(build(cfg), [given([1, 0, 0])])["loss_attribute"] > 0


def test_a_model_without_the_stream_has_the_weights_of_before():
    cfg = make_config()
    cfg.MODEL.ATTRIBUTE_ON = False
    off = build(cfg).state_dict()
    on = build(make_config()).state_dict()
    assert [name for name in on if "attribute" not in name] == list(off)
    assert not [name for name in on if "class_weights" in name]


def test_a_model_that_knows_no_attributes():
    with pytest.raises(ValueError, match="knows no attributes"):
        build(make_config(DEEPFASHION2))


def test_the_taxonomy_stays_with_the_config():
    cfg = make_config()
    assert yaml.safe_load(cfg.MODEL.TAXONOMY)["attributes"][1] == {"name": "maxi", "type": "shape"}
    set_taxonomy(cfg, DEEPFASHION2)  # training goes on without attributes
    assert len(yaml.safe_load(cfg.MODEL.TAXONOMY)["attributes"]) == 3
    others = dataclasses.replace(TAXONOMY, attributes=TAXONOMY.attributes[:2])
    with pytest.raises(ValueError, match=r"3 attributes.*others \(2\)"):
        set_taxonomy(cfg, others)
