import math

import pytest
import torch

from match_rcnn.lite.layers import ShapeSpec
from match_rcnn.lite.modeling.roi_heads import MaskRCNNConvUpsampleHead, build_mask_head
from match_rcnn.lite.modeling.roi_heads.mask_head import mask_rcnn_inference, mask_rcnn_loss
from match_rcnn.lite.structures import BitMasks, Boxes, Instances, PolygonMasks
from match_rcnn.lite.utils.events import EventStorage

SHAPE = ShapeSpec(channels=4, height=14, width=14)


def rois(count=1, polygons=True):
    """RoIs of 8 x 8 whose left half is the mask; classes 0, 1, 0, ..."""
    instances = Instances((16, 16))
    instances.proposal_boxes = Boxes(torch.tensor([[4.0, 4.0, 12.0, 12.0]]).repeat(count, 1))
    instances.gt_classes = torch.arange(count) % 2
    if polygons:
        left = [[4.0, 4.0, 8.0, 4.0, 8.0, 12.0, 4.0, 12.0]]
        instances.gt_masks = PolygonMasks([left] * count)
    else:
        mask = torch.zeros(count, 16, 16, dtype=torch.bool)
        mask[:, 4:12, 4:8] = True
        instances.gt_masks = BitMasks(mask)
    return instances


@pytest.mark.parametrize("polygons", [True, False])
def test_loss_and_metrics_by_hand(polygons):
    logits = torch.zeros(1, 2, 4, 4)
    logits[:, 1] = 99.0  # of a class that is not the RoI's
    logits[0, 0, 0, :] = torch.tensor([2.0, -2.0, 2.0, -2.0])  # of the mask row 1 1 0 0
    with EventStorage() as storage:
        loss = mask_rcnn_loss(logits, [rois(polygons=polygons)])
    right, wrong = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    assert loss.item() == pytest.approx((12 * math.log(2) + 2 * right + 2 * wrong) / 16)
    metrics = {name: value for name, (value, _) in storage.latest().items()}
    # A logit of 0 says no: missed are 6 cells in the other rows' left half and 1 in the first row,
    # which also has 1 too many.
    assert metrics == pytest.approx(
        {
            "mask_rcnn/accuracy": 1 - 8 / 16,
            "mask_rcnn/false_positive": 1 / 8,
            "mask_rcnn/false_negative": 7 / 8,
        }
    )


def test_class_agnostic_masks():
    with EventStorage():
        loss = mask_rcnn_loss(torch.zeros(2, 1, 4, 4), [rois(2)])
    assert loss.item() == pytest.approx(math.log(2))


def test_images_without_foreground_are_left_out():
    logits = torch.zeros(2, 2, 4, 4)
    # Without ground truth there is no gt_masks at all.
    empty = Instances((16, 16), proposal_boxes=Boxes(torch.zeros(0, 4)))
    with EventStorage():
        assert mask_rcnn_loss(logits, [empty, rois(2)]).item() == pytest.approx(math.log(2))


def test_inference_takes_the_predicted_class():
    logits = torch.zeros(3, 2, 2, 2)
    logits[0, 1] = 1.0
    logits[2, 0] = -1.0
    images = [
        Instances((16, 16), pred_classes=torch.tensor([1, 1])),
        Instances((16, 16), pred_classes=torch.tensor([], dtype=torch.int64)),
        Instances((16, 16), pred_classes=torch.tensor([0])),
    ]
    mask_rcnn_inference(logits, images)
    assert [tuple(x.pred_masks.shape) for x in images] == [(2, 1, 2, 2), (0, 1, 2, 2), (1, 1, 2, 2)]
    first = images[0].pred_masks[:, 0, 0, 0].tolist()
    assert first == pytest.approx([1 / (1 + math.exp(-1)), 0.5])
    assert images[2].pred_masks[0, 0, 0, 0].item() == pytest.approx(1 / (1 + math.exp(1)))
    mask_rcnn_inference(logits[:0], [])


def test_names_and_shapes(small_cfg):
    head = build_mask_head(small_cfg, SHAPE)
    assert {name: tuple(v.shape) for name, v in head.named_parameters() if "weight" in name} == {
        "mask_fcn1.weight": (8, 4, 3, 3),
        "mask_fcn2.weight": (8, 8, 3, 3),
        "deconv.weight": (8, 8, 2, 2),
        "predictor.weight": (3, 8, 1, 1),
    }
    assert head.layers(torch.zeros(2, 4, 14, 14)).shape == (2, 3, 28, 28)
    small_cfg.MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK = True
    small_cfg.MODEL.ROI_MASK_HEAD.NORM = "BN"
    agnostic = build_mask_head(small_cfg, SHAPE)
    assert agnostic.predictor.out_channels == 1
    assert agnostic.mask_fcn1.bias is None


@pytest.mark.parametrize("images", [0, 2])
def test_no_rois(images):
    head = MaskRCNNConvUpsampleHead(SHAPE, num_classes=2, conv_dims=[3], loss_weight=2.0)
    nothing = [Instances((16, 16), gt_classes=torch.zeros(0).long()) for _ in range(images)]
    losses = head(torch.zeros(0, 4, 14, 14), nothing)
    assert losses["loss_mask"].item() == 0
    losses["loss_mask"].backward()
    assert all(p.grad is not None for p in head.parameters())
    detections = [Instances((16, 16), pred_classes=torch.zeros(0).long()) for _ in range(images)]
    results = head.eval()(torch.zeros(0, 4, 14, 14), detections)
    assert [tuple(x.pred_masks.shape) for x in results] == [(0, 1, 28, 28)] * images


def test_a_head_without_layers_is_an_error():
    with pytest.raises(ValueError, match="conv_dims"):
        MaskRCNNConvUpsampleHead(SHAPE, num_classes=2, conv_dims=[])
