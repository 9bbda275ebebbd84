import pytest
import torch

from match_rcnn.lite.config import get_cfg
from match_rcnn.lite.layers import ShapeSpec
from match_rcnn.lite.modeling import build_model
from match_rcnn.lite.modeling.roi_heads import build_roi_heads


@pytest.fixture
def bare_cfg():
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    return cfg


def test_the_bare_default_is_a_detector(bare_cfg):
    """Its numbers are compared with upstream's in tests/hosts."""
    model = build_model(bare_cfg).eval()
    names = [name for name in model.state_dict() if name.startswith("roi_heads.")]
    assert names[0] == "roi_heads.res5.0.shortcut.weight"
    assert names[-1] == "roi_heads.box_predictor.bbox_pred.bias"
    with torch.no_grad():
        (found,) = model([{"image": torch.zeros(3, 64, 48)}])
    assert found["instances"].image_size == (64, 48)


@pytest.mark.parametrize("key", ["MASK_ON", "KEYPOINT_ON"])
def test_boxes_only(bare_cfg, key):
    bare_cfg.MODEL[key] = True
    with pytest.raises(ValueError, match=r"boxes only.*StandardROIHeads"):
        build_roi_heads(bare_cfg, {"res4": ShapeSpec(channels=1024, stride=16)})
