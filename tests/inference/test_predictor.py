import numpy as np
import pytest
import torch
from PIL import Image

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import Boxes, Instances, build_model
from match_rcnn.data.taxonomy import DEEPFASHION2, Category, Taxonomy
from match_rcnn.engine.checkpoints import EnduringCheckpointer
from match_rcnn.inference.predictor import MatchRCNNPredictor, without_duplicates

HATS = Taxonomy("hats", (Category(3, "cap"), Category(7, "hat")))


@pytest.fixture(scope="module")
def make(tmp_path_factory, tiny_overrides):
    """A predictor with random weights from a checkpoint that holds ``taxonomy``."""

    def made(classes, taxonomy):
        cfg = get_match_rcnn_cfg()
        cfg.merge_from_file("configs/quickstart.yaml")
        cfg.merge_from_list(tiny_overrides)
        for stream in ("MASK_ON", "KEYPOINT_ON", "MATCH_ON"):
            cfg.MODEL[stream] = False
        cfg.MODEL.ROI_HEADS.NUM_CLASSES = classes
        cfg.MODEL.DEVICE = "cpu"
        cfg.MODEL.WEIGHTS = ""
        folder = tmp_path_factory.mktemp("weights")
        model = build_model(cfg)
        if taxonomy is None:  # as before checkpoints had one
            torch.save({"model": model.state_dict()}, folder / "model.pth")
        else:
            EnduringCheckpointer(model, str(folder), taxonomy=taxonomy).save("model")
        cfg.MODEL.WEIGHTS = str(folder / "model.pth")
        return MatchRCNNPredictor(cfg)

    return made


@pytest.fixture(scope="module")
def predictor(make):
    return make(2, HATS)


def found(boxes, scores, classes):
    instances = Instances((100, 100), pred_boxes=Boxes(torch.tensor(boxes)))
    instances.scores, instances.pred_classes = torch.tensor(scores), torch.tensor(classes)
    return instances


# the second overlaps the first by 90 of 100 rows, the third by 80 of 100
BOXES = [[0.0, 0, 10, 100], [0, 0, 10, 90], [0, 20, 10, 100]]


def test_of_overlapping_detections_the_most_confident_stays():
    kept = without_duplicates(found(BOXES, [0.5, 0.52, 0.3], [4, 5, 0]), 0.8)
    assert kept.scores.tolist() == pytest.approx([0.52, 0.3])  # their IoU: 70 / 100
    assert kept.pred_classes.tolist() == [5, 0]


def test_less_overlap_is_no_duplicate():
    assert len(without_duplicates(found(BOXES, [0.5, 0.4, 0.3], [0, 0, 0]), 0.95)) == 3
    assert len(without_duplicates(found(BOXES, [0.5, 0.4, 0.3], [0, 0, 0]), 1.0)) == 3


def test_the_predictor_shows_no_garment_twice(predictor, monkeypatch):
    output = {"instances": found(BOXES[:2], [0.5, 0.52], [0, 1])}

    class Host:
        aug, model = predictor._predictor.aug, predictor.model

        def __call__(self, image):
            return output

    monkeypatch.setattr(predictor, "_predictor", Host())
    (garment,) = predictor(np.zeros((100, 100, 3), np.uint8))
    assert garment.score == pytest.approx(0.52)


def test_a_checkpoint_says_its_categories(predictor):
    assert predictor.taxonomy == HATS
    garments = predictor(np.full((60, 80, 3), 100, np.uint8))
    assert {g.category.name for g in garments} <= {"hat", "cap"}


def test_an_old_checkpoint_has_deepfashion2s(make):
    assert make(13, None).taxonomy == DEEPFASHION2


def test_another_number_of_categories_is_refused(make):
    with pytest.raises(ValueError, match=r"NUM_CLASSES is 5, but .* \(hats\) has 2 categories"):
        make(5, HATS)


def test_a_config_for_deepfashion2_follows_the_checkpoint(make, predictor):
    """Another data set's checkpoint with one of our configs as it is."""
    cfg = predictor.cfg.clone()
    cfg.defrost()
    cfg.MODEL.TAXONOMY = ""
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 13
    other = MatchRCNNPredictor(cfg)
    assert other.taxonomy == HATS
    assert other.cfg.MODEL.ROI_HEADS.NUM_CLASSES == 2


def test_a_photo_that_resizing_leaves_nothing_of_is_named(predictor, tmp_path):
    Image.new("RGB", (4000, 3)).save(tmp_path / "strip.png")
    with pytest.raises(ValueError, match=r"strip\.png has 4000 x 3 pixels, .*; crop it"):
        predictor(tmp_path / "strip.png")
    with pytest.raises(ValueError, match="the photo has 3 x 4000 pixels"):
        predictor(np.zeros((4000, 3, 3), np.uint8))


def test_no_image(predictor, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no image at .*none"):
        predictor(tmp_path / "none.jpg")
    with pytest.raises(ValueError, match=r"expected an image of shape \(H, W, 3\)"):
        predictor(np.zeros((4, 4), np.uint8))


def test_what_is_shown_has_calibrated_scores(make, tmp_path, monkeypatch):
    plain = make(2, HATS)
    photo = np.random.default_rng(0).integers(0, 255, (60, 50, 3), dtype=np.uint8)
    monkeypatch.setattr(plain, "_threshold", 0.0)
    scores = plain.instances(photo).scores
    assert len(scores) > 2
    cfg = plain.cfg.clone()
    cfg.defrost()
    cfg.TEST.SCORE_CALIBRATION = (0.5, -1.0)
    expected = torch.sigmoid(0.5 * torch.logit(scores) - 1)
    middle = float((expected[1] + expected[2]) / 2)
    cfg.TEST.SHOWN_FROM = middle
    shown = MatchRCNNPredictor(cfg)
    shown.model.load_state_dict(plain.model.state_dict())
    assert shown.instances(photo).scores.tolist() == pytest.approx(expected[:2].tolist())
    every = MatchRCNNPredictor(cfg, score_threshold=0.0)
    every.model.load_state_dict(plain.model.state_dict())
    assert every.instances(photo).scores.tolist() == pytest.approx(expected.tolist(), abs=1e-6)
