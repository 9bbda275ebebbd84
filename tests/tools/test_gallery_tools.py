"""build_gallery.py and search_gallery.py with an untrained, small model on generated photos."""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from match_rcnn.catalogue import commands
from match_rcnn.catalogue.indexing import build_gallery
from match_rcnn.catalogue.model import GalleryModel, model_fingerprint
from match_rcnn.catalogue.photos import read_catalogue
from match_rcnn.catalogue.query import search_photo
from match_rcnn.commands.search import parser as search_parser
from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import DefaultTrainer
from match_rcnn.data.images import read_image
from match_rcnn.data.taxonomy import Category, Taxonomy
from match_rcnn.retrieval.gallery.gallery import Gallery
from match_rcnn.retrieval.gallery.items import GalleryError
from match_rcnn.structures import Garment

ROOT = Path(__file__).parent.parent.parent
CONFIG = ROOT / "configs" / "quickstart.yaml"


@pytest.fixture(scope="module")
def opts(tiny_overrides):
    return [
        *tiny_overrides,
        *("MODEL.MATCH_ON", "True", "MODEL.ROI_MATCH_HEAD.CONV_DIMS", "(16, 16)"),
        *("MODEL.ROI_MATCH_HEAD.EMBEDDING_DIM", "8", "MODEL.DEVICE", "cpu"),
        # A metric loss: whatever its weights are, the best match of a vector is itself.
        *("MODEL.ROI_MATCH_HEAD.LOSS", "triplet", "TEST.DETECTIONS_PER_IMAGE", "3"),
    ]


def save_model(path, opts, seed):
    cfg = get_match_rcnn_cfg()
    cfg.merge_from_file(str(CONFIG))
    cfg.merge_from_list(opts)
    torch.manual_seed(seed)
    torch.save({"model": DefaultTrainer.build_model(cfg).state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory, opts):
    return save_model(tmp_path_factory.mktemp("weights") / "tiny.pth", opts, 0)


@pytest.fixture(scope="module")
def photos(generated_datasets, tmp_path_factory):
    """The six first generated photos and one that is broken."""
    folder = tmp_path_factory.mktemp("photos")
    for path in sorted((generated_datasets / "deepfashion2/train/image").iterdir())[:6]:
        shutil.copy(path, folder)
    (folder / "broken.jpg").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def build(run_tool, weights, opts):
    def run(catalogue, output, *flags, check=True, **environment):
        return run_tool(
            "build_gallery",
            *("--config-file", CONFIG, "--weights", weights, "--catalogue", catalogue),
            *("--output", output, "--min-score", "0", *flags, *opts),
            check=check,
            **environment,
        )

    return run


@pytest.fixture(scope="module")
def index(build, photos, tmp_path_factory):
    output = tmp_path_factory.mktemp("index") / "shop.gallery"
    assert "1 broken images, such as" in build(photos, output).stdout
    return output


def content(index):
    gallery = Gallery.open(index)
    items = sorted(gallery, key=lambda item: item.id)
    return items, gallery.vectors([item.id for item in items])


def test_a_folder_is_indexed(index, photos):
    gallery = Gallery.open(index)
    assert len(gallery.images) == 6
    assert 0 < len(gallery) <= 18
    assert {item.image for item in gallery} <= {path.name for path in photos.iterdir()}
    assert content(index)[1].shape == (len(gallery), 8)
    assert gallery.notes["image_root"] == str(photos)
    assert json.loads((index / "report.json").read_text())["num_broken"] == 1


def test_two_processes_make_the_same_gallery(build, photos, index, tmp_path):
    build(photos, tmp_path / "two", "--num-gpus", "2")
    items, vectors = content(index)
    others, other_vectors = content(tmp_path / "two")
    assert [item.id for item in items] == [item.id for item in others]
    np.testing.assert_allclose(vectors, other_vectors, rtol=1e-4, atol=1e-5)


def test_under_torchrun(photos, index, weights, opts, tmp_path):
    tool = ROOT / "tools" / "build_gallery.py"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
            *(str(tool), "--config-file", str(CONFIG), "--weights", str(weights)),
            *("--catalogue", str(photos), "--output", str(tmp_path / "run")),
            *("--min-score", "0", *opts),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [i.id for i in content(tmp_path / "run")[0]] == [i.id for i in content(index)[0]]


def test_annotated_boxes(build, generated_datasets, run_tool, photos, tmp_path):
    file = generated_datasets / "deepfashion2" / "annotations" / "train.json"
    build(file, tmp_path / "index", "--boxes", "annotated")
    annotations = json.loads(file.read_text())["annotations"]
    gallery = Gallery.open(tmp_path / "index")
    assert len(gallery) == len(annotations)
    for record in annotations:
        item = gallery.get(f"{record['image_id']:06}.jpg#{record['id']}")
        x, y, w, h = record["bbox"]
        assert item.box == pytest.approx((x, y, x + w, y + h))
        assert (item.category.id, item.fields["style"]) == (record["category_id"], record["style"])
    refused = build(photos, tmp_path / "other", "--boxes", "annotated", check=False)
    assert refused.returncode == 1
    assert "needs a COCO file" in refused.stderr


def test_a_photo_of_the_catalogue_finds_itself(run_tool, index, photos, tmp_path):
    photo = sorted(photos.glob("0*.jpg"))[0]
    flags = ("--index", index, "--query", photo, "--top", 4, "--min-score", 0)
    run_tool("search_gallery", *flags, "--output", tmp_path)
    for result in json.loads((tmp_path / f"{photo.stem}.json").read_text()):
        shown = [hit["image"] for hit in result["hits"]]
        photos_with_items = {item.image for item in Gallery.open(index)}
        assert len(shown) == len(set(shown)) == min(4, len(photos_with_items))
    flags = (*flags, "--group-by", "none")
    done = run_tool("search_gallery", *flags, "--output", tmp_path)
    results = json.loads((tmp_path / f"{photo.stem}.json").read_text())
    assert results
    for number, result in enumerate(results):
        assert f"garment {number + 1}: {result['garment']['category']}" in done.stdout
        assert len(result["hits"]) == 4
        own = [hit["score"] for hit in result["hits"] if hit["id"] == f"{photo.name}#{number}"]
        assert own == [pytest.approx(0, abs=1e-6)]
        assert result["hits"][0]["score"] <= 0
    picture = cv2.imread(str(tmp_path / f"{photo.stem}.jpg"))
    assert picture.shape == (200 * len(results), 11 * 160, 3)


def test_a_search_by_category(run_tool, index, photos, tmp_path):
    photo = sorted(photos.glob("0*.jpg"))[0]
    present = next(iter(Gallery.open(index))).category.name
    flags = ("--index", index, "--query", photo, "--min-score", 0, "--output", tmp_path)
    run_tool("search_gallery", *flags, "--category", present)
    results = json.loads((tmp_path / f"{photo.stem}.json").read_text())
    assert {hit["category"] for result in results for hit in result["hits"]} == {present}
    run_tool("search_gallery", *flags, "--where", f"image = '{photo.name}'")
    results = json.loads((tmp_path / f"{photo.stem}.json").read_text())
    assert {hit["image"] for result in results for hit in result["hits"]} == {photo.name}
    refused = run_tool("search_gallery", *flags, "--category", "hat", check=False)
    assert refused.returncode == 1
    assert "got 'hat'" in refused.stderr


def test_other_weights_are_refused(run_tool, index, photos, weights, opts, tmp_path):
    other = save_model(tmp_path / "other.pth", opts, 1)
    photo = sorted(photos.glob("0*.jpg"))[0]
    flags = ("--index", index, "--query", photo, "--output", tmp_path)
    refused = run_tool("search_gallery", *flags, "--weights", other, check=False)
    assert refused.returncode == 1
    assert str(weights) in refused.stderr
    assert str(other) in refused.stderr


@pytest.fixture(scope="module")
def model(weights, opts):
    return GalleryModel.from_files(CONFIG, weights, 0.0, opts)


def test_given_boxes_get_the_embeddings_of_detected_ones(model, photos):
    photo = read_image(sorted(photos.glob("0*.jpg"))[0], upright=True)
    found = model(photo)
    given = [Garment(g.category, g.box) for g in found]
    for one, other in zip(found, model.describe(photo, given), strict=True):
        assert one.embedding.shape == (model.scorer.dim,)
        np.testing.assert_allclose(one.embedding, other.embedding, rtol=1e-3, atol=1e-4)
    assert model.describe(photo, []) == []


def test_the_scorer_is_the_match_heads_classifier(opts, tmp_path):
    opts = [*opts, "MODEL.ROI_MATCH_HEAD.LOSS", "pair_ce"]
    path = save_model(tmp_path / "pairs.pth", opts, 0)
    model = GalleryModel.from_files(CONFIG, path, 0.0, opts)
    head = model.predictor._predictor.model.roi_heads.match_head
    left, right = torch.randn(2, 1, 8)
    with torch.no_grad():
        logits = head.classifier.logits(left, right).flatten()
    assert logits.shape == (2,)
    expected = float(logits[1] - logits[0])
    assert model.scorer.differences(left, right).item() == pytest.approx(expected, rel=1e-4)


def test_the_fingerprint_sees_weights_and_settings_that_matter(model):
    network, cfg = model.predictor._predictor.model, model.predictor.cfg.clone()
    own = model.fingerprint
    assert own == model_fingerprint(network, cfg, own.name)
    cfg.defrost()
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.123
    cfg.MODEL.WEIGHTS = cfg.OUTPUT_DIR = "elsewhere"
    cfg.MODEL.CHANNELS_LAST = not cfg.MODEL.CHANNELS_LAST  # computes the same
    assert own.matches(model_fingerprint(network, cfg))
    for precision in ("bfloat16", "float16"):
        cfg.TEST.PRECISION = precision
        assert model_fingerprint(network, cfg).config != own.config
    cfg.TEST.PRECISION = ""
    cfg.INPUT.MIN_SIZE_TEST = 97
    assert model_fingerprint(network, cfg).config != own.config
    assert model_fingerprint(network, cfg).weights == own.weights
    bias = network.roi_heads.match_head.fc.bias
    with torch.no_grad():
        bias[0] += 1
        changed = model_fingerprint(network, model.predictor.cfg)
        bias[0] -= 1
    assert changed.weights != own.weights
    assert changed.config == own.config


def test_the_categories_are_the_checkpoints(opts, photos, tmp_path):
    hats = Taxonomy("hats", (Category(3, "cap"), Category(7, "hat")))
    opts = [*opts, "MODEL.ROI_HEADS.NUM_CLASSES", "2", "MODEL.KEYPOINT_ON", "False"]
    weights = save_model(tmp_path / "hats.pth", opts, 0)
    torch.save({**torch.load(weights), "taxonomy": hats.to_dict()}, weights)
    content = {
        "images": [{"id": 1, "file_name": sorted(photos.glob("0*.jpg"))[0].name}],
        "categories": [{"id": kind.id, "name": kind.name} for kind in hats.categories],
        "annotations": [{"id": 5, "image_id": 1, "category_id": 7, "bbox": [5, 5, 60, 70]}],
    }
    (tmp_path / "hats.json").write_text(json.dumps(content))
    arguments = argparse.Namespace(
        config_file=CONFIG,
        weights=str(weights),
        opts=opts,
        min_score=0.0,
        catalogue=tmp_path / "hats.json",
        image_root=photos,
        boxes="annotated",
        output=tmp_path / "hats.gallery",
        convert=None,
        engine="local",
        index=None,
    )
    commands.build(arguments)
    gallery = Gallery.open(arguments.output)
    assert gallery.taxonomy == hats
    assert [(item.id[-2:], item.category.name) for item in gallery] == [("#5", "hat")]


def test_a_model_without_match_stream_is_refused(tmp_path, opts):
    opts = [*opts, "MODEL.MATCH_ON", "False"]
    path = save_model(tmp_path / "none.pth", opts, 0)
    with pytest.raises(ValueError, match=r"MODEL\.MATCH_ON False"):
        GalleryModel.from_files(CONFIG, path, 0.0, opts)


def test_a_similarity_orders_what_the_match_score_finds(opts, photos, tmp_path):
    graph = "MODEL.ROI_MATCH_HEAD.SIMILARITY"
    opts = [*opts, f"{graph}.NAME", "RegionGraph", f"{graph}.GRAPH.SCALES", "[1, 2]"]
    opts += [f"{graph}.GRAPH.REGION_DIM", "6", f"{graph}.GRAPH.NODE_DIM", "6"]
    weights = save_model(tmp_path / "graph.pth", opts, 0)
    model = GalleryModel.from_files(CONFIG, weights, 0.0, opts)
    catalogue = read_catalogue(photos, None, model.taxonomy)
    build_gallery(tmp_path / "gallery", catalogue, model)
    gallery = Gallery.open(tmp_path / "gallery", model.fingerprint)
    photo = sorted(photos.glob("0*.jpg"))[0]
    arguments = search_parser().parse_args(
        [
            *("--index", str(gallery.folder), "--query", str(photo), "--output", str(tmp_path)),
            *("--top", "6", "--min-score", "0", "--group-by", "none", "--shortlist", "4"),
            *("--config-file", str(CONFIG), "--weights", str(weights), *opts),
        ]
    )
    text, answer = commands.search(arguments)
    assert "similarity" in text
    items = [item.id for item in gallery]
    kept = torch.from_numpy(gallery.vectors(items, "regions"))
    assert kept.shape == (len(items), 5, 6)
    garments = model(read_image(photo, upright=True))
    assert len(garments) == len(answer["results"])
    for garment, result in zip(garments, answer["results"], strict=True):
        # Slowly: by the score all items, then each of the first four by itself.
        vectors = torch.from_numpy(gallery.vectors(items))
        scores = model.scorer.differences(torch.from_numpy(garment.embedding), vectors)
        order = scores.argsort(descending=True, stable=True).tolist()
        asked = {"regions": torch.from_numpy(garment.features["regions"])[None].float()}
        with torch.no_grad():
            said = {i: model.similarity(asked, {"regions": kept[i][None, None]}) for i in order[:4]}
        expected = sorted(said, key=lambda i: -said[i].item()) + order[4:6]
        assert [hit["id"] for hit in result["hits"]] == [items[i] for i in expected]
        both = [(hit["score"], hit["similarity"]) for hit in result["hits"]]
        for i, (score, similarity) in zip(expected, both, strict=True):
            assert score == pytest.approx(scores[i].item(), rel=1e-5, abs=1e-6)
            assert similarity == (
                None if i not in said else pytest.approx(said[i].item(), abs=1e-5)
            )
    arguments.shortlist = 0
    _, answer = commands.search(arguments)
    assert {hit["similarity"] for r in answer["results"] for hit in r["hits"]} == {None}
    bare = Gallery.create(tmp_path / "bare", model.scorer, model.fingerprint)
    with pytest.raises(GalleryError, match=r"'regions': \(5, 6\).*index the catalogue again"):
        search_photo(bare, model, read_image(photo, upright=True))
