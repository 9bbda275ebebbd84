"""Which way up each reader of photos takes them: annotations and metrics refer to stored pixels, a
user's own photo is upright. Each reader is given a photo whose EXIF data say that it is to be
turned, and must do as with a plain photo of the pixels that it should see.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from match_rcnn.catalogue.indexing import _read
from match_rcnn.catalogue.photos import CatalogueImage
from match_rcnn.catalogue.query import QueryResult, draw_results
from match_rcnn.data.images import read_image
from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.evaluation.pictures import side_by_side
from match_rcnn.evaluation.retrieval.baselines import colour_embeddings
from match_rcnn.evaluation.retrieval.search import Embedded
from match_rcnn.inference.pictures import draw_sources, ground_truth_source, prediction_source
from match_rcnn.inference.predictor import MatchRCNNPredictor
from match_rcnn.reporting.charts.photos import photo
from match_rcnn.reporting.charts.queries import _cut
from match_rcnn.reporting.numbers.runs import Run
from match_rcnn.retrieval.gallery.items import GalleryItem, Hit
from match_rcnn.structures import Garment

BOX = np.array([5.0, 3.0, 20.0, 18.0])  # not in the middle, and inside of either way up


def baseline(path):
    one = np.ones(1, dtype=np.int64)
    found = Embedded(one, BOX[None], one, one.astype(float), np.zeros((1, 0)))
    return colour_embeddings(found, {1: path}).embeddings


def report(path):
    return photo(Run("", path, "", "", image_root=path.parent), 1)


def retrieval_figure(path):
    return _cut({1: path}, 1, BOX)


def evaluation(path):
    return side_by_side({"file_name": str(path), "annotations": [], "height": 1, "width": 1}, [])


def drawn_truth(path):
    annotation = path.parent.parent / "annos" / f"{path.stem}.json"
    annotation.parent.mkdir(exist_ok=True)
    annotation.write_text(json.dumps({"source": "user", "pair_id": 1}))
    return drawn(path, ground_truth_source(str(path)))


def drawn_prediction(path):
    return drawn(path, prediction_source(str(path), predictor=lambda image: []))


def drawn(path, sources):
    output = path.parent.parent / "drawn"
    assert draw_sources(sources, output).drawn == 1
    return read_image(output / "000001.jpg", upright=False)


def annotated_index(path):
    with Image.open(path) as image:
        return _read(CatalogueImage("a", path, image.size), annotated=True)


def detected_index(path):
    return _read(CatalogueImage("a", path), annotated=False)


def results_picture(path, upright):
    item = GalleryItem("a", image=path.name, box=tuple(BOX.tolist()))
    garment = Garment(DEEPFASHION2.categories[0], BOX.astype(np.float32))
    query = np.zeros((40, 40, 3), np.uint8)
    return draw_results(
        query, [QueryResult(garment, [Hit(item, 0.0)])], path.parent, upright=upright
    )


def results_of_annotated(path):
    return results_picture(path, upright=False)


def results_of_detected(path):
    return results_picture(path, upright=True)


STORED = (
    *(baseline, report, retrieval_figure, evaluation, drawn_truth),
    *(annotated_index, results_of_annotated),
)
UPRIGHT = (MatchRCNNPredictor.read, drawn_prediction, detected_index, results_of_detected)


def written(folder: Path, image: Image.Image, **options) -> Path:
    path = folder / "image" / "000001.png"
    path.parent.mkdir(parents=True)
    image.save(path, **options)
    return path


@pytest.fixture(params=[3, 6])  # upside down: the same size; a quarter turn
def photos(request, tmp_path):
    """A photo to be turned, and plain ones: as it is stored, and upright."""
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = request.param
    image = Image.fromarray(pixels)
    turned = written(tmp_path / "turned", image, exif=exif)
    with Image.open(turned) as opened:
        upright = written(tmp_path / "upright", ImageOps.exif_transpose(opened))
    return turned, written(tmp_path / "stored", image), upright


@pytest.mark.parametrize("reader", STORED, ids=lambda reader: reader.__name__)
def test_annotations_refer_to_stored_pixels(photos, reader):
    turned, stored, upright = photos
    assert np.array_equal(reader(turned), reader(stored))
    assert not np.array_equal(reader(turned), reader(upright))


@pytest.mark.parametrize("reader", UPRIGHT, ids=lambda reader: reader.__name__)
def test_a_users_photo_is_upright(photos, reader):
    turned, stored, upright = photos
    assert np.array_equal(reader(turned), reader(upright))
    assert not np.array_equal(reader(turned), reader(stored))
