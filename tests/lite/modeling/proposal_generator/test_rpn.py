import math

import pytest
import torch

from match_rcnn.lite.layers import ShapeSpec
from match_rcnn.lite.modeling.anchor_generator import DefaultAnchorGenerator
from match_rcnn.lite.modeling.box_regression import Box2BoxTransform
from match_rcnn.lite.modeling.matcher import Matcher
from match_rcnn.lite.modeling.proposal_generator import (
    RPN,
    StandardRPNHead,
    build_proposal_generator,
)
from match_rcnn.lite.structures import Boxes, ImageList, Instances
from match_rcnn.lite.utils.events import EventStorage


def make_rpn(**changes):
    """Anchors of 8 x 8 at every 8 pixels: a 16 x 24 image has 2 x 3 of them, side by side."""
    arguments = {
        "in_features": ["p3"],
        "head": StandardRPNHead(in_channels=2, num_anchors=1),
        "anchor_generator": DefaultAnchorGenerator(
            sizes=[8], aspect_ratios=[1], strides=[8], offset=0.5
        ),
        "anchor_matcher": Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True),
        "box2box_transform": Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0)),
        "batch_size_per_image": 4,
        "positive_fraction": 0.5,
        "pre_nms_topk": (6, 3),
        "post_nms_topk": (5, 2),
        **changes,
    }
    return RPN(**arguments)


def targets(*boxes, size=(16, 24)):
    return Instances(size, gt_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4)))


def features(num_images=1):
    return {"p3": torch.zeros(num_images, 2, 2, 3)}


IMAGES = ImageList(torch.zeros(1, 3, 16, 24), [(16, 24)])
ON_ANCHOR_1 = [8.0, 0.0, 16.0, 8.0]


def test_names_and_first_weights():
    torch.manual_seed(0)
    head = StandardRPNHead(in_channels=64, num_anchors=3)
    assert list(head.state_dict()) == [
        f"{layer}.{part}"
        for layer in ("conv", "objectness_logits", "anchor_deltas")
        for part in ("weight", "bias")
    ]
    assert head.conv.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not head.conv.bias.any()
    logits, deltas = head([torch.zeros(2, 64, 5, 7), torch.zeros(2, 64, 2, 3)])
    assert [tuple(x.shape) for x in logits] == [(2, 3, 5, 7), (2, 3, 2, 3)]
    assert [tuple(x.shape) for x in deltas] == [(2, 12, 5, 7), (2, 12, 2, 3)]


def test_several_convolutions():
    head = StandardRPNHead(in_channels=4, num_anchors=1, conv_dims=(-1, 6))
    assert [name for name, _ in head.conv.named_children()] == ["conv0", "conv1"]
    assert [conv.out_channels for conv in head.conv] == [4, 6]
    with pytest.raises(ValueError, match="conv_dims"):
        StandardRPNHead(in_channels=4, num_anchors=1, conv_dims=(0,))


def test_built_from_a_config(small_cfg):
    names = small_cfg.MODEL.RPN.IN_FEATURES
    shapes = {n: ShapeSpec(channels=16, stride=4 << i) for i, n in enumerate(names)}
    small_cfg.MODEL.RPN.LOSS_WEIGHT = 0.5
    small_cfg.MODEL.RPN.BBOX_REG_LOSS_WEIGHT = 3.0
    rpn = build_proposal_generator(small_cfg, shapes)
    assert rpn.loss_weight == {"loss_rpn_cls": 0.5, "loss_rpn_loc": 1.5}
    assert rpn.pre_nms_topk == {True: 12000, False: 6000}
    assert rpn.anchor_matcher.allow_low_quality_matches
    assert all(name.startswith("rpn_head.") for name in rpn.state_dict())
    shapes["p3"] = ShapeSpec(channels=8, stride=8)
    with pytest.raises(ValueError, match="equal channels"):
        build_proposal_generator(small_cfg, shapes)


def test_labels_of_anchors():
    rpn = make_rpn(batch_size_per_image=100)
    anchors = rpn.anchor_generator([features()["p3"]])
    (labels,), (boxes,) = rpn.label_and_sample_anchors(
        anchors, [targets(ON_ANCHOR_1, [0.0, 8.0, 8.0, 12.0])]
    )
    # Anchor 3 overlaps its ground truth by half: ignored, were it not that one's best.
    assert labels.tolist() == [0, 1, 0, 1, 0, 0]
    assert boxes[[1, 3]].tolist() == [ON_ANCHOR_1, [0.0, 8.0, 8.0, 12.0]]


def test_sampling_leaves_the_rest_unused():
    rpn = make_rpn()
    anchors = rpn.anchor_generator([features()["p3"]])
    (labels,), _ = rpn.label_and_sample_anchors(anchors, [targets(ON_ANCHOR_1)])
    assert labels.dtype == torch.int8
    assert sorted(labels.tolist()) == [-1, -1, 0, 0, 0, 1]


def test_losses_by_hand():
    rpn = make_rpn()
    with EventStorage() as storage:
        _, losses = rpn(
            ImageList(torch.zeros(2, 3, 16, 24), [(16, 24)] * 2),
            features(2),
            [targets([8.0, 0.0, 16.0, 12.0]), targets()],
        )
    # Logits and deltas are 0. Sampled are 1 + 3 and 0 + 4 anchors, each log 2; the normaliser is 8.
    assert losses["loss_rpn_cls"].item() == pytest.approx(math.log(2))
    # The box is 4 pixels longer than its anchor: dy = 2/8, dh = log 1.5.
    assert losses["loss_rpn_loc"].item() == pytest.approx((0.25 + math.log(1.5)) / 8)
    metrics = {name: value for name, (value, _) in storage.latest().items()}
    assert metrics == {"rpn/num_pos_anchors": 0.5, "rpn/num_neg_anchors": 3.5}


def test_loss_weights():
    rpn = make_rpn(loss_weight={"loss_rpn_loc": 2.0})
    with EventStorage():
        _, losses = rpn(IMAGES, features(), [targets([8.0, 0.0, 16.0, 12.0])])
    assert losses["loss_rpn_cls"].item() == pytest.approx(math.log(2))
    assert losses["loss_rpn_loc"].item() == pytest.approx(2 * (0.25 + math.log(1.5)) / 4)
    assert make_rpn(loss_weight=3.0).loss_weight == {"loss_rpn_cls": 3.0, "loss_rpn_loc": 3.0}


def test_without_ground_truth_everything_still_gets_a_gradient():
    rpn = make_rpn()
    with EventStorage():
        _, losses = rpn(IMAGES, features(), [targets()])
    assert losses["loss_rpn_loc"].item() == 0
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in rpn.parameters())


def test_logits_and_deltas_stay_with_their_anchors():
    """The order of (H, W, A) and of an anchor's four deltas, with two anchors a cell."""
    rpn = make_rpn(
        head=StandardRPNHead(in_channels=2, num_anchors=2),
        anchor_generator=DefaultAnchorGenerator(
            sizes=[4, 8], aspect_ratios=[1], strides=[8], offset=0.5
        ),
        pre_nms_topk=(12, 12),
        post_nms_topk=(1, 1),
    ).eval()
    logits, deltas = torch.zeros(1, 2, 2, 3), torch.zeros(1, 8, 2, 3)
    logits[0, 1, 1, 2] = 5.0  # of the 8 x 8 anchor in the last cell
    deltas[0, 4, 1, 2] = -0.25  # its dx
    rpn.rpn_head.forward = lambda features: ([logits], [deltas])
    (proposals,), losses = rpn(IMAGES, features())
    assert proposals.proposal_boxes.tensor.tolist() == [[14.0, 8.0, 22.0, 16.0]]
    assert proposals.objectness_logits.tolist() == [5.0]
    assert losses == {}


def test_number_of_proposals_and_no_gradient():
    rpn = make_rpn()
    with EventStorage():
        (training,), _ = rpn(IMAGES, features(), [targets(ON_ANCHOR_1)])
    (test,), _ = rpn.eval()(IMAGES, features())
    assert (len(training), len(test)) == (5, 2)
    assert not training.proposal_boxes.tensor.requires_grad
    assert not training.objectness_logits.requires_grad
