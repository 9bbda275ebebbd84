import shutil
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec

import cv2
import numpy as np
import pytest

#: Without the extra [serve], or what a gallery is stored with, nothing here can be tried.
NEEDED = ("starlette", "uvicorn", "prometheus_client", "lance", "jsonschema")
collect_ignore_glob = [] if all(map(find_spec, NEEDED)) else ["test_*.py"]


@pytest.fixture(scope="session")
def predictor(model_file):
    from match_rcnn.inference.predictor import MatchRCNNPredictor

    return MatchRCNNPredictor.pretrained(model_file)


@pytest.fixture(scope="session")
def catalogue(tmp_path_factory, write_photos):
    """A folder of four photos of noise."""
    sizes = {f"p{n} & co.jpg": (60 + 20 * n, 80) for n in range(4)}
    return write_photos(tmp_path_factory.mktemp("catalogue"), sizes, seed=1)


@pytest.fixture(scope="session")
def built(tmp_path_factory, catalogue, predictor, model_file):
    from match_rcnn.catalogue.indexing import build_gallery
    from match_rcnn.catalogue.model import GalleryModel
    from match_rcnn.catalogue.photos import read_catalogue
    from match_rcnn.retrieval.gallery.gallery import Gallery

    model = GalleryModel(predictor)
    photos = read_catalogue(catalogue, None, model.taxonomy)
    notes = {"image_root": str(catalogue), "weights": str(model_file)}
    folder = tmp_path_factory.mktemp("built") / "shop.gallery"
    build_gallery(folder, photos, model, notes=notes)
    gallery = Gallery.open(folder)
    assert len(gallery) == 20
    first = [item for item in gallery if item.id.endswith("#0")]
    skirt = model.taxonomy.named("skirt")  # a model of random weights finds one category alone
    vectors = gallery.vectors([item.id for item in first])
    gallery.replace([replace(item, category=skirt) for item in first], vectors)
    return folder


@pytest.fixture
def gallery(tmp_path, built):
    """The folder of a gallery of one's own: five garments a photo, the first a skirt."""
    return shutil.copytree(built, tmp_path / "shop.gallery")


@pytest.fixture(scope="session")
def photo():
    """(H, W, 3), and itself as a PNG."""
    noise = np.random.default_rng(5).integers(0, 256, (100, 120, 3), dtype=np.uint8)
    image = cv2.GaussianBlur(noise, (9, 9), 0)
    return image, cv2.imencode(".png", image)[1].tobytes()


@pytest.fixture
def serving(predictor):
    """``serving(gallery, **limits)``: a client of a service of the tiny model."""
    from starlette.testclient import TestClient

    from match_rcnn.serving.app import Metrics, build_app
    from match_rcnn.serving.limits import Limits
    from match_rcnn.serving.service import Service

    made = []

    def serve(gallery=None, **limits):
        metrics = Metrics()
        made.append(
            Service(predictor, gallery, limits=Limits(**limits), seen=metrics.batches.observe)
        )
        app = build_app(made[-1], metrics)
        return TestClient(app, "http://localhost", raise_server_exceptions=False)

    yield serve
    for service in made:
        service.close()


@pytest.fixture(scope="session")
def listening():
    """``with listening(app, limits) as port``: the app behind uvicorn, as ``serve`` has it."""

    from match_rcnn.serving.app import server

    @contextmanager
    def listen(app, limits):
        own = server(app, limits, "127.0.0.1", 0)
        thread = threading.Thread(target=own.run, daemon=True)
        thread.start()
        while not own.started:
            assert thread.is_alive()
            time.sleep(0.02)
        try:
            yield own.servers[0].sockets[0].getsockname()[1]
        finally:
            own.should_exit = True
            thread.join(20)
            assert not thread.is_alive()

    return listen
