import math

import pytest
import torch

from match_rcnn.lite.modeling.proposal_generator.proposal_utils import (
    add_ground_truth_to_proposals,
    find_top_rpn_proposals,
)
from match_rcnn.lite.structures import Boxes, Instances

INF, NAN = float("inf"), float("nan")


def find(boxes, logits, **changes):
    """Proposals of one image of 100 x 100; boxes and logits a feature map."""
    arguments = {
        "image_sizes": [(100, 100)],
        "nms_thresh": 0.7,
        "pre_nms_topk": 10,
        "post_nms_topk": 10,
        "min_box_size": 0.0,
        "training": False,
        **changes,
    }
    (result,) = find_top_rpn_proposals(
        [torch.tensor([level]) for level in boxes],
        [torch.tensor([level]) for level in logits],
        **arguments,
    )
    return result.proposal_boxes.tensor.tolist(), result.objectness_logits.tolist()


def box(x, size=10.0):
    return [x, 0.0, x + size, 10.0]


def test_best_first_over_all_levels():
    boxes, logits = find([[box(0.0), box(20.0)], [box(40.0)]], [[1.0, 3.0], [2.0]])
    assert logits == [3.0, 2.0, 1.0]
    assert boxes == [box(20.0), box(40.0), box(0.0)]


def test_nms_is_within_a_level():
    boxes, _ = find([[box(0.0), box(1.0)], [box(0.0)]], [[1.0, 2.0], [3.0]])
    # 0..10 and 1..11 overlap 9/11 > 0.7.
    assert boxes == [box(0.0), box(1.0)]


def test_topk_is_per_level_before_and_per_image_after():
    levels = [[box(0.0), box(20.0), box(40.0)], [box(60.0), box(80.0)]]
    logits = [[5.0, 4.0, 3.0], [2.0, 1.0]]
    assert find(levels, logits, pre_nms_topk=2)[1] == [5.0, 4.0, 2.0, 1.0]
    assert find(levels, logits, pre_nms_topk=2, post_nms_topk=3)[1] == [5.0, 4.0, 2.0]


def test_boxes_are_clipped_and_empty_ones_dropped():
    level = [[-5.0, -5.0, 5.0, 200.0], [120.0, 0.0, 130.0, 10.0], [7.0, 7.0, 7.0, 9.0]]
    assert find([level], [[1.0, 2.0, 3.0]])[0] == [[0.0, 0.0, 5.0, 100.0]]


def test_small_boxes_are_dropped():
    level = [box(0.0, 4.0), box(20.0, 4.1)]
    assert find([level], [[1.0, 2.0]], min_box_size=4.0)[1] == [2.0]


@pytest.mark.parametrize(("logit", "x"), [(INF, 0.0), (NAN, 0.0), (1.0, INF), (1.0, NAN)])
def test_non_finite_values(logit, x):
    levels, logits = [[box(x), box(50.0)]], [[logit, 0.5]]
    assert find(levels, logits)[0] == [box(50.0)]
    with pytest.raises(FloatingPointError, match="training has diverged"):
        find(levels, logits, training=True)


def test_images_do_not_mix():
    boxes = torch.tensor([[box(0.0), box(20.0)], [box(40.0), box(60.0)]])
    logits = torch.tensor([[1.0, 2.0], [4.0, 3.0]])
    sizes = [(100, 100), (50, 45)]
    first, second = find_top_rpn_proposals([boxes], [logits], sizes, 0.7, 10, 10, 0.0, True)
    assert first.proposal_boxes.tensor.tolist() == [box(20.0), box(0.0)]
    assert second.proposal_boxes.tensor.tolist() == [[40.0, 0.0, 45.0, 10.0]]
    assert [first.image_size, second.image_size] == sizes
    assert set(first.get_fields()) == {"proposal_boxes", "objectness_logits"}


def test_no_anchors():
    empty = find_top_rpn_proposals(
        [torch.zeros(1, 0, 4)], [torch.zeros(1, 0)], [(10, 10)], 0.7, 5, 5, 0.0, True
    )
    assert [len(x) for x in empty] == [0]


def proposals():
    return Instances(
        (10, 10),
        proposal_boxes=Boxes(torch.tensor([[0.0, 0, 5, 5]])),
        objectness_logits=torch.tensor([0.5]),
    )


def test_ground_truth_becomes_certain_proposals():
    gt = Instances((10, 10), gt_boxes=Boxes(torch.tensor([[1.0, 1, 2, 2]])))
    gt.gt_classes = torch.tensor([3])
    (result,) = add_ground_truth_to_proposals([gt], [proposals()])
    assert result.proposal_boxes.tensor.tolist() == [[0.0, 0, 5, 5], [1.0, 1, 2, 2]]
    assert set(result.get_fields()) == {"proposal_boxes", "objectness_logits"}
    probability = 1 - 1e-10
    assert result.objectness_logits[1].item() == pytest.approx(
        math.log(probability / (1 - probability))
    )
    assert "proposal_boxes" not in gt.get_fields()


def test_ground_truth_as_boxes_or_none():
    (result,) = add_ground_truth_to_proposals([Boxes(torch.zeros(0, 4))], [proposals()])
    assert len(result) == 1
    assert add_ground_truth_to_proposals([], []) == []


def test_ground_truth_must_have_the_fields_of_the_proposals():
    extended = proposals()
    extended.level = torch.tensor([2])
    gt = Instances((10, 10), gt_boxes=Boxes(torch.zeros(1, 4)))
    with pytest.raises(AssertionError, match="level"):
        add_ground_truth_to_proposals([gt], [extended])
