import logging

import pytest
import torch

from match_rcnn.lite.checkpoint.c2_model_loading import (
    align_and_update_state_dicts,
    convert_basic_c2_names,
    convert_c2_detectron_names,
)

# Caffe2's name and ours; detectron2 02b5c4e2 translates every one of them so.
BACKBONE = {
    "conv1_w": "stem.conv1.weight",
    "conv1_b": "stem.conv1.bias",
    "res_conv1_bn_s": "stem.conv1.norm.weight",
    "res_conv1_bn_b": "stem.conv1.norm.bias",
    "conv1_gn_s": "stem.conv1.norm.weight",
    "conv1_bn_rm": "stem.conv1.norm.running_mean",
    "conv1_bn_running_var": "stem.conv1.norm.running_var",
    "res2_0_branch1_w": "res2.0.shortcut.weight",
    "res2_0_branch1_bn_s": "res2.0.shortcut.norm.weight",
    "res4_22_branch2a_w": "res4.22.conv1.weight",
    "res2_0_branch2b_bn_gamma": "res2.0.conv2.norm.weight",
    "res2_0_branch2c_bn_beta": "res2.0.conv3.norm.bias",
    "res2_0_branch2c_bn_riv": "res2.0.conv3.norm.running_var",
    "fc1000_w": "fc1000.weight",
    "pred_w": "linear.weight",
}
DETECTRON = {
    "fpn_inner_res5_2_sum_w": "fpn_lateral5.weight",
    "fpn_inner_res4_5_sum_lateral_w": "fpn_lateral4.weight",
    "fpn_inner_res4_22_sum_lateral_gn_b": "fpn_lateral4.norm.bias",
    "fpn_res2_2_sum_b": "fpn_output2.bias",
    "fpn_res5_2_sum_gn_s": "fpn_output5.norm.weight",
    "conv_rpn_fpn2_w": "proposal_generator.rpn_head.conv.weight",
    "conv_rpn_b": "proposal_generator.rpn_head.conv.bias",
    "rpn_cls_logits_fpn2_w": "proposal_generator.rpn_head.objectness_logits.weight",
    "rpn_bbox_pred_b": "proposal_generator.rpn_head.anchor_deltas.bias",
    "fc6_w": "box_head.fc1.weight",
    "fc7_b": "box_head.fc2.bias",
    "head_conv1_gn_s": "box_head.conv1.norm.weight",
    "cls_score_w": "cls_score.weight",
    "bbox_pred_w": "bbox_pred.weight",
    "_[mask]_fcn1_w": "mask_head.mask_fcn1.weight",
    "_[mask]_fcn4_gn_b": "mask_head.mask_fcn4.norm.bias",
    "conv5_mask_w": "mask_head.deconv.weight",
    "mask_fcn_logits_b": "mask_head.predictor.bias",
    "conv_fcn8_w": "roi_heads.keypoint_head.conv_fcn8.weight",
    "kps_score_lowres_b": "roi_heads.keypoint_head.score_lowres.bias",
}


def test_names_of_a_caffe2_backbone():
    assert convert_basic_c2_names(BACKBONE) == list(BACKBONE.values())


@pytest.mark.parametrize(("old", "new"), (BACKBONE | DETECTRON).items())
def test_names_of_detectron(old, new):
    weights, originals = convert_c2_detectron_names({old: torch.zeros(8)})
    assert list(weights) == [new]
    assert originals == {new: old}


def test_two_names_for_one_parameter():
    with pytest.raises(ValueError, match="'conv1_gn_s' and 'res_conv1_bn_s' both become"):
        convert_c2_detectron_names({k: torch.zeros(1) for k in ("conv1_gn_s", "res_conv1_bn_s")})


def test_the_background_class_moves():
    weights = {
        "cls_score_b": torch.tensor([0.0, 1.0, 2.0]),
        "bbox_pred_b": torch.arange(12.0),
        "mask_fcn_logits_b": torch.tensor([0.0, 1.0, 2.0]),
        "fc6_b": torch.tensor([0.0, 1.0, 2.0]),
    }
    converted, _ = convert_c2_detectron_names(weights)
    assert {k: v.tolist() for k, v in converted.items()} == {
        "cls_score.bias": [1.0, 2.0, 0.0],
        "bbox_pred.bias": [4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0],
        "mask_head.predictor.bias": [1.0, 2.0],
        "box_head.fc1.bias": [0.0, 1.0, 2.0],
    }


def values(**tensors):
    return {name.replace("__", "."): torch.tensor(v) for name, v in tensors.items()}


def test_the_longest_suffix_wins():
    model = values(block__a__w=0.0, block__w=0.0, w=0.0)
    checkpoint = values(a__w=1.0, w=2.0, block__w=3.0)
    aligned = align_and_update_state_dicts(model, checkpoint, c2_conversion=False)
    assert {k: v.item() for k, v in aligned.items()} == {"block.a.w": 1.0, "w": 2.0, "block.w": 3.0}


def test_a_suffix_begins_at_a_dot():
    model = values(preconv__w=0.0)
    assert "conv.w" in align_and_update_state_dicts(model, values(conv__w=1.0), c2_conversion=False)


def test_one_weight_for_two_parameters():
    model = values(a__conv__w=0.0, b__conv__w=0.0)
    with pytest.raises(ValueError, match=r"'conv\.w'.*'a\.conv\.w' and 'b\.conv\.w'"):
        align_and_update_state_dicts(model, values(conv__w=1.0), c2_conversion=False)


def test_a_wrong_shape_is_left_out_and_said(caplog):
    model = values(a__conv__w=[0.0, 0.0])
    with caplog.at_level(logging.WARNING):
        aligned = align_and_update_state_dicts(
            model, values(conv__w=[1.0, 1.0, 1.0]), c2_conversion=False
        )
    assert list(aligned) == ["conv.w"]
    assert "conv.w of the checkpoint is of shape (3,)" in caplog.text
    assert "a.conv.w of the model of (2,)" in caplog.text


def test_caffe2_names_find_their_place():
    model = values(backbone__bottom_up__stem__conv1__weight=0.0)
    aligned = align_and_update_state_dicts(model, values(conv1_w=5.0))
    assert aligned["backbone.bottom_up.stem.conv1.weight"].item() == 5.0


def test_nothing_to_align():
    assert align_and_update_state_dicts({}, {}) == {}
