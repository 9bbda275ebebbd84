"""Photos and galleries behind addresses: fsspec's ``memory://``, and Lance's object-store form of
this machine's files."""

import json

import cv2
import fsspec
import numpy as np
import pytest

from match_rcnn.catalogue.indexing import build_gallery
from match_rcnn.catalogue.photos import default_image_root, read_catalogue
from match_rcnn.catalogue.query import _crop
from match_rcnn.data.images import read_image
from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.retrieval.gallery.gallery import Gallery
from match_rcnn.retrieval.gallery.items import Fingerprint, GalleryItem
from match_rcnn.retrieval.scoring import MatchScorer
from match_rcnn.structures import Garment


class FakeModel:
    """Finds a garment in each channel of the first pixel that is not black."""

    scorer, taxonomy = MatchScorer.euclidean(2), DEEPFASHION2
    similarity = None
    fingerprint = Fingerprint("w", "c", "fake.pth")

    def __call__(self, photo):
        kind, box = DEEPFASHION2.category(9), np.array([0, 0, 2, 2], np.float32)
        found = [(value, n) for n, value in enumerate(photo[0, 0]) if value]
        return [Garment(kind, box, 0.9, embedding=np.array(f, np.float32)) for f in found]


def encoded(n):
    image = np.zeros((4, 5, 3), np.uint8)
    image[:, :, : n % 4] = 10 * n
    return cv2.imencode(".png", image)[1].tobytes()


@pytest.fixture
def shop():
    store = fsspec.filesystem("memory")
    for n in range(5):
        store.pipe(f"/shop/photos/{n % 2}/{n}.png", encoded(n))
    store.pipe("/shop/photos/notes.txt", b"no photo")
    yield store
    store.rm("/shop", recursive=True)


def test_photos_of_an_address_give_the_same_gallery(shop, tmp_path):
    shop.get("/shop/photos", str(tmp_path / "photos"), recursive=True)
    found = read_catalogue("memory://shop/photos/")
    assert [image.key for image in found] == ["0/0.png", "0/2.png", "0/4.png", "1/1.png", "1/3.png"]
    for name, catalogue in {"far": found, "near": read_catalogue(tmp_path / "photos")}.items():
        report = build_gallery(tmp_path / name, catalogue, FakeModel())
        assert (report.indexed, report.items, report.broken) == (5, 6, {})
    far, near = (Gallery.open(tmp_path / name) for name in ("far", "near"))
    assert list(far) == list(near)
    ids = [item.id for item in near]
    assert far.vectors(ids).tolist() == near.vectors(ids).tolist()


def test_a_coco_file_at_an_address(shop):
    record = {"images": [{"id": 1, "file_name": "1/1.png"}], "annotations": [], "categories": []}
    shop.pipe("/shop/photos/some.json", json.dumps(record).encode())
    (image,) = read_catalogue("memory://shop/photos/some.json")
    assert default_image_root("memory://shop/photos/some.json") == "memory://shop/photos"
    assert read_image(image.path, upright=True)[0, 0].tolist() == [10, 0, 0]


def test_an_items_photo_is_read_below_the_address_only(shop):
    def crop(name):
        return _crop(GalleryItem("x", image=name), "memory://shop/photos/1", True)

    assert crop("1.png").shape == (4, 5, 3)
    assert crop("../0/2.png") is None
    assert crop("none.png") is None


def test_a_gallery_in_an_object_store(tmp_path, monkeypatch, shop):
    pytest.importorskip("faiss")
    monkeypatch.setattr("match_rcnn.retrieval.gallery.gallery.CACHE", tmp_path / "cache")
    monkeypatch.setattr("match_rcnn.retrieval.gallery.search.EXACT_BELOW", 0)
    address = f"file-object-store://{tmp_path.as_posix()}/shop.gallery/"
    gallery = Gallery.create(address, FakeModel.scorer)
    vectors = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)
    gallery.add((GalleryItem(f"i{n}", fields={"n": n}) for n in range(300)), vectors)
    gallery.build_index("ivf", num_queries=10)
    for file in (tmp_path / "cache").rglob("*.*"):
        file.unlink(missing_ok=True)
    reader = Gallery.open(address)  # another machine
    gallery.remove(["i7"])
    assert reader.search(vectors[7], 1)[0][0].item.id == "i7"
    assert len(list((tmp_path / "cache").rglob("vectors.f32"))) == 1
    reader.refresh()
    assert reader.search(vectors[7], 1)[0][0].item.id != "i7"
    assert [h.item.id for h in reader.search(vectors[0], where="n < 2")[0]] == ["i0", "i1"]
    gallery.compact()
    assert Gallery.open(f"file://{tmp_path.as_posix()}/shop.gallery").index_info["items"] == 299


def test_the_report_of_a_gallery_in_an_object_store(shop):
    from match_rcnn.catalogue.indexing import IndexReport, write_report

    write_report("memory://shop/gallery", IndexReport(3, 1))
    assert json.loads(shop.cat("/shop/gallery/report.json"))["images"] == 3
