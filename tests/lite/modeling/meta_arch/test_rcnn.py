import math

import pytest
import torch

from match_rcnn.lite.modeling import GeneralizedRCNN, build_model
from match_rcnn.lite.structures import Boxes, Instances
from match_rcnn.lite.utils.events import EventStorage

GT_BOXES = [[10.0, 12.0, 60.0, 90.0], [40.0, 20.0, 100.0, 60.0]]

# What detectron2 02b5c4e2 gives for the model and the images of conftest.py: losses, metrics, and
# sums of absolute gradients.
DETECTRON2 = {
    "both": (
        {
            "loss_cls": 1.611717,
            "loss_box_reg": 0.0164241,
            "loss_mask": 0.820701,
            "loss_keypoint": 8.196313,
            "loss_rpn_cls": 0.0931763,
            "loss_rpn_loc": 2.49793e-05,
        },
        {
            "rpn/num_pos_anchors": 2.0,
            "rpn/num_neg_anchors": 4033.5,
            "roi_head/num_fg_samples": 1.5,
            "roi_head/num_bg_samples": 40.0,
            "fast_rcnn/cls_accuracy": 0.144578,
            "fast_rcnn/fg_cls_accuracy": 0.666667,
            "fast_rcnn/false_negative": 0.0,
            "mask_rcnn/accuracy": 0.511905,
            "mask_rcnn/false_positive": 0.215136,
            "mask_rcnn/false_negative": 0.761054,
            "keypoint_head/num_fg_samples": 1.5,
        },
        {
            "backbone.fpn_lateral2.weight": 134.213531,
            "roi_heads.box_head.fc1.weight": 3215.355469,
            "roi_heads.mask_head.deconv.weight": 4.55512,
            "roi_heads.keypoint_head.score_lowres.weight": 30.517929,
        },
    ),
    "second": (
        {
            "loss_cls": 1.578789,
            "loss_box_reg": 0.00467785,
            "loss_mask": 0.839998,
            "loss_keypoint": 8.224819,
            "loss_rpn_cls": 0.0934186,
            "loss_rpn_loc": 7.19576e-06,
        },
        {
            "rpn/num_pos_anchors": 0.5,
            "rpn/num_neg_anchors": 4075.0,
            "roi_head/num_fg_samples": 0.5,
            "roi_head/num_bg_samples": 40.0,
            "fast_rcnn/cls_accuracy": 0.135802,
            "fast_rcnn/fg_cls_accuracy": 1.0,
            "fast_rcnn/false_negative": 0.0,
            "mask_rcnn/accuracy": 0.508929,
            "mask_rcnn/false_positive": 0.0,
            "mask_rcnn/false_negative": 0.982143,
            "keypoint_head/num_fg_samples": 1.0,
        },
        {
            "backbone.fpn_lateral2.weight": 133.090698,
            "roi_heads.box_head.fc1.weight": 3259.691895,
            "roi_heads.mask_head.deconv.weight": 5.73755,
            "roi_heads.keypoint_head.score_lowres.weight": 27.412766,
        },
    ),
    "neither": (
        {
            "loss_cls": 1.597485,
            "loss_box_reg": 0.0,
            "loss_mask": 0.0,
            "loss_keypoint": 0.0,
            "loss_rpn_cls": 0.0935775,
            "loss_rpn_loc": 0.0,
        },
        {
            "rpn/num_pos_anchors": 0.0,
            "rpn/num_neg_anchors": 4092.0,
            "roi_head/num_fg_samples": 0.0,
            "roi_head/num_bg_samples": 40.0,
            "fast_rcnn/cls_accuracy": 0.125,
            # detectron2 has NaN, a mean of nothing.
            "keypoint_head/num_fg_samples": 0.0,
        },
        {
            "backbone.fpn_lateral2.weight": 141.110718,
            "roi_heads.box_head.fc1.weight": 3303.356689,
            "roi_heads.mask_head.deconv.weight": 0.0,
            "roi_heads.keypoint_head.score_lowres.weight": 0.0,
        },
    ),
}
ANNOTATED = {"both": (GT_BOXES, GT_BOXES[:1]), "second": ([], GT_BOXES[:1]), "neither": ([], [])}


@pytest.mark.parametrize("annotated", ANNOTATED)
def test_training_gives_detectron2s_numbers(small_model, batch, annotated):
    losses, metrics, gradients = DETECTRON2[annotated]
    small_model.train()
    small_model.zero_grad()
    with EventStorage() as storage:
        actual = small_model(batch(*ANNOTATED[annotated]))
    assert {k: v.item() for k, v in actual.items()} == pytest.approx(losses, rel=1e-4, abs=1e-9)
    logged = {name: value for name, (value, _) in storage.latest().items()}
    logged.pop("kpts_num_skipped_batches", None)
    assert logged == pytest.approx(metrics, abs=1e-5)

    sum(actual.values()).backward()
    parameters = dict(small_model.named_parameters())
    sums = {name: parameters[name].grad.abs().sum().item() for name in gradients}
    assert sums == pytest.approx(gradients, rel=1e-4)
    # Distributed training waits for every parameter.
    assert all(p.grad is not None for p in parameters.values() if p.requires_grad)


def test_inference_gives_detectron2s_numbers(small_model, batch):
    with torch.no_grad():
        first, second = (x["instances"] for x in small_model.eval()(batch()))
    assert (len(first), len(second)) == (28, 31)
    # detectron2 02b5c4e2 gives:
    assert second.image_size == (128, 112)
    assert second.scores[:3].tolist() == pytest.approx([0.9649, 0.9621, 0.9441], abs=1e-4)
    boxes = torch.tensor(
        [[47.3211, 25.0826, 53.7184, 75.014], [42.5573, 25.8497, 49.3539, 74.2205]]
    )
    torch.testing.assert_close(second.pred_boxes.tensor[:2], boxes, atol=1e-3, rtol=0)
    keypoints = torch.tensor([[53.261, 54.542, 0.001064], [50.52, 72.517, 0.0013756]])
    torch.testing.assert_close(second.pred_keypoints[0, :2], keypoints, atol=1e-3, rtol=0)
    assert first.pred_masks.shape == (28, 96, 128)
    assert first.pred_masks.sum((1, 2))[:4].tolist() == [0, 1, 0, 0]


def test_parameter_names_in_their_order(small_cfg):
    names = list(build_model(small_cfg).state_dict())
    # The index of a parameter is its name in the optimizer's state.
    tops = list(dict.fromkeys(".".join(name.split(".")[:2]) for name in names))
    assert tops == [
        *(
            f"backbone.fpn_{kind}{level}"
            for level in (2, 3, 4, 5)
            for kind in ("lateral", "output")
        ),
        "backbone.bottom_up",
        "proposal_generator.rpn_head",
        "roi_heads.box_head",
        "roi_heads.box_predictor",
        "roi_heads.mask_head",
        "roi_heads.keypoint_head",
    ]
    assert len(names) == 144
    assert not any("pixel" in name or "anchor_generator" in name for name in names)


def test_results_in_the_size_asked_for(small_model, batch):
    inputs = batch()
    inputs[0].update(height=192, width=64)
    model = small_model.eval()
    with torch.no_grad():
        first, second = (x["instances"] for x in model(inputs))
        raw, _ = model.inference(batch(), do_postprocess=False)
    assert first.image_size == (192, 64)
    assert second.image_size == (128, 112)
    scaled = raw.pred_boxes.tensor[0] * torch.tensor([0.5, 2.0, 0.5, 2.0])
    torch.testing.assert_close(first.pred_boxes.tensor[0], scaled)
    assert raw.pred_masks.shape[1:] == (1, 28, 28)


def test_given_boxes(small_model, batch):
    model = small_model.eval()
    boxes = Boxes(torch.tensor(GT_BOXES))
    given = [
        Instances((96, 128), pred_boxes=boxes, pred_classes=torch.tensor([0, 2])),
        Instances(
            (128, 112), pred_boxes=Boxes(torch.zeros(0, 4)), pred_classes=torch.zeros(0).long()
        ),
    ]
    with torch.no_grad():
        first, second = model.inference(batch(), detected_instances=given, do_postprocess=False)
    assert torch.equal(first.pred_boxes.tensor, boxes.tensor)
    assert first.pred_keypoints.shape == (2, 4, 3)
    assert len(second) == 0


def test_images_are_normalised_then_padded(small_model, batch):
    images = small_model.preprocess_image(batch())
    assert images.tensor.shape == (2, 3, 128, 128)
    assert images.image_sizes == [(96, 128), (128, 112)]
    raw = batch()[0]["image"][2, 5, 7].item()
    assert images.tensor[0, 2, 5, 7].item() == pytest.approx((raw - 123.675) / 59.0)
    assert not images.tensor[0, :, 96:].any()
    assert not images.tensor[1, :, :, 112:].any()


def test_byte_images(small_model, batch):
    inputs = batch()
    as_bytes = [{**x, "image": x["image"].to(torch.uint8)} for x in inputs]
    expected = small_model.preprocess_image(inputs).tensor
    assert torch.equal(small_model.preprocess_image(as_bytes).tensor, expected)


def test_diverged_training_stops(small_cfg, batch):
    model = build_model(small_cfg)
    with torch.no_grad():
        model.backbone.fpn_output2.bias.fill_(math.nan)
    with EventStorage(), pytest.raises(FloatingPointError, match="diverged"):
        model(batch())


def test_mean_and_std_must_fit(small_model):
    with pytest.raises(ValueError, match="differ in length"):
        GeneralizedRCNN(
            backbone=small_model.backbone,
            proposal_generator=small_model.proposal_generator,
            roi_heads=small_model.roi_heads,
            pixel_mean=[0.0, 0.0],
            pixel_std=[1.0],
        )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("VIS_PERIOD", 10),
        ("TEST.PRECISE_BN.ENABLED", True),
        ("MODEL.RESNETS.DEFORM_ON_PER_STAGE", [False, False, True, True]),
        ("MODEL.ROI_BOX_HEAD.USE_FED_LOSS", True),
        ("MODEL.RPN.BBOX_REG_LOSS_TYPE", "giou"),
    ],
)
def test_what_only_detectron2_has_is_an_error_that_says_so(small_cfg, key, value):
    small_cfg.merge_from_list([key, value])
    with pytest.raises(ValueError, match=rf"{key} is .* host knows .* only.*MATCH_RCNN_HOST"):
        build_model(small_cfg)


def test_an_image_of_odd_size(small_model):
    with torch.no_grad():
        (result,) = small_model.eval()([{"image": torch.zeros(3, 33, 17)}])
    assert result["instances"].image_size == (33, 17)
