import math

import pytest
import torch

from match_rcnn.lite.layers import ShapeSpec
from match_rcnn.lite.modeling.roi_heads import KRCNNConvDeconvUpsampleHead, build_keypoint_head
from match_rcnn.lite.modeling.roi_heads.keypoint_head import (
    keypoint_rcnn_inference,
    keypoint_rcnn_loss,
)
from match_rcnn.lite.structures import Boxes, Instances, Keypoints
from match_rcnn.lite.utils.events import EventStorage

SHAPE = ShapeSpec(channels=4, height=14, width=14)
BOX = [10.0, 20.0, 18.0, 28.0]  # of 8 x 8: with S = 4 every cell has 2 pixels


def rois(*keypoints):
    """One RoI for each list of (x, y, v)."""
    instances = Instances((64, 64))
    instances.proposal_boxes = Boxes(torch.tensor([BOX]).repeat(len(keypoints), 1))
    rows = torch.tensor(keypoints) if keypoints else torch.zeros(0, 1, 3)
    instances.gt_keypoints = Keypoints(rows)
    return instances


LOG_SUM = math.log(15 + math.exp(3))


@pytest.mark.parametrize(
    ("keypoint", "cell", "counted"),
    [
        ((10.0, 20.0, 2.0), 0, True),
        ((11.9, 20.0, 1.0), 0, True),  # occluded landmarks count too
        ((12.0, 20.0, 2.0), 1, True),
        ((17.9, 27.9, 2.0), 15, True),
        ((18.0, 28.0, 2.0), 15, True),  # the far edge belongs to the last cell
        ((18.1, 28.0, 2.0), 15, False),
        ((9.9, 20.0, 2.0), 0, False),
        ((12.0, 20.0, 0.0), 1, False),
    ],
)
def test_cell_of_a_keypoint(keypoint, cell, counted):
    logits = torch.zeros(1, 1, 4, 4)
    logits.view(-1)[cell] = 3.0
    with EventStorage():
        loss = keypoint_rcnn_loss(logits, [rois([keypoint])], None)
    assert loss.item() == pytest.approx(LOG_SUM - 3 if counted else 0.0)


def test_normalizers():
    logits = torch.zeros(2, 3, 4, 4)
    visible, hidden = (11.0, 21.0, 2.0), (0.0, 0.0, 0.0)
    images = [rois([visible, hidden, visible]), rois(), rois([visible, hidden, hidden])]
    assert keypoint_rcnn_loss(logits, images, None).item() == pytest.approx(math.log(16))
    assert keypoint_rcnn_loss(logits, images, 6.0).item() == pytest.approx(math.log(16) / 2)


def test_batches_without_keypoints_are_counted():
    logits = torch.zeros(1, 1, 4, 4, requires_grad=True)
    with EventStorage() as storage:
        for images in ([rois([(0.0, 0.0, 0.0)])], [rois()], []):
            loss = keypoint_rcnn_loss(logits[: sum(map(len, images))], images, None)
            assert loss.item() == 0
            loss.backward()
        history = [value for value, _ in storage.history("kpts_num_skipped_batches").values()]
    assert [value - history[0] for value in history] == [0, 1, 2]
    assert logits.grad is not None


def test_inference_by_hand():
    # A heat map with one peak in cell (row 1, column 2) of 4 x 4, on a box of 16 x 8 pixels.
    logits = torch.zeros(1, 2, 4, 4, requires_grad=True)
    with torch.no_grad():
        logits[0, 0, 1, 2] = 4.0
    empty = Instances((64, 64), pred_boxes=Boxes(torch.zeros(0, 4)))
    found = Instances((64, 64), pred_boxes=Boxes(torch.tensor([[10.0, 20.0, 26.0, 28.0]])))
    keypoint_rcnn_inference(logits, [empty, found])
    assert empty.pred_keypoints.shape == (0, 2, 3)
    assert found.pred_keypoint_heatmaps.shape == (1, 2, 4, 4)
    assert not found.pred_keypoint_heatmaps.requires_grad
    x, y, score = found.pred_keypoints[0, 0].tolist()
    # The peak's cell spans 18..22 and 22..24; bicubic weights put its maximum near the middle.
    assert 18 < x < 22
    assert 22 < y < 24
    assert 0 < score <= 1
    # A flat map: the first pixel's centre, and the same probability everywhere.
    assert found.pred_keypoints[0, 1].tolist() == pytest.approx([10.5, 20.5, 1 / 16])
    keypoint_rcnn_inference(logits[:0], [])


def test_names_and_shapes(small_cfg):
    head = build_keypoint_head(small_cfg, SHAPE)
    assert {name: tuple(v.shape) for name, v in head.named_parameters() if "weight" in name} == {
        "conv_fcn1.weight": (8, 4, 3, 3),
        "conv_fcn2.weight": (8, 8, 3, 3),
        "score_lowres.weight": (8, 4, 4, 4),
    }
    assert not any(v.any() for name, v in head.named_parameters() if "bias" in name)
    assert head.layers(torch.zeros(2, 4, 14, 14)).shape == (2, 4, 56, 56)


def test_config_of_the_normalizer(small_cfg):
    assert build_keypoint_head(small_cfg, SHAPE).loss_normalizer == "visible"
    small_cfg.MODEL.ROI_KEYPOINT_HEAD.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS = False
    small_cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 512
    small_cfg.MODEL.ROI_HEADS.POSITIVE_FRACTION = 0.25
    assert build_keypoint_head(small_cfg, SHAPE).loss_normalizer == 4 * 512 * 0.25
    with pytest.raises(ValueError, match="'visible' or a number"):
        KRCNNConvDeconvUpsampleHead(SHAPE, num_keypoints=1, conv_dims=[], loss_normalizer="all")


@pytest.mark.parametrize(
    ("normalizer", "expected"),
    [("visible", math.log(56**2)), (4.0, 3 * math.log(56**2) / (4 * 2))],
)
def test_loss_of_the_head(normalizer, expected):
    head = KRCNNConvDeconvUpsampleHead(
        SHAPE, num_keypoints=2, conv_dims=[3], loss_weight=2.0, loss_normalizer=normalizer
    )
    visible, hidden = (11.0, 21.0, 2.0), (0.0, 0.0, 0.0)
    images = [rois([visible, hidden]), rois([visible, visible])]
    losses = head(torch.zeros(2, 4, 14, 14), images)
    assert losses["loss_keypoint"].item() == pytest.approx(2 * expected, rel=1e-5)


@pytest.mark.parametrize("images", [0, 2])
def test_no_rois(images):
    head = KRCNNConvDeconvUpsampleHead(SHAPE, num_keypoints=2, conv_dims=[3])
    with EventStorage():
        losses = head(torch.zeros(0, 4, 14, 14), [rois() for _ in range(images)])
    losses["loss_keypoint"].backward()
    assert losses["loss_keypoint"].item() == 0
    assert all(p.grad is not None for p in head.parameters())
    detections = [Instances((16, 16), pred_boxes=Boxes(torch.zeros(0, 4))) for _ in range(images)]
    results = head.eval()(torch.zeros(0, 4, 14, 14), detections)
    assert [tuple(x.pred_keypoints.shape) for x in results] == [(0, 2, 3)] * images
