from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import build_model
from match_rcnn.data.taxonomy import Category, Taxonomy
from match_rcnn.inference.model_file import read_config, stated_taxonomy, write_model
from match_rcnn.inference.weights import find_weights
from match_rcnn.predictor import MatchRCNNPredictor
from match_rcnn.utils.shipped import shipped_models

HATS = Taxonomy("hats", (Category(3, "cap"), Category(7, "hat")))


@pytest.fixture(scope="module")
def cfg(tiny_overrides):
    cfg = get_match_rcnn_cfg()
    cfg.merge_from_file("configs/quickstart.yaml")
    cfg.merge_from_list(tiny_overrides)
    cfg.MODEL.KEYPOINT_ON = cfg.MODEL.MATCH_ON = False
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
    cfg.MODEL.DEVICE = "cpu"
    cfg.OUTPUT_DIR = "/somewhere/else"
    return cfg


@pytest.fixture(scope="module")
def model(cfg):
    torch.manual_seed(0)
    return build_model(cfg).eval()


@pytest.fixture(scope="module")
def file(cfg, model, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "hats.safetensors"
    write_model(path, cfg, model.state_dict(), HATS)
    return path


def test_a_predictor_needs_nothing_but_the_file(file, model):
    predictor = MatchRCNNPredictor.pretrained(file, opts=["TEST.DETECTIONS_PER_IMAGE", 3])
    assert predictor.taxonomy == HATS
    assert predictor.cfg.TEST.DETECTIONS_PER_IMAGE == 3
    loaded = predictor._predictor.model.state_dict()
    for name, value in model.state_dict().items():
        kept = value if value.ndim < 2 else value.half().float()
        assert torch.equal(loaded[name], kept), name


def test_matrices_are_half_and_vectors_whole(file, model):
    with safe_open(file, framework="pt") as opened:
        kinds = {name: opened.get_tensor(name).dtype for name in opened.keys()}  # noqa: SIM118
    for name, value in model.state_dict().items():
        halved = value.is_floating_point() and value.ndim > 1
        assert kinds[name] == (torch.float16 if halved else value.dtype), name


def test_the_config_says_the_model_and_nothing_of_the_training(file, cfg):
    read = read_config(file)
    assert read.MODEL.ANCHOR_GENERATOR.SIZES == cfg.MODEL.ANCHOR_GENERATOR.SIZES
    assert read.INPUT == cfg.INPUT
    default = get_match_rcnn_cfg()
    assert read.OUTPUT_DIR == default.OUTPUT_DIR
    assert default.SOLVER == read.SOLVER
    with safe_open(file, framework="pt") as opened:
        assert "/somewhere" not in str(opened.metadata())


def test_what_is_written_is_the_same_every_time(file, cfg, model, tmp_path):
    again = tmp_path / "again.safetensors"
    write_model(again, cfg, model.state_dict(), HATS)
    assert again.read_bytes() == file.read_bytes()


def test_a_name_with_another_ending_is_refused(cfg, tmp_path):
    with pytest.raises(ValueError, match=r"ends in .safetensors, got .*hats.pth"):
        write_model(tmp_path / "hats.pth", cfg, {}, HATS)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_named(file, tmp_path):
    damaged = tmp_path / "half.safetensors"
    damaged.write_bytes(file.read_bytes()[:1000])
    for read in (
        read_config,
        lambda path: stated_taxonomy(str(path)),
        MatchRCNNPredictor.pretrained,
    ):
        with pytest.raises(
            ValueError, match=r"half\.safetensors is not a model file, or it is damaged"
        ):
            read(damaged)


def test_shipped_models_go_by_their_names():
    for name, path in shipped_models().items():
        assert find_weights(name) == path
        assert path.suffix == ".safetensors"


class TestShippedModel:
    def test_the_card_is_the_files(self):
        content = shipped_models()["street"].read_bytes()
        card = Path("docs/street_model.md").read_text(encoding="utf-8")
        assert sha256(content).hexdigest() in card
        assert len(content) <= 30e6
        assert f"{len(content) / 1e6:.1f} MB" in card

    def test_it_finds_the_garments_of_the_samples(self):
        """The clear ones of samples/README.md, one box each."""
        predictor = MatchRCNNPredictor.pretrained()
        for name, category in (("t-shirt", "short sleeve top"), ("dress", "long sleeve dress")):
            (garment,) = predictor(f"samples/{name}.jpg")
            assert garment.category.name == category
            assert garment.score > 0.4
            assert garment.landmarks.shape == (garment.category.num_landmarks, 3)
            x1, y1, x2, y2 = garment.box
            assert 0.4 < garment.mask.sum() / ((x2 - x1) * (y2 - y1)) < 1
            assert garment.embedding.shape == (128,)
