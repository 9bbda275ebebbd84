"""Attributes from training on two kinds of data to pictures and a search: rectangles whose colour
is an attribute."""

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
from match_rcnn.d2 import BoxMode, DatasetCatalog, MetadataCatalog
from match_rcnn.data.images import read_image
from match_rcnn.engine.run import train_or_evaluate
from match_rcnn.inference.pictures import draw_sources, prediction_source
from match_rcnn.inference.predictor import MatchRCNNPredictor
from match_rcnn.retrieval.gallery.gallery import Gallery

SIZE = 96
NAMES = ["blue", "red", "wide"]
KEYS = [
    *("MODEL.RESNETS.DEPTH", 18, "MODEL.FPN.OUT_CHANNELS", 16, "MODEL.ROI_BOX_HEAD.FC_DIM", 16),
    *("MODEL.ROI_MATCH_HEAD.CONV_DIMS", (8,), "MODEL.ROI_MATCH_HEAD.EMBEDDING_DIM", 8),
    *("MODEL.ROI_ATTRIBUTE_HEAD.CONV_DIMS", (), "MODEL.ROI_ATTRIBUTE_HEAD.FC_DIM", 16),
    *("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "MODEL.RPN.POST_NMS_TOPK_TEST", 20),
    *("MODEL.MASK_ON", False, "MODEL.KEYPOINT_ON", False),
    *("DATASETS.TRAIN", ("found", "given"), "DATASETS.TEST", ("found", "given")),
    *("DATASETS.TRAIN_WEIGHTS", (1, 1), "DATALOADER.SAMPLER_TRAIN", "TrainingSampler"),
    *("DATALOADER.NUM_WORKERS", 0, "SOLVER.IMS_PER_BATCH", 4, "SOLVER.MAX_ITER", 12),
    *("SOLVER.WARMUP_ITERS", 0, "SOLVER.LOG_PERIOD", 1, "INPUT.MIN_SIZE_TRAIN", (96,)),
    *("TEST.DETECTIONS_PER_IMAGE", 5, "TEST.VISUALIZE_IMAGES", 1),
]


def draw(folder, number):
    """A photo of a rectangle, its box and its attributes."""
    rng = np.random.default_rng(number)
    is_red, is_wide = number % 2, number // 2 % 2
    width, height = (60, 30) if is_wide else (30, 60)
    x, y = (5 + rng.integers(0, 25, 2)).tolist()
    photo = np.full((SIZE, SIZE, 3), 255, np.uint8)
    photo[y : y + height, x : x + width] = (0, 0, 200) if is_red else (200, 0, 0)
    path = folder / f"{number}.png"
    cv2.imwrite(str(path), photo)
    labels = np.array([1, -1, -1]) if not is_red else np.array([-1, 1, 0])
    labels[2] = 1 if is_wide else -1
    return path, [x, y, x + width, y + height], labels.astype(np.int8)


def make_sets(folder):
    photos, items = [], []
    for number in range(4):
        path, (x0, y0, x1, y1), _ = draw(folder, number)
        photos.append({"id": number, "file_name": path.name, "width": SIZE, "height": SIZE})
        box = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "iscrowd": 0}
        items.append({"id": number + 1, "image_id": number, "category_id": 1, **box})
    whole = {"images": photos, "annotations": items, "categories": [{"id": 1, "name": "cloth"}]}
    (folder / "found.json").write_text(json.dumps(whole))
    data = {"found": {"annotations": "found.json", "images": "."}}
    (folder / "own.yaml").write_text(yaml.safe_dump(data))
    given = []
    for number in range(8):
        path, box, labels = draw(folder, number)
        garment = {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "attributes": labels}
        garment["category_id"] = 0
        given.append({"file_name": str(path), "image_id": number, "annotations": [garment]})
    DatasetCatalog.register("given", lambda: given)
    MetadataCatalog.get("given").set(
        evaluator_type="deepfashion_category",
        thing_classes=["Anorak"],
        attribute_names=NAMES,
        attribute_types=np.array([1, 1, 3], np.int8),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attributes")
    make_sets(folder)
    output = folder / "output"
    args = argparse.Namespace(
        config_file="configs/quickstart_attributes.yaml",
        data=[str(folder / "own.yaml")],
        opts=["OUTPUT_DIR", str(output), *KEYS],
        resume=False,
        eval_only=False,
        num_gpus=1,
    )
    train_or_evaluate(args)
    yield folder, output
    logging.getLogger("match_rcnn").handlers.clear()
    for name in ("found", "given"):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_it_learns_and_is_scored(run):
    records = [json.loads(line) for line in (run[1] / "metrics.json").read_text().splitlines()]
    values = [record["loss_attribute"] for record in records if "loss_attribute" in record]
    assert len(values) == 12
    assert np.mean(values[-3:]) < np.mean(values[:3])
    metrics = json.loads((run[1] / "evaluations.json").read_text())[-1]["metrics"]
    assert {"found/bbox/AP", "given/attributes/texture_top3"} <= metrics.keys()
    assert "given/bbox/AP" not in metrics
    assert not (run[1] / "inference" / "given").exists()


def test_a_checkpoint_says_its_attributes(run):
    weights = torch.load(run[1] / "model_final.pth", weights_only=True)
    assert [a["name"] for a in weights["taxonomy"]["attributes"]] == NAMES


@pytest.fixture(scope="module")
def weights(run):
    """A model that finds every garment blue and wide."""
    state = torch.load(run[1] / "model_final.pth", weights_only=True)
    layer = "roi_heads.attribute_head.predictor"
    state["model"][f"{layer}.weight"][:] = 0
    state["model"][f"{layer}.bias"][:] = torch.tensor([1.0, -1, 2])
    torch.save(state, run[0] / "known.pth")
    return run[0] / "known.pth"


def test_prediction(run, weights, tmp_path):
    config = run[1] / "config.yaml"
    predictor = MatchRCNNPredictor.from_files(config, weights, 0.0)
    found = predictor(run[0] / "1.png")
    assert found
    for garment in found:
        assert garment.attributes == pytest.approx({"wide": 0.8808, "blue": 0.7311}, abs=1e-3)
        assert list(garment.to_dict()["attributes"]) == ["wide", "blue"]  # the highest first
    strict = ["TEST.ATTRIBUTE_SCORE_THRESH", "0.8"]
    (best, *_) = MatchRCNNPredictor.from_files(config, weights, 0.0, strict)(run[0] / "1.png")
    assert list(best.attributes) == ["wide"]
    source = prediction_source(str(run[0] / "1.png"), predictor=predictor)
    assert draw_sources(source, tmp_path).problems == []


@pytest.mark.parametrize("boxes", ["detected", "annotated"])
def test_a_search_by_attributes(run, weights, tmp_path, boxes):
    config = run[1] / "config.yaml"
    model = GalleryModel.from_files(config, weights, 0.0, [])
    catalogue = read_catalogue(run[0] / "found.json", run[0], model.taxonomy)
    build_gallery(tmp_path / "gallery", catalogue, model, boxes=boxes)
    gallery = Gallery.open(tmp_path / "gallery", model.fingerprint)
    (garment, *_) = model(read_image(run[0] / "1.png", upright=True))
    (hits,) = gallery.search(garment.embedding, 5, where="array_has(attributes, 'blue')")
    assert hits
    assert {hit.item.attributes for hit in hits} == {("wide", "blue")}
    (none,) = gallery.search(garment.embedding, 5, where="array_has(attributes, 'red')")
    assert none == []
    strict = GalleryModel.from_files(config, weights, 0.0, ["TEST.ATTRIBUTE_SCORE_THRESH", "0.8"])
    with pytest.raises(ValueError, match=r"'attribute_threshold': 0.5.*'attribute_threshold': 0.8"):
        build_gallery(tmp_path / "gallery", catalogue, strict, boxes=boxes)
