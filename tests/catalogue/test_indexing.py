"""Indexing with a model that finds one garment a non-black channel of the photo's first pixel."""

import json
import multiprocessing
import os

import cv2
import numpy as np
import pytest

from match_rcnn.catalogue.indexing import build_gallery
from match_rcnn.catalogue.photos import read_catalogue
from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.retrieval.gallery.gallery import Gallery
from match_rcnn.retrieval.gallery.items import Fingerprint, GalleryError, GalleryItem
from match_rcnn.retrieval.scoring import MatchScorer
from match_rcnn.structures import Garment

category = DEEPFASHION2.category
FINGERPRINT = Fingerprint("w", "c", "fake.pth")


class FakeModel:
    """Embeds a garment as (the photo's first channel, the garment's number)."""

    scorer = MatchScorer.euclidean(2)
    similarity = None
    taxonomy = DEEPFASHION2

    def __init__(self, fingerprint=FINGERPRINT, fail_after=None):
        self.fingerprint = fingerprint
        self.seen = 0
        self.fail_after = fail_after

    def __call__(self, photo):
        if self.seen == self.fail_after:
            raise KeyboardInterrupt
        self.seen += 1
        pixel = photo[0, 0]
        return [
            Garment(
                category(n + 1),
                np.array([0, 0, n + 1, 2], np.float32),
                score=0.9 - 0.3 * n,
                embedding=np.array([pixel[0], n], np.float32),
            )
            for n in range(3)
            if pixel[n]
        ]

    def describe(self, photo, garments):
        self.seen += 1
        return [
            Garment(g.category, g.box, embedding=np.array([photo[0, 0, 0], g.box[0]], np.float32))
            for g in garments
        ]


@pytest.fixture
def photos(tmp_path):
    """Ten photos; the n-th has n % 4 garments."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for n in range(10):
        image = np.zeros((4, 5, 3), np.uint8)
        image[:, :, : n % 4] = 10 * n
        cv2.imwrite(str(folder / f"{n}.png"), image)
    return folder


@pytest.fixture
def index(tmp_path):
    return tmp_path / "index"


WHOLE = {f"{n}.png#{i}" for n in range(10) for i in range(n % 4)}


def ids(index):
    return {item.id for item in Gallery.open(index)}


def test_a_folder(photos, index):
    report = build_gallery(index, read_catalogue(photos), FakeModel(), notes={"a": 1})
    assert (report.images, report.indexed, report.passed_over) == (10, 10, 0)
    assert report.items == 13
    assert (report.broken, report.left_out) == ({}, [])
    gallery = Gallery.open(index, FINGERPRINT)
    assert ids(index) == WHOLE
    assert gallery.notes == {"a": 1, "boxes": "detected", "min_score": 0.0}
    item = gallery.get("3.png#1")
    assert (item.image, item.category.id, item.box) == ("3.png", 2, (0, 0, 2, 2))
    assert item.score == pytest.approx(0.6)
    assert gallery.vectors(["3.png#1"]).tolist() == [[30, 1]]
    assert gallery.images == {f"{n}.png" for n in range(10)}


def test_detections_below_the_score_are_left_out(photos, index):
    build_gallery(index, read_catalogue(photos), FakeModel(), min_score=0.5)
    assert ids(index) == {i for i in WHOLE if not i.endswith("#2")}


@pytest.mark.parametrize("flush_seconds", [0, 60])
def test_an_interrupted_run_goes_on(photos, index, flush_seconds):
    catalogue = read_catalogue(photos)
    with pytest.raises(KeyboardInterrupt):
        build_gallery(index, catalogue, FakeModel(fail_after=4), flush_seconds=flush_seconds)
    second = FakeModel()
    report = build_gallery(index, catalogue, second)
    assert second.seen == 6
    assert (report.indexed, report.passed_over) == (6, 4)
    assert ids(index) == WHOLE
    third = FakeModel()
    assert build_gallery(index, catalogue, third).passed_over == 10
    assert third.seen == 0


def index_and_die(photos, index):
    class Dying(FakeModel):
        def __call__(self, photo):
            if self.seen == 7:
                os._exit(9)
            return super().__call__(photo)

    build_gallery(index, read_catalogue(photos), Dying(), flush_seconds=0)


def test_a_killed_run_goes_on(photos, index):
    child = multiprocessing.get_context("spawn").Process(target=index_and_die, args=(photos, index))
    child.start()
    child.join()
    assert child.exitcode == 9
    model = FakeModel()
    report = build_gallery(index, read_catalogue(photos), model)
    assert (model.seen, report.passed_over) == (3, 7)
    assert ids(index) == WHOLE


def test_new_photos_are_taken_in(photos, index):
    (photos / "9.png").rename(photos.parent / "9.png")
    build_gallery(index, read_catalogue(photos), FakeModel())
    (photos.parent / "9.png").rename(photos / "9.png")
    model = FakeModel()
    assert build_gallery(index, read_catalogue(photos), model).items == 13
    assert model.seen == 1


def test_items_of_photos_that_an_end_came_between_are_replaced(photos, index):
    """Their names come last: before it they do not count as indexed."""
    catalogue = read_catalogue(photos)
    build_gallery(index, catalogue[:4], FakeModel())
    gallery = Gallery.open(index)
    gallery.add([GalleryItem("5.png#0"), GalleryItem("9.png#0")], [[1, 1], [2, 2]])
    report = build_gallery(index, catalogue, FakeModel())
    assert (report.passed_over, report.indexed) == (4, 6)
    assert ids(index) == WHOLE
    assert Gallery.open(index).vectors(["5.png#0"]).tolist() == [[50, 0]]


def test_what_a_catalogue_calls_one_product(photos, index):
    def annotation(number, **more):
        box = {"category_id": 9, "bbox": [0, 0, 2, 2]}
        return {"id": number, "image_id": 1, **box, **more}

    content = {
        "images": [{"id": 1, "file_name": "5.png", "pair_id": 8}],
        "annotations": [annotation(1, style=3), annotation(2, style=0), annotation(3)],
    }
    file = photos / "c.json"
    file.write_text(json.dumps(content))
    build_gallery(index, read_catalogue(file), FakeModel(), boxes="annotated")
    assert [item.product for item in Gallery.open(index)] == ["8-3", None, None]


def test_broken_images_are_reported_and_tried_again(photos, index):
    good = (photos / "3.png").read_bytes()
    (photos / "3.png").write_bytes(good[:60])
    (photos / "7.png").write_bytes(b"")
    (photos / "text.jpg").write_text("no image at all")
    report = build_gallery(index, read_catalogue(photos), FakeModel())
    assert sorted(report.broken) == ["3.png", "7.png", "text.jpg"]
    assert "text.jpg" in report.broken["text.jpg"]
    assert "3 broken images, such as" in str(report)
    written = json.loads((index / "report.json").read_text())
    assert written["num_broken"] == 3
    assert written["broken"] == report.broken
    assert (written["images"], written["indexed"], written["items"]) == (11, 8, 7)
    (photos / "3.png").write_bytes(good)
    report = build_gallery(index, read_catalogue(photos), FakeModel())
    assert (report.indexed, sorted(report.broken)) == (1, ["7.png", "text.jpg"])
    assert "3.png#2" in Gallery.open(index)


def test_an_error_of_the_model_is_no_broken_image(photos, index):
    class Failing(FakeModel):
        def __call__(self, photo):
            raise ValueError("shapes")

    with pytest.raises(ValueError, match="shapes"):
        build_gallery(index, read_catalogue(photos), Failing())


def test_annotated_boxes(photos, index):
    def annotation(number, image, box, **more):
        return {"id": number, "image_id": image, "category_id": 9, "bbox": box, **more}

    file = photos / "c.json"
    content = {
        "images": [
            {"id": 1, "file_name": "5.png", "width": 5, "height": 4, "pair_id": 8},
            {"id": 2, "file_name": "6.png", "width": 4, "height": 5},
            {"id": 3, "file_name": "0.png", "width": 5, "height": 4},
        ],
        "annotations": [
            annotation(11, 1, [1, 0, 2, 2], style=3),
            annotation(12, 1, [2, 0, 2, 2]),
            annotation(13, 1, [6, 0, 2, 2]),
            annotation(14, 1, [1, 1, 0, 2]),
            annotation(15, 2, [1, 1, 1, 1]),
        ],
    }
    file.write_text(json.dumps(content))
    report = build_gallery(index, read_catalogue(file), FakeModel(), boxes="annotated")
    gallery = Gallery.open(index)
    assert ids(index) == {"5.png#11", "5.png#12"}
    assert gallery.get("5.png#11").fields == {"pair_id": 8, "style": 3}
    assert gallery.get("5.png#11").score is None
    assert gallery.vectors(["5.png#12"]).tolist() == [[50, 2]]
    assert "has 5 x 4 pixels, the catalogue says 4 x 5" in report.broken["6.png"]
    assert report.left_out == [
        f"5.png, annotation {n}: no part of the box is in the image" for n in (13, 14)
    ]
    assert "0.png" in gallery.images
    with pytest.raises(ValueError, match=r"was built with .*annotated.*now .*detected"):
        build_gallery(index, read_catalogue(file), FakeModel())


def test_other_weights_are_refused(photos, index):
    catalogue = read_catalogue(photos)
    build_gallery(index, catalogue[:2], FakeModel())
    other = Fingerprint("x", "c", "other.pth")
    with pytest.raises(GalleryError, match=r"fake\.pth.*other\.pth"):
        build_gallery(index, catalogue, FakeModel(other))
    with pytest.raises(ValueError, match="detected or annotated, got 'all'"):
        build_gallery(index, catalogue, FakeModel(), boxes="all")
