"""Indexing by a local Ray cluster of two workers. Skipped where Ray is not installed."""

import multiprocessing
import os
import signal
import sys
import time

import cv2
import numpy as np
import pytest

from match_rcnn.catalogue.indexing import build_gallery
from match_rcnn.catalogue.photos import read_catalogue
from match_rcnn.retrieval.gallery.gallery import Gallery

PHOTOS = int(os.environ.get("MATCH_RCNN_RAY_PHOTOS", "300"))


def make_model():
    """Pickled by value, as no module of the tests is on the workers' path."""

    from match_rcnn.data.taxonomy import DEEPFASHION2
    from match_rcnn.retrieval.gallery.items import Fingerprint
    from match_rcnn.retrieval.scoring import MatchScorer
    from match_rcnn.structures import Garment

    def find(self, photo):
        time.sleep(0.002)
        value = int(photo[0, 0, 0]) + 256 * int(photo[0, 0, 1])
        box = np.array([0, 0, 3, 2], np.float32)
        return [
            Garment(DEEPFASHION2.category(n + 1), box, 0.9, embedding=np.array([value, n]))
            for n in range(value % 3)
        ]

    fields = {"scorer": MatchScorer.euclidean(2), "taxonomy": DEEPFASHION2, "__call__": find}
    fields["similarity"] = None
    return type("Model", (), {**fields, "fingerprint": Fingerprint("w", "c", "fake.pth")})()


def on_ray(photos, index):
    import ray

    from match_rcnn.catalogue.cluster import build_on_ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False)
    build_on_ray(index, read_catalogue(photos), make_model, workers=2, flush_seconds=0)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for n in range(PHOTOS):
        image = np.full((4, 5, 3), (n % 256, n // 256, 0), np.uint8)
        cv2.imwrite(str(folder / f"{n:05}.png"), image)
    (folder / "broken.png").write_bytes(b"none")
    return folder


def content(index):
    gallery = Gallery.open(index)
    items = sorted(gallery, key=lambda item: item.id)
    return items, gallery.vectors([item.id for item in items]).tolist(), gallery.images


def test_a_cluster_killed_once_makes_the_same_gallery(photos, tmp_path):
    pytest.importorskip("ray.data")
    index = tmp_path / "cluster"
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=on_ray, args=(photos, index))
    child.start()
    while child.is_alive() and not (index.exists() and _indexed(index)):
        time.sleep(0.05)
    assert child.is_alive(), f"ended by itself with {child.exitcode}"
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    before = _indexed(index)
    assert before > 0
    again = context.Process(target=on_ray, args=(photos, index))
    again.start()
    again.join(300)
    assert again.exitcode == 0
    report = build_gallery(tmp_path / "one", read_catalogue(photos), make_model())
    assert content(index) == content(tmp_path / "one")
    assert len(content(index)[2]) == PHOTOS
    assert list(report.broken) == ["broken.png"]


def _indexed(index):
    try:
        return len(Gallery.open(index).images)
    except FileNotFoundError:
        return 0
