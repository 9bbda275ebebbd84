"""Every file of configs/ makes a model, an optimizer and a schedule."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.data.taxonomy import DEEPFASHION2, Attribute
from match_rcnn.engine import MatchRCNNTrainer
from match_rcnn.modeling.taxonomy import set_taxonomy

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
BY_NAME = {path.stem: path for path in CONFIGS}

# The rows of the paper's Table 8.
FEATURES = {
    "match_rcnn_R_50_FPN_1x": "pose+class",
    "match_rcnn_R_50_FPN_1x_class": "class",
    "match_rcnn_R_50_FPN_1x_pose": "pose",
    "match_rcnn_R_50_FPN_1x_mask": "mask",
    "match_rcnn_R_50_FPN_1x_mask_class": "mask+class",
}


ATTRIBUTES = tuple(
    Attribute(*each)
    for each in (("floral", "texture"), ("solid", "texture"), ("maxi", "shape"), ("mini", "shape"))
)


def load(path):
    cfg = get_match_rcnn_cfg()
    cfg.merge_from_file(str(path))
    if cfg.MODEL.ATTRIBUTE_ON:  # they follow from the training set
        set_taxonomy(cfg, replace(DEEPFASHION2, attributes=ATTRIBUTES))
    return cfg


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def cfg(request):
    return load(request.param)


def test_it_builds(cfg):
    """On the meta device, then empty: whole networks without their memory."""
    cfg.MODEL.DEVICE = "meta"
    cfg.MODEL.WEIGHTS = "anything"  # then nothing is fetched for the backbone
    if cfg.MODEL.META_ARCHITECTURE == "Recognition":
        set_taxonomy(cfg, replace(DEEPFASHION2, attributes=ATTRIBUTES, words=("dress",)))
    with torch.device("meta"):
        model = MatchRCNNTrainer.build_model(cfg)
    model.to_empty(device="cpu")  # fused optimizers want a device that computes
    optimizer = MatchRCNNTrainer.build_optimizer(cfg, model)
    MatchRCNNTrainer.build_lr_scheduler(cfg, optimizer)
    if cfg.MODEL.META_ARCHITECTURE == "Recognition":
        return
    streams = {"mask_head": "MASK_ON", "keypoint_head": "KEYPOINT_ON", "match_head": "MATCH_ON"}
    streams["attribute_head"] = "ATTRIBUTE_ON"
    for head, key in streams.items():
        assert bool(getattr(model.roi_heads, head, None)) == cfg.MODEL[key], head
    if cfg.MODEL.KEYPOINT_ON:
        assert cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS == 294
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 13


@pytest.mark.parametrize("name", FEATURES)
def test_the_rows_of_table_8(name):
    cfg = load(BY_NAME[name])
    assert FEATURES[name] == cfg.MODEL.ROI_MATCH_HEAD.FEATURES
    assert cfg.MODEL.ROI_MATCH_HEAD.CONV_DIMS == [256, 256, 256, 1024]
    assert cfg.MODEL.MASK_ON
    assert cfg.MODEL.KEYPOINT_ON
    assert cfg.MODEL.MATCH_ON
    assert (cfg.DATALOADER.SAMPLER_TRAIN, cfg.DATALOADER.PAIR_SHARE) == ("PairSampler", 1.0)
    assert (cfg.SOLVER.EPOCHS, cfg.SOLVER.EPOCH_STEPS) == (12, (8, 11))


def test_the_rows_of_table_8_differ_in_features_alone():
    dumps = set()
    for name in FEATURES:
        cfg = load(BY_NAME[name])
        cfg.MODEL.ROI_MATCH_HEAD.FEATURES = "class"
        dumps.add(cfg.dump())
    assert len(dumps) == 1


def test_the_readme_lists_every_config():
    text = (CONFIGS[0].parent / "README.md").read_text()
    listed = set(re.findall(r"^\| `([\w.-]+)\.yaml`", text, flags=re.MULTILINE))
    assert listed == set(BY_NAME)
