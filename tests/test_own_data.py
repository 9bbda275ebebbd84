"""A user's own garments, from COCO files to pictures: five categories, landmarks here and none
there, boxes only in one file and masks in another."""

import argparse
import json
import logging

import cv2
import numpy as np
import pytest
import torch
import yaml

from match_rcnn.catalogue.indexing import build_gallery
from match_rcnn.catalogue.model import GalleryModel
from match_rcnn.catalogue.photos import read_catalogue
from match_rcnn.catalogue.query import search_photo
from match_rcnn.d2 import DatasetCatalog, MetadataCatalog
from match_rcnn.data.images import read_image
from match_rcnn.engine.run import train_or_evaluate
from match_rcnn.inference.pictures import draw_sources, ground_truth_source, prediction_source
from match_rcnn.inference.predictor import MatchRCNNPredictor
from match_rcnn.retrieval.gallery.gallery import Gallery

SIZE = 96
CORNERS = ["top left", "top right", "bottom right", "bottom left"]
CATEGORIES = [
    {
        "id": 3,
        "name": "cape",
        "keypoints": CORNERS,
        "keypoint_flips": [[1, 2], [3, 4]],
        "keypoint_outline": [[1, 2, 3, 4, 1]],
        "keypoint_sigmas": [0.05] * 4,
    },
    *({"id": i, "name": name} for i, name in ((5, "hat"), (7, "belt"), (11, "bag"), (20, "sock"))),
]
DATA_SETS = {
    "own_boxes": {"annotations": "boxes.json", "images": "photos"},
    "own_masks": {"annotations": "masks.json", "images": "photos", "pairs": True},
}
KEYS = [
    *("MODEL.RESNETS.DEPTH", 18, "MODEL.FPN.OUT_CHANNELS", 16, "MODEL.ROI_BOX_HEAD.FC_DIM", 16),
    *("MODEL.ROI_MASK_HEAD.CONV_DIM", 8, "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", (8,)),
    *("MODEL.ROI_MATCH_HEAD.CONV_DIMS", (8,), "MODEL.ROI_MATCH_HEAD.EMBEDDING_DIM", 8),
    *("MODEL.RPN.POST_NMS_TOPK_TEST", 20, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0),
    *("DATASETS.TRAIN", ("own_boxes", "own_masks"), "DATASETS.TRAIN_WEIGHTS", (1, 2)),
    *("DATASETS.TEST", ("own_masks",), "DATALOADER.NUM_WORKERS", 0, "SOLVER.IMS_PER_BATCH", 4),
    *("SOLVER.MAX_ITER", 4, "SOLVER.WARMUP_ITERS", 0, "SOLVER.LOG_PERIOD", 1),
    *("INPUT.MIN_SIZE_TRAIN", (96,), "TEST.VISUALIZE_IMAGES", 2, "TEST.DETECTIONS_PER_IMAGE", 5),
]


def make_files(folder):
    """8 photos of coloured rectangles, two items each; the first 4 in a file of boxes."""
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    files = {"boxes.json": ([], []), "masks.json": ([], [])}
    for number in range(1, 9):
        image = np.full((SIZE, SIZE, 3), 255, np.uint8)
        photos, items = files["boxes.json" if number <= 4 else "masks.json"]
        for k in range(2):
            kind = CATEGORIES[0 if k == 0 and number % 2 else (number + 2 * k) % 4 + 1]
            x, y, w, h = (np.array([5 + 45 * k, 10, 36, 60]) + rng.integers(0, 6, 4)).tolist()
            image[y : y + h, x : x + w] = rng.integers(0, 200, 3)
            item = {"image_id": number, "category_id": kind["id"], "bbox": [x, y, w, h]}
            outline = [x, y, x + w, y, x + w, y + h, x, y + h]
            if number > 4:
                item["segmentation"] = [outline]
                if "keypoints" in kind:
                    corners = np.reshape(outline, (4, 2)) - 0.5
                    item["keypoints"] = np.insert(corners, 2, 2, axis=1).ravel().tolist()
            items.append({**item, "id": 10 * number + k, "area": w * h, "iscrowd": 0})
        region = {**items[-1], "id": 10 * number + 9, "bbox": [0, 80, 90, 14], "iscrowd": 1}
        items.append({k: v for k, v in region.items() if k not in ("segmentation", "keypoints")})
        whose = {"source": "shop" if number % 2 else "user", "pair_id": number // 2}
        photo = {"id": number, "file_name": f"{number}.png", "width": SIZE, "height": SIZE}
        photos.append({**photo, **whose})
        cv2.imwrite(str(folder / "photos" / f"{number}.png"), image)
    for name, (photos, items) in files.items():
        whole = {"images": photos, "annotations": items, "categories": CATEGORIES}
        (folder / name).write_text(json.dumps(whole))
    (folder / "own.yaml").write_text(yaml.safe_dump(DATA_SETS))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trained and evaluated run: (folder of the data, its output, log)."""
    folder = tmp_path_factory.mktemp("own")
    make_files(folder)
    output = folder / "output"
    args = argparse.Namespace(
        config_file="configs/quickstart.yaml",
        data=[str(folder / "own.yaml")],
        opts=["OUTPUT_DIR", str(output), *KEYS],
        resume=False,
        eval_only=False,
        num_gpus=1,
    )
    train_or_evaluate(args)
    yield folder, output, (output / "log.txt").read_text()
    logging.getLogger("match_rcnn").handlers.clear()
    for name in DATA_SETS:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_what_is_trained_and_scored_is_told(run):
    rows = [line.split() for line in run[2].splitlines()]
    assert ["training", "own_boxes", "4", "8", "0", "0", "0", "4"] in rows
    assert ["training", "own_masks", "4", "8", "8", "2", "4", "4"] in rows
    assert "loss_mask (of 8 of 16 items), loss_keypoint (of 2 of 16 items)" in run[2]


def test_every_stream_learns(run):
    lines = (run[1] / "metrics.json").read_text().splitlines()
    records = [record for record in map(json.loads, lines) if "total_loss" in record]
    assert len(records) == 4
    for name in ("loss_cls", "loss_mask", "loss_keypoint", "loss_match"):
        values = [record[name] for record in records]
        assert np.isfinite(values).all(), name
        assert any(value > 0 for value in values), name


def test_evaluation_is_by_the_own_categories(run):
    metrics = json.loads((run[1] / "evaluations.json").read_text())[-1]["metrics"]
    names = [c["name"] for c in CATEGORIES]
    assert {f"bbox/AP-{name}" for name in names} <= metrics.keys()
    assert "segm/AP" in metrics
    # Only capes have landmarks.
    scored = {name for name, value in metrics.items() if value is not None}
    assert "keypoints/AP-cape" in scored
    assert not {f"keypoints/AP-{name}" for name in names[1:]} & scored
    assert len(list((run[1] / "inference" / "own_masks" / "pictures").iterdir())) == 2


@pytest.fixture(scope="module")
def predictor(run):
    """It needs no data set to name what it finds."""
    weights = torch.load(run[1] / "model_final.pth", weights_only=True)
    assert weights["taxonomy"]["categories"][0]["name"] == "cape"
    return MatchRCNNPredictor.from_files(run[1] / "config.yaml", run[1] / "model_final.pth", 0.0)


def test_prediction(run, predictor):
    found = predictor(run[0] / "photos" / "6.png")
    assert {garment.category.name for garment in found} <= {c["name"] for c in CATEGORIES}
    assert found
    for garment in found:
        assert garment.mask is not None
        assert len(garment.landmarks) == (4 if garment.category.name == "cape" else 0)


def test_pictures(run, predictor, tmp_path):
    for source in (
        ground_truth_source("own_masks"),
        prediction_source("own_masks", 2, predictor=predictor),
    ):
        report = draw_sources(source, tmp_path / str(len(source)))
        assert (report.drawn, report.problems) == (len(source), [])


def test_a_gallery_is_indexed_and_searched(run, tmp_path):
    folder, output, _ = run
    model = GalleryModel.from_files(output / "config.yaml", output / "model_final.pth", 0.0, [])
    catalogue = read_catalogue(folder / "photos", None)
    report = build_gallery(tmp_path / "gallery", catalogue, model, min_score=0.0, notes={})
    assert report.items > 0
    gallery = Gallery.open(tmp_path / "gallery", model.fingerprint)
    photo = read_image(folder / "photos" / "6.png", upright=True)
    results = search_photo(gallery, model, photo, top=3)
    assert results
