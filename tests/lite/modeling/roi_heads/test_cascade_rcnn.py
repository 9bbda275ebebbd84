import pytest
import torch
from torch import nn

from match_rcnn.lite.layers import ShapeSpec
from match_rcnn.lite.modeling.matcher import Matcher
from match_rcnn.lite.modeling.roi_heads import CascadeROIHeads, build_roi_heads
from match_rcnn.lite.structures import Boxes, Instances
from match_rcnn.lite.utils.events import EventStorage

SHAPES = {f"p{i}": ShapeSpec(channels=16, stride=2**i) for i in (2, 3, 4, 5)}
A, B = [0.0, 0.0, 40.0, 40.0], [40.0, 40.0, 80.0, 80.0]


@pytest.fixture
def cascade_cfg(small_cfg):
    model = small_cfg.MODEL
    model.ROI_HEADS.NAME = "CascadeROIHeads"
    model.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = True
    model.MASK_ON = model.KEYPOINT_ON = False
    return small_cfg


def feature_maps():
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.rand(1, 16, 80 // s.stride, 80 // s.stride, generator=generator)
        for name, s in SHAPES.items()
    }


def rois(*boxes, **fields):
    return Instances((80, 80), proposal_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4)), **fields)


def truth(*boxes):
    return Instances(
        (80, 80),
        gt_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4)),
        gt_classes=torch.arange(len(boxes)),
    )


def test_names_of_the_stages(cascade_cfg):
    heads = build_roi_heads(cascade_cfg, SHAPES)
    assert heads.num_cascade_stages == 3
    assert [m.thresholds[1] for m in heads.proposal_matchers] == [0.5, 0.6, 0.7]
    assert [p.box2box_transform.weights[0] for p in heads.box_predictor] == [10.0, 20.0, 30.0]
    names = list(heads.state_dict())
    assert names[0] == "box_head.0.fc1.weight"
    assert names[-1] == "box_predictor.2.bbox_pred.bias"
    assert heads.box_predictor[0].bbox_pred.out_features == 4


def test_rois_of_a_later_stage(cascade_cfg):
    heads = build_roi_heads(cascade_cfg, SHAPES).train()
    boxes = torch.tensor([[-5.0, 10, 30, 20], [90.0, 0, 95, 10]], requires_grad=True)
    (found,) = heads._create_proposals_from_boxes([boxes], [(80, 80)])
    # Clipped; the second one lies outside of the image.
    assert found.proposal_boxes.tensor.tolist() == [[0, 10, 30, 20]]
    assert not found.proposal_boxes.tensor.requires_grad
    (found,) = heads.eval()._create_proposals_from_boxes([boxes], [(80, 80)])
    assert len(found) == 2


def test_what_a_later_stage_learns(cascade_cfg):
    heads = build_roi_heads(cascade_cfg, SHAPES)
    # Overlaps with A: 24 / 40 is the second stage's threshold, 23 / 40 is below it.
    inside, below = [0.0, 0.0, 40.0, 24.0], [0.0, 0.0, 40.0, 23.0]
    with EventStorage() as storage:
        first, second = heads._match_and_label_boxes(
            [rois(inside, below, B), rois(A)], 1, [truth(A, B), truth()]
        )
    background = heads.num_classes
    assert first.gt_classes.tolist() == [0, background, 1]
    assert first.gt_boxes.tensor[[0, 2]].tolist() == [A, B]
    assert second.gt_classes.tolist() == [background]
    logged = {name: value for name, (value, _) in storage.latest().items()}
    assert logged == {
        "stage1/roi_head/num_fg_samples": 1.0,
        "stage1/roi_head/num_bg_samples": 1.0,
    }


def test_features_get_the_mean_of_the_stages_gradients(cascade_cfg):
    """Three equal stages on equal RoIs: the heads' gradients are a single stage's, and so is the
    features', though three losses add up."""

    def gradients(stages):
        node = cascade_cfg.MODEL.ROI_BOX_CASCADE_HEAD
        node.IOUS, node.BBOX_REG_WEIGHTS = (0.5,) * stages, [(10.0, 10.0, 5.0, 5.0)] * stages
        torch.manual_seed(0)
        heads = build_roi_heads(cascade_cfg, SHAPES).train()
        for part in (heads.box_head, heads.box_predictor):
            for of_stage in part:
                of_stage.load_state_dict(part[0].state_dict())
        for predictor in heads.box_predictor:
            nn.init.zeros_(predictor.bbox_pred.weight)  # each stage keeps its boxes
        maps = {name: x.requires_grad_() for name, x in feature_maps().items()}
        sampled = [rois(A, gt_classes=torch.tensor([0]), gt_boxes=Boxes(torch.tensor([A])))]
        with EventStorage():
            losses = heads._forward_box(maps, sampled, [truth(A)])
        assert len(losses) == 2 * stages
        sum(losses.values()).backward()
        return maps["p2"].grad, heads.box_head[0].fc1.weight.grad

    torch.testing.assert_close(gradients(3), gradients(1))


def test_scores_are_means_and_boxes_the_last_stages(cascade_cfg):
    heads = build_roi_heads(cascade_cfg, SHAPES).eval()
    with torch.no_grad():
        for stage, predictor in enumerate(heads.box_predictor):
            for parameter in predictor.parameters():
                parameter.zero_()
            # Class 0 with odds of 1, 2 and 4 against each of three others.
            predictor.cls_score.bias[0] = float(torch.tensor(2.0**stage).log())
            # A quarter of its width to the right in each stage, of 20 pixels.
            predictor.bbox_pred.bias[0] = 0.25 * predictor.box2box_transform.weights[0]
        results, losses = heads(None, feature_maps(), [rois([0.0, 0.0, 20.0, 20.0])])
    best = results[0][0]
    assert losses == {}
    assert best.pred_boxes.tensor.tolist() == [pytest.approx([15.0, 0.0, 35.0, 20.0])]
    assert best.pred_classes.tolist() == [0]
    assert best.scores.item() == pytest.approx((1 / 4 + 2 / 5 + 4 / 7) / 3)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", False, "CLS_AGNOSTIC_BBOX_REG True"),
        ("ROI_BOX_CASCADE_HEAD.IOUS", (0.5, 0.6), "has 2 IOUS and 3 BBOX_REG_WEIGHTS"),
        ("ROI_BOX_CASCADE_HEAD.IOUS", (0.4, 0.5, 0.6), "is 0.4 and .* is 0.5"),
    ],
)
def test_impossible_configs(cascade_cfg, key, value, message):
    cascade_cfg.merge_from_list([f"MODEL.{key}", value])
    with pytest.raises(ValueError, match=message):
        build_roi_heads(cascade_cfg, SHAPES)


def test_parts_of_different_number():
    with pytest.raises(ValueError, match=r"\[2, 1, 2\]"):
        CascadeROIHeads(
            box_heads=[nn.Identity()] * 2,
            box_predictors=[nn.Identity()],
            proposal_matchers=[Matcher([0.5], [0, 1])] * 2,
        )
