import math

import pytest
import torch

from match_rcnn.lite.layers import ShapeSpec
from match_rcnn.lite.modeling import FastRCNNOutputLayers
from match_rcnn.lite.modeling.box_regression import Box2BoxTransform
from match_rcnn.lite.modeling.roi_heads.fast_rcnn import (
    fast_rcnn_inference,
    fast_rcnn_inference_single_image,
)
from match_rcnn.lite.structures import Boxes, Instances
from match_rcnn.lite.utils.events import EventStorage

SIZE = (100, 200)
PLAIN = Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0))


def infer(boxes, scores, thresh=0.05, nms=0.5, topk=100):
    result, rows = fast_rcnn_inference_single_image(
        torch.tensor(boxes), torch.tensor(scores), SIZE, thresh, nms, topk
    )
    assert result.image_size == SIZE
    assert len(rows) == len(result)
    return result, rows.tolist()


A, B, C = [0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [50.0, 0.0, 60.0, 10.0]


def test_the_threshold_is_strict():
    result, rows = infer([A, C], [[0.5, 0.5], [0.50001, 0.4]], thresh=0.5)
    assert rows == [1]
    assert result.pred_classes.tolist() == [0]


def test_background_is_no_detection():
    result, _ = infer([A], [[0.1, 0.2, 0.7]])
    assert result.pred_classes.tolist() == [1, 0]
    assert result.scores.tolist() == pytest.approx([0.2, 0.1])


def test_nms_is_within_a_class():
    scores = [[0.6, 0.3, 0.1], [0.7, 0.0, 0.3]]
    result, rows = infer([A, B], scores)
    # A and B overlap 9/11 > 0.5, and class 0 keeps B.
    assert rows == [1, 0]
    assert result.pred_classes.tolist() == [0, 1]
    assert result.pred_boxes.tensor.tolist() == [B, A]
    assert infer([A, B], scores, nms=0.9)[1] == [1, 0, 0]


def test_every_class_has_its_own_box():
    result, _ = infer([[*A, *C]], [[0.3, 0.6, 0.1]])
    assert result.pred_boxes.tensor.tolist() == [C, A]
    assert result.pred_classes.tolist() == [1, 0]


def test_boxes_are_clipped():
    result, _ = infer([[-5.0, -5.0, 300.0, 300.0]], [[0.9, 0.1]])
    assert result.pred_boxes.tensor.tolist() == [[0.0, 0.0, 200.0, 100.0]]


def test_topk():
    scores = [[0.5, 0.5], [0.6, 0.4]]
    assert infer([A, C], scores, topk=1)[1] == [1]
    assert infer([A, C], scores, topk=0)[1] == []
    assert infer([A, C], scores, topk=-1)[1] == [1, 0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_rows_give_nothing(bad):
    result, rows = infer([[bad, 0, 1, 1], A, C], [[0.9, 0.1], [bad, 0.1], [0.6, 0.4]])
    # The row counts all RoIs, also those left out.
    assert rows == [2]
    assert result.pred_boxes.tensor.tolist() == [C]


def test_several_images_and_none():
    boxes = [torch.tensor([A]), torch.zeros(0, 4)]
    scores = [torch.tensor([[0.9, 0.1]]), torch.zeros(0, 2)]
    results, rows = fast_rcnn_inference(boxes, scores, [SIZE, SIZE], 0.05, 0.5, 100)
    assert [len(r) for r in results] == [1, 0]
    assert [len(r) for r in rows] == [1, 0]
    assert fast_rcnn_inference([], [], [], 0.05, 0.5, 100) == ([], [])


def make_layers(num_classes=2, **kwargs):
    return FastRCNNOutputLayers(6, box2box_transform=PLAIN, num_classes=num_classes, **kwargs)


def sampled(boxes, classes, gt_boxes=None):
    instances = Instances(SIZE, proposal_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4)))
    instances.gt_classes = torch.tensor(classes, dtype=torch.int64)
    if gt_boxes is not None:
        instances.gt_boxes = Boxes(torch.tensor(gt_boxes))
    return instances


def test_names_and_shapes(small_cfg):
    layers = FastRCNNOutputLayers(small_cfg, ShapeSpec(channels=2, height=3, width=1))
    shapes = {name: tuple(v.shape) for name, v in layers.state_dict().items()}
    assert shapes == {
        "cls_score.weight": (4, 6),
        "cls_score.bias": (4,),
        "bbox_pred.weight": (12, 6),
        "bbox_pred.bias": (12,),
    }
    scores, deltas = layers(torch.zeros(5, 2, 3, 1))
    assert (scores.shape, deltas.shape) == ((5, 4), (5, 12))
    assert layers.box2box_transform.weights == (10.0, 10.0, 5.0, 5.0)
    assert layers.loss_weight == {"loss_box_reg": 1.0}
    assert make_layers(cls_agnostic_bbox_reg=True).bbox_pred.out_features == 4


def test_losses_and_metrics_by_hand():
    layers = make_layers(loss_weight={"loss_box_reg": 3.0})
    shifted = [5.0, 0.0, 15.0, 10.0]
    proposals = [sampled([A, C], [1, 2], [shifted, C]), sampled([A, C], [2, 2])]
    scores = torch.tensor([[0.0, 0.0, 5.0], [0.0, 0.0, 5.0], [0.0, 0.0, 5.0], [9.0, 0.0, 5.0]])
    deltas = torch.zeros(4, 8)
    deltas[0, :4] = 99.0  # of class 0, which is not the RoI's
    deltas[2:] = 99.0  # of background
    with EventStorage() as storage:
        losses = layers.losses((scores, deltas), proposals)
    log_sum = math.log(2 + math.exp(5))
    last = math.log(math.exp(9) + 1 + math.exp(5))
    expected = (log_sum - 0 + 2 * (log_sum - 5) + last - 5) / 4
    assert losses["loss_cls"].item() == pytest.approx(expected)
    # One foreground RoI, dx = 5/10, over all 4 RoIs, weighted 3.
    assert losses["loss_box_reg"].item() == pytest.approx(3 * 0.5 / 4)
    metrics = {name: value for name, (value, _) in storage.latest().items()}
    assert metrics == {
        "fast_rcnn/cls_accuracy": 0.5,
        "fast_rcnn/fg_cls_accuracy": 0.0,
        "fast_rcnn/false_negative": 1.0,
    }


def test_class_agnostic_boxes():
    layers = make_layers(cls_agnostic_bbox_reg=True)
    proposals = [sampled([A], [1], [[5.0, 0.0, 15.0, 10.0]])]
    with EventStorage():
        losses = layers.losses((torch.zeros(1, 3), torch.zeros(1, 4)), proposals)
    assert losses["loss_box_reg"].item() == pytest.approx(0.5)


@pytest.mark.parametrize("num_images", [0, 2])
def test_no_rois(num_images):
    layers = make_layers()
    predictions = layers(torch.zeros(0, 6))
    proposals = [sampled([], []) for _ in range(num_images)]
    with EventStorage():
        losses = layers.losses(predictions, proposals)
    assert [loss.item() for loss in losses.values()] == [0, 0]
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in layers.parameters())
    results, rows = layers.inference(predictions, proposals)
    assert [len(r) for r in results] == [len(r) for r in rows] == [0] * num_images


def test_predictions_of_each_image():
    layers = make_layers(test_score_thresh=0.3)
    scores = torch.tensor([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 9.0]])
    deltas = torch.zeros(3, 8)
    deltas[1, 4] = 1.0  # one width to the right, for class 1
    proposals = [sampled([A], [0]), sampled([A, C], [1, 2])]
    boxes = layers.predict_boxes((scores, deltas), proposals)
    assert boxes[0].tolist() == [[*A, *A]]
    moved = [10.0, 0.0, 20.0, 10.0]
    assert boxes[1].tolist() == [[*A, *moved], [*C, *C]]
    (first, second), rows = layers.inference((scores, deltas), proposals)
    assert first.pred_classes.tolist() == [0]
    assert second.pred_boxes.tensor.tolist() == [moved]
    assert [r.tolist() for r in rows] == [[0], [0]]
