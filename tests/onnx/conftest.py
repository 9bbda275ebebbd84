"""Small models with weights from a seed, and what their export makes of them."""

import pytest
import torch

from match_rcnn.config import follow_taxonomy, get_match_rcnn_cfg
from match_rcnn.d2 import build_model
from match_rcnn.data.taxonomy import Attribute, Category, Taxonomy
from match_rcnn.engine.checkpoints import EnduringCheckpointer
from match_rcnn.onnx.export import export

GARMENTS = Taxonomy(
    "three",
    (
        Category(2, "shirt", ("a", "b", "c"), sigmas=(0.05,) * 3),
        Category(5, "scarf"),  # without landmarks
        Category(9, "skirt", ("d", "e", "f", "g", "h"), sigmas=(0.05,) * 5),
    ),
    (Attribute("red", "texture"), Attribute("maxi", "shape"), Attribute("v", "part")),
)


@torch.no_grad()
def spread(model):
    """Weights that tell apart: those that training starts from give every box the same scores."""
    deviations = {
        "cls_score": 1.0,
        "objectness_logits": 0.3,
        "bbox_pred": 0.05,
        "mask_head.predictor": 0.3,
        "attribute_head.predictor": 1.0,
    }
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        for layer, deviation in deviations.items():
            if layer in name and name.endswith("weight"):
                torch.nn.init.normal_(weight, std=deviation)
        if name.endswith("cls_score.weight"):  # features are positive: or one class has them all
            weight -= weight.mean(1, keepdim=True)


@pytest.fixture(scope="session")
def make_cfg(tmp_path_factory, tiny_overrides):
    """``make(*KEY VALUE)``: a whole config with a checkpoint for it."""

    def make(*opts):
        torch.manual_seed(2)
        cfg = get_match_rcnn_cfg()
        cfg.merge_from_file("configs/quickstart.yaml")
        cfg.merge_from_list([*tiny_overrides, *opts, "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""])
        follow_taxonomy(cfg, GARMENTS)
        model = build_model(cfg)
        spread(model)
        folder = tmp_path_factory.mktemp("weights")
        EnduringCheckpointer(model, str(folder), taxonomy=GARMENTS).save("model")
        cfg.MODEL.WEIGHTS = str(folder / "model.pth")
        return cfg

    return make


@pytest.fixture(scope="session")
def exported(make_cfg, tmp_path_factory):
    """The quickstart's model: its config, and the folder that it was exported to."""
    folder = tmp_path_factory.mktemp("onnx") / "exported"
    cfg = make_cfg()
    export(cfg, folder)
    return cfg, folder
