"""What an export writes, and what it refuses."""

import json

import pytest
import torch

from match_rcnn.d2 import StandardROIHeads
from match_rcnn.inference.predictor import MatchRCNNPredictor
from match_rcnn.modeling.streams.stream import ROI_STREAM_REGISTRY, Stream
from match_rcnn.onnx import export as exporting
from match_rcnn.onnx.export import export


def test_the_folder_holds_what_its_description_names(exported):
    _, folder = exported
    description = json.loads((folder / "model.json").read_text())
    assert {file.name for file in folder.iterdir()} == {"model.json", *description["files"]}
    assert description["landmarks"]["tails"] == ["landmarks_02.onnx", None, "landmarks_09.onnx"]
    assert [c["name"] for c in description["taxonomy"]["categories"]] == ["shirt", "scarf", "skirt"]


def test_scores_of_pairs_are_those_of_the_model(exported):
    cfg, folder = exported
    matching = json.loads((folder / "model.json").read_text())["matching"]
    weight, bias = MatchRCNNPredictor(cfg).model.roi_heads.match_head.score_weights()
    assert matching["score_weights"] == weight.tolist()
    assert matching["score_bias"] == float(bias)


def test_a_folder_with_something_in_it_is_left_alone(exported, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="is there already"):
        export(exported[0], tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


class Sized(torch.nn.Module):
    """A backbone whose output depends on the size of its input, as a trace cannot."""

    size_divisibility = 32

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.output_shape = backbone.output_shape

    def forward(self, images):
        maps = self.backbone(images)
        return {name: values * int(images.shape[-1]) for name, values in maps.items()}


def test_a_part_that_computes_something_else_is_refused(exported, tmp_path, monkeypatch):
    class Other(MatchRCNNPredictor):
        @property
        def model(self):
            model = super().model
            model.backbone = Sized(model.backbone)
            return model

    monkeypatch.setattr(exporting, "MatchRCNNPredictor", Other)
    with pytest.raises(ValueError, match=r"backbone\.onnx: its output p2 is not torch's"):
        export(exported[0], tmp_path / "exported")
    assert list(tmp_path.iterdir()) == []


def test_what_no_part_stands_for_is_refused(exported, make_cfg, tmp_path):
    for key, name in (
        ("MODEL.ROI_HEADS.NAME", StandardROIHeads.__name__),
        ("MODEL.ROI_KEYPOINT_HEAD.NAME", "KRCNNConvDeconvUpsampleHead"),
    ):
        cfg = exported[0].clone() if "HEADS" not in key else make_cfg("MODEL.MATCH_ON", "False")
        cfg.merge_from_list([key, name, "MODEL.ROI_MATCH_HEAD.FEATURES", "class"])
        with pytest.raises(ValueError, match=f"{key}: {name} cannot be exported"):
            export(cfg, tmp_path / "exported")


def test_a_photo_seen_twice_is_refused(exported, tmp_path):
    cfg = exported[0].clone()
    cfg.TEST.AUG.ENABLED = True
    with pytest.raises(ValueError, match=r"TEST\.AUG\.ENABLED"):
        export(cfg, tmp_path / "exported")


def test_other_streams_are_refused_by_name(exported, tmp_path):
    class Nothing(Stream):
        @classmethod
        def from_config(cls, cfg, input_shape, built):
            return {}

    ROI_STREAM_REGISTRY.register(Nothing)
    try:
        cfg = exported[0].clone()
        cfg.MODEL.ROI_STREAMS = [*cfg.MODEL.ROI_STREAMS, "Nothing"]
        with pytest.raises(ValueError, match=r"MODEL\.ROI_STREAMS: Nothing cannot be exported"):
            export(cfg, tmp_path / "exported")
    finally:
        ROI_STREAM_REGISTRY._obj_map.pop("Nothing")
