import pytest
import torch

from match_rcnn.lite.layers import ShapeSpec
from match_rcnn.lite.modeling.matcher import Matcher
from match_rcnn.lite.modeling.roi_heads import (
    ROIHeads,
    build_roi_heads,
    select_foreground_proposals,
    select_proposals_with_visible_keypoints,
)
from match_rcnn.lite.structures import Boxes, Instances, Keypoints
from match_rcnn.lite.utils.events import EventStorage

A, B, FAR = [0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 40.0, 40.0], [60.0, 60.0, 70.0, 70.0]
SHAPES = {f"p{i}": ShapeSpec(channels=4, stride=2**i) for i in (2, 3, 4, 5)}


def sampler(**changes):
    arguments = {
        "num_classes": 5,
        "batch_size_per_image": 100,
        "positive_fraction": 0.5,
        "proposal_matcher": Matcher([0.5], [0, 1]),
        **changes,
    }
    return ROIHeads(**arguments)


def make_proposals(*boxes):
    return Instances(
        (80, 80),
        proposal_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4)),
        objectness_logits=torch.zeros(len(boxes)),
    )


def make_targets(boxes, classes, **fields):
    instances = Instances((80, 80), gt_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4)))
    instances.gt_classes = torch.tensor(classes, dtype=torch.int64)
    for name, value in fields.items():
        instances.set(name, value)
    return instances


def sample(heads, proposals, targets):
    with EventStorage() as storage:
        samples = heads.label_and_sample_proposals([proposals], [targets])
    metrics = {name: value for name, (value, _) in storage.latest().items()}
    return samples[0], metrics


def rows(instances, *names):
    """Sorted rows of box, class and further fields: sampling is in random order."""
    columns = [instances.proposal_boxes.tensor.tolist(), instances.gt_classes.tolist()]
    columns += [instances.get(name).tolist() for name in names]
    return sorted(zip(*columns, strict=True))


def test_proposals_get_class_and_fields_of_their_match():
    near_a = [0.0, 0.0, 10.0, 8.0]
    targets = make_targets([A, B], [3, 1], gt_pair_ids=torch.tensor([7, 8]))
    targets.source = torch.tensor([0, 1])  # no gt_ field: stays behind
    samples, metrics = sample(sampler(), make_proposals(near_a, FAR), targets)
    # The ground truth boxes are proposals as well; 5 is the background.
    assert [row[:2] for row in rows(samples)] == [(near_a, 3), (A, 3), (B, 1), (FAR, 5)]
    foreground, _ = select_foreground_proposals([samples], bg_label=5)
    assert rows(foreground[0], "gt_pair_ids") == [(near_a, 3, 7), (A, 3, 7), (B, 1, 8)]
    assert not samples.has("source")
    assert samples.gt_boxes.tensor[samples.gt_classes == 1].tolist() == [B]
    assert metrics == {"roi_head/num_fg_samples": 3.0, "roi_head/num_bg_samples": 1.0}


def test_ground_truth_need_not_be_appended():
    heads = sampler(proposal_append_gt=False)
    samples, _ = sample(heads, make_proposals(FAR), make_targets([A], [3]))
    assert rows(samples) == [(FAR, 5)]


def test_foreground_comes_first_and_is_limited():
    heads = sampler(batch_size_per_image=4, positive_fraction=0.5)
    samples, metrics = sample(heads, make_proposals(*[A] * 5, *[FAR] * 5), make_targets([A], [2]))
    assert samples.gt_classes.tolist() == [2, 2, 5, 5]
    assert metrics == {"roi_head/num_fg_samples": 2.0, "roi_head/num_bg_samples": 2.0}


def test_ignored_proposals_are_not_sampled():
    heads = sampler(proposal_matcher=Matcher([0.3, 0.6], [0, -1, 1]))
    half = [0.0, 0.0, 10.0, 5.0]
    samples, _ = sample(heads, make_proposals(half, FAR), make_targets([A], [2]))
    assert rows(samples) == [(A, 2), (FAR, 5)]


def test_an_image_without_ground_truth_is_all_background():
    samples, metrics = sample(sampler(), make_proposals(A, B), make_targets([], []))
    assert rows(samples) == [(A, 5), (B, 5)]
    assert not samples.has("gt_boxes")
    assert metrics == {"roi_head/num_fg_samples": 0.0, "roi_head/num_bg_samples": 2.0}


def test_no_proposals_and_no_ground_truth():
    samples, _ = sample(sampler(), make_proposals(), make_targets([], []))
    assert len(samples) == 0
    assert samples.gt_classes.dtype == torch.int64


def test_select_foreground():
    instances = Instances((80, 80), gt_classes=torch.tensor([5, 0, -1, 4]))
    instances.row = torch.arange(4)
    (chosen,), (mask,) = select_foreground_proposals([instances], bg_label=5)
    assert chosen.row.tolist() == [1, 3]
    assert mask.tolist() == [False, True, False, True]


def test_select_by_visible_keypoints():
    keypoints = [
        [(5.0, 5.0, 2.0), (50.0, 50.0, 2.0)],  # one inside
        [(10.0, 10.0, 1.0), (50.0, 50.0, 2.0)],  # on the corner, occluded
        [(5.0, 5.0, 0.0), (50.0, 50.0, 2.0)],  # the one inside is not labelled
        [(5.0, 10.1, 2.0), (-0.1, 5.0, 2.0)],  # both just outside
    ]
    some = Instances((80, 80), proposal_boxes=Boxes(torch.tensor([A]).repeat(4, 1)))
    some.gt_keypoints = Keypoints(torch.tensor(keypoints))
    some.row = torch.arange(4)
    none = Instances((80, 80), proposal_boxes=Boxes(torch.zeros(0, 4)))
    with EventStorage() as storage:
        first, second = select_proposals_with_visible_keypoints([some, none])
        assert storage.latest()["keypoint_head/num_fg_samples"][0] == 2.0
        select_proposals_with_visible_keypoints([none])
        assert storage.latest()["keypoint_head/num_fg_samples"][0] == 0.0
    assert first.row.tolist() == [0, 1]
    assert len(second) == 0


def heads_input(num_images=1):
    features = {
        n: torch.rand(num_images, 4, 96 // s.stride, 96 // s.stride) for n, s in SHAPES.items()
    }
    return None, features


def test_streams_are_made_in_order(small_cfg):
    heads = build_roi_heads(small_cfg, SHAPES)
    tops = list(dict.fromkeys(name.split(".")[0] for name in heads.state_dict()))
    assert tops == ["box_head", "box_predictor", "mask_head", "keypoint_head"]
    small_cfg.MODEL.MASK_ON = small_cfg.MODEL.KEYPOINT_ON = False
    boxes_only = build_roi_heads(small_cfg, SHAPES)
    assert not boxes_only.mask_on
    assert not hasattr(boxes_only, "keypoint_head")


def test_feature_maps_of_unequal_channels(small_cfg):
    shapes = {**SHAPES, "p3": ShapeSpec(channels=5, stride=8)}
    with pytest.raises(ValueError, match="equal channels"):
        build_roi_heads(small_cfg, shapes)


def test_boxes_only(small_cfg):
    small_cfg.MODEL.MASK_ON = small_cfg.MODEL.KEYPOINT_ON = False
    heads = build_roi_heads(small_cfg, SHAPES)
    images, features = heads_input()
    with EventStorage():
        _, losses = heads(images, features, [make_proposals(A, B)], [make_targets([A], [2])])
    assert set(losses) == {"loss_cls", "loss_box_reg"}
    (results,), losses = heads.eval()(images, features, [make_proposals(A, B)])
    assert set(results.get_fields()) == {"pred_boxes", "scores", "pred_classes"}
    assert losses == {}


def test_given_boxes_get_masks_and_keypoints(small_cfg):
    heads = build_roi_heads(small_cfg, SHAPES).eval()
    _, features = heads_input(2)
    given = [
        Instances(
            (80, 80), pred_boxes=Boxes(torch.tensor([A, B])), pred_classes=torch.tensor([0, 2])
        ),
        Instances(
            (80, 80), pred_boxes=Boxes(torch.zeros(0, 4)), pred_classes=torch.zeros(0).long()
        ),
    ]
    first, second = heads.forward_with_given_boxes(features, given)
    assert first.pred_masks.shape == (2, 1, 28, 28)
    assert first.pred_keypoints.shape == (2, 4, 3)
    assert second.pred_masks.shape == (0, 1, 28, 28)
    assert second.pred_keypoints.shape == (0, 4, 3)


def test_without_a_pooler_the_head_gets_the_feature_maps(small_cfg):
    small_cfg.MODEL.KEYPOINT_ON = False
    heads = build_roi_heads(small_cfg, SHAPES).eval()
    heads.mask_pooler = None
    seen = []
    heads.mask_head.forward = lambda x, instances: seen.append(x)
    _, features = heads_input()
    heads._forward_mask(features, [])
    assert set(seen[0]) == set(SHAPES)
