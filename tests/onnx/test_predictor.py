"""The exported model beside torch's, whole; and where there is no torch."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from match_rcnn.inference.predictor import MatchRCNNPredictor
from match_rcnn.onnx import OnnxPredictor
from match_rcnn.onnx.export import export

ROOT = Path(__file__).parents[2]


def photo(height, width, seed=0):
    """Coarse noise, in which a network sees something."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def compare(found, expected):
    assert [g.category for g in found] == [g.category for g in expected]
    for own, other in zip(found, expected, strict=True):
        assert own.score == pytest.approx(other.score, abs=1e-4)
        np.testing.assert_allclose(own.box, other.box, atol=1e-2)
        if other.landmarks is not None:
            assert own.landmarks.shape == other.landmarks.shape
            np.testing.assert_allclose(own.landmarks[:, 2], other.landmarks[:, 2], rtol=1e-2)
            apart = np.abs(own.landmarks - other.landmarks)[:, :2] > 0.1
            assert apart.sum() <= 0.05 * apart.size
        if other.mask is not None:
            assert own.mask.shape == other.mask.shape
            assert (own.mask != other.mask).mean() < 1e-2
        assert (own.attributes is None) == (other.attributes is None)
        if other.attributes is not None:
            assert own.attributes == pytest.approx(other.attributes, abs=1e-4)
        if other.embedding is not None:
            np.testing.assert_allclose(own.embedding, other.embedding, atol=1e-4)


SIZES = [(96, 128), (300, 70), (64, 64)]
VARIANTS = {
    "boxes alone, of each class": (
        *("MODEL.MASK_ON", "False", "MODEL.KEYPOINT_ON", "False", "MODEL.MATCH_ON", "False"),
        *("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", "False"),
        *("TEST.SCORE_CALIBRATION", "(0.5, -0.5)", "TEST.SHOWN_FROM", "0.75"),
    ),
    "masks of each class, matched by, and attributes": (
        *("MODEL.ATTRIBUTE_ON", "True", "MODEL.ROI_ATTRIBUTE_HEAD.FEATURES", "pyramid+class"),
        *("MODEL.ROI_ATTRIBUTE_HEAD.CONV_DIMS", "(8,)", "MODEL.ROI_ATTRIBUTE_HEAD.FC_DIM", "16"),
        *("MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK", "False", "INPUT.FORMAT", "RGB"),
        *("MODEL.ROI_MATCH_HEAD.FEATURES", "mask", "MODEL.KEYPOINT_ON", "False"),
    ),
    "a cascade, matched by pose and class": (
        *("MODEL.ROI_HEADS.NAME", "MatchRCNNCascadeROIHeads", "MODEL.MASK_ON", "False"),
        *("MODEL.ROI_BOX_CASCADE_HEAD.IOUS", "(0.7, 0.75, 0.8)"),
        *("MODEL.ROI_MATCH_HEAD.FEATURES", "pose+class", "MODEL.ROI_MATCH_HEAD.LOSS", "pair_ce"),
    ),
}


def test_garments_are_torchs(exported):
    cfg, folder = exported
    torchs, ours = MatchRCNNPredictor(cfg), OnnxPredictor(folder, threads=1)
    assert ours.taxonomy == torchs.taxonomy
    images = [photo(*size) for size in SIZES]
    expected = [torchs(image) for image in images]
    assert min(map(len, expected)) > 0
    assert {g.category.name for found in expected for g in found} == {"shirt", "scarf", "skirt"}
    for image, garments in zip(images, expected, strict=True):
        compare(ours(image), garments)


@pytest.mark.parametrize("opts", VARIANTS.values(), ids=VARIANTS)
def test_garments_of_other_models_are_torchs(make_cfg, tmp_path, opts):
    cfg = make_cfg(*opts)
    export(cfg, tmp_path / "exported")
    torchs, ours = MatchRCNNPredictor(cfg), OnnxPredictor(tmp_path / "exported", threads=1)
    expected = torchs(photo(96, 128))
    assert expected
    assert min(garment.score for garment in expected) >= cfg.TEST.SHOWN_FROM
    assert any(garment.attributes for garment in expected) == cfg.MODEL.ATTRIBUTE_ON
    compare(ours(photo(96, 128)), expected)


def test_a_batch_gives_what_its_photos_give_alone(exported):
    ours = OnnxPredictor(exported[1], threads=1)
    images = [photo(96, 128, seed) for seed in range(3)]
    for found, image in zip(ours.batch(images), images, strict=True):
        compare(found, ours(image))
    assert ours.batch([]) == []


def test_photos_without_garments_give_none(exported):
    ours = OnnxPredictor(exported[1], score_threshold=1.0, threads=1)
    with_none = [photo(96, 128), np.zeros((40, 40, 3), np.uint8)]
    assert ours.batch(with_none) == [[], []]


def test_files_are_read_upright(exported, tmp_path):
    cfg, folder = exported
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(photo(96, 128)).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    expected = MatchRCNNPredictor(cfg)(tmp_path / "turned.jpg")
    compare(OnnxPredictor(folder, threads=1)(str(tmp_path / "turned.jpg")), expected)
    assert expected[0].mask.shape == (128, 96)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 5), np.uint8), np.zeros((4, 5, 3)), np.zeros((0, 5, 3), np.uint8)]
)
def test_what_is_no_photo_is_refused(exported, image):
    with pytest.raises(ValueError, match="expected an image of shape"):
        OnnxPredictor(exported[1])(image)


def test_files_that_are_no_photos_are_named(exported, tmp_path):
    ours = OnnxPredictor(exported[1])
    (tmp_path / "text.jpg").write_text("text")
    with pytest.raises(ValueError, match=r"cannot read image .*text\.jpg"):
        ours(tmp_path / "text.jpg")
    with pytest.raises(FileNotFoundError, match=r"no image at .*gone\.jpg"):
        ours(tmp_path / "gone.jpg")
    with pytest.raises(ValueError, match="9000 x 2 pixels, of which nothing is left"):
        ours(np.zeros((2, 9000, 3), np.uint8))


def test_folders_that_are_no_models_are_named(exported, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no .*model\.json"):
        OnnxPredictor(tmp_path)
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(ValueError, match=r"model\.json is not valid JSON"):
        OnnxPredictor(tmp_path)
    (tmp_path / "model.json").write_text('{"format": 99}')
    with pytest.raises(ValueError, match=r"model\.json: expected format 1, got 99"):
        OnnxPredictor(tmp_path)
    shutil.copy(exported[1] / "model.json", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"names .*backbone\.onnx"):
        OnnxPredictor(tmp_path)


WITHOUT_TORCH = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in ALLOWED | set(sys.stdlib_module_names):
            raise ImportError(f"{name} is not installed here")

ALLOWED = {"match_rcnn", "numpy", "onnxruntime", "PIL"}
sys.meta_path.insert(0, Refuse())
import json
from match_rcnn.onnx import OnnxPredictor

found = [g.to_dict() for g in OnnxPredictor(sys.argv[1], threads=1)(sys.argv[2])]
loaded = {name.split(".")[0] for name in sys.modules}
print(json.dumps({"found": found, "torch": sorted(loaded & {"torch", "cv2", "detectron2"})}))
"""


def test_nothing_but_numpy_onnxruntime_and_pillow_is_needed(exported, tmp_path):
    """In a process that refuses to import anything else."""
    cfg, folder = exported
    Image.fromarray(photo(96, 128)).save(tmp_path / "photo.png")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(folder), str(tmp_path / "photo.png")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["torch"] == []
    expected = MatchRCNNPredictor(cfg)(tmp_path / "photo.png")
    assert [g["category"] for g in answer["found"]] == [g.category.name for g in expected]
    for own, other in zip(answer["found"], expected, strict=True):
        np.testing.assert_allclose(own["box"], other.box, atol=1e-2)
        np.testing.assert_allclose(own["embedding"], other.embedding, atol=1e-4)
