import cv2
import numpy as np
import pytest

from match_rcnn.d2 import DatasetCatalog, MetadataCatalog
from match_rcnn.evaluation.retrieval.files import write_retrieved
from match_rcnn.evaluation.retrieval.protocol import Retrieved
from match_rcnn.inference.cells import CELL_HEIGHT, CELL_WIDTH
from match_rcnn.reporting.charts.queries import draw_retrieval

# Of the tiny data set: image 1 asks for the item of image 3, image 2 for that of image 4.
ASKED = {1: (10, 10, 50, 50), 2: (20, 20, 70, 70)}
SHOPS = {3: (30, 30, 70, 70), 4: (10, 10, 70, 70)}
GAP = 12


@pytest.fixture
def dataset(data):
    name = "retrieval_figure"
    items = [{"image_id": i, "file_name": str(data / f"image/{i:06d}.jpg")} for i in range(1, 5)]
    DatasetCatalog.register(name, lambda: items)
    MetadataCatalog.get(name).set(json_file=str(data / "gt.json"))
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def write_results(folder, found):
    """By query image the gallery images that were found, best first."""
    rows = [[*own, *[0] * (2 - len(own))] for own in found.values()]
    boxes = [[SHOPS.get(i, (0, 0, 1, 1)) for i in row] for row in rows]
    retrieved = Retrieved(
        image_ids=np.array(list(found)),
        boxes=np.array([ASKED[i] for i in found], dtype=float).reshape(-1, 4),
        classes=np.array([{1: 7, 2: 9}[i] for i in found], dtype=int),
        scores=np.ones(len(found)),
        gallery_image_ids=np.array(rows, dtype=int).reshape(-1, 2),
        gallery_boxes=np.array(boxes, dtype=float).reshape(-1, 2, 4),
        lengths=np.array([len(own) for own in found.values()], dtype=int),
    )
    write_retrieved(folder / "results.json", retrieved)
    return folder / "results.json"


def frames(picture, row, top):
    """``right``, ``wrong`` or ``None`` of the cells of a line."""
    line = picture[row * CELL_HEIGHT : (row + 1) * CELL_HEIGHT].astype(int)
    found = []
    for place in range(top):
        left = (1 + place) * CELL_WIDTH + GAP
        blue, green, red = line[60, left + 1]  # in the middle of the frame's left side
        found.append({True: "right", False: "wrong"}[green > red] if blue < 100 else None)
    return found


def test_right_ones_are_green_and_wrong_ones_red(dataset, tmp_path):
    results = write_results(tmp_path, {1: [4, 3], 2: [4]})
    picture = draw_retrieval(results, dataset, queries=8, top=3)
    assert picture.shape == (2 * CELL_HEIGHT, 4 * CELL_WIDTH + GAP, 3)
    assert frames(picture, 0, 3) == ["wrong", "right", None]
    assert frames(picture, 1, 3) == ["right", None, None]


def test_no_more_lines_than_asked_for(dataset, tmp_path):
    results = write_results(tmp_path, {1: [3], 2: [4]})
    picture = draw_retrieval(results, dataset, queries=1, top=1)
    assert picture.shape == (CELL_HEIGHT, 2 * CELL_WIDTH + GAP, 3)


def test_without_any_detection_the_picture_says_so(dataset, tmp_path):
    picture = draw_retrieval(write_results(tmp_path, {}), dataset)
    assert picture.shape == (CELL_HEIGHT, CELL_WIDTH, 3)
    assert (picture < 100).any()


def test_unreadable_photos_leave_their_cell_empty(dataset, tmp_path, monkeypatch):
    results = write_results(tmp_path, {1: [3]})
    files = [{"image_id": i, "file_name": str(tmp_path / f"{i}.jpg")} for i in range(1, 5)]
    monkeypatch.setattr(DatasetCatalog, "get", lambda name: files)
    cv2.imwrite(str(tmp_path / "1.jpg"), np.zeros((90, 120, 3), np.uint8))
    picture = draw_retrieval(results, dataset, top=1)
    assert (picture[20:100, 40:80] < 10).all()
    inside = picture[20:100, CELL_WIDTH + GAP + 40 : CELL_WIDTH + GAP + 80]
    assert (inside == 255).all()


def test_results_that_are_not_there_or_another_s_are_named(dataset, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="no retrieval results at"):
        draw_retrieval(tmp_path / "none.json", dataset)
    results = write_results(tmp_path, {1: [3]})
    monkeypatch.setattr(DatasetCatalog, "get", lambda name: [])
    with pytest.raises(ValueError, match="the data set has no image 1"):
        draw_retrieval(results, dataset)
