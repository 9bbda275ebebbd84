import cv2
import numpy as np
import pytest

from match_rcnn.catalogue.query import (
    draw_results,
    results_table,
    search_photo,
)
from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.inference.cells import CELL_HEIGHT, CELL_WIDTH
from match_rcnn.retrieval.gallery.gallery import Gallery
from match_rcnn.retrieval.gallery.items import GalleryItem
from match_rcnn.retrieval.scoring import MatchScorer
from match_rcnn.structures import Garment

SKIRT, SHORTS = DEEPFASHION2.category(9), DEEPFASHION2.category(7)
PHOTO = np.full((60, 80, 3), 200, np.uint8)


def fake_model(photo):
    box = np.array([10, 10, 50, 40], np.float32)
    return [
        Garment(SKIRT, box, 0.75, embedding=np.array([3, 0], np.float32)),
        Garment(SHORTS, box + 5, 0.5, embedding=np.array([9, 0], np.float32)),
    ]


fake_model.similarity = None


@pytest.fixture
def gallery(tmp_path):
    made = Gallery.create(tmp_path / "index", MatchScorer.euclidean(2))
    items = [
        GalleryItem(f"i{n}", SKIRT if n % 2 else SHORTS, f"{n}.png", (5, 5, 25, 35))
        for n in range(13)
    ]
    made.add(items, [[n, 0] for n in range(13)])
    for n in range(13):
        cv2.imwrite(str(tmp_path / f"{n}.png"), np.full((40, 30, 3), (0, 0, 255), np.uint8))
    return made


def test_each_garment_is_searched_for(gallery):
    first, second = search_photo(gallery, fake_model, PHOTO, top=3)
    assert [hit.item.id for hit in first.hits] == ["i3", "i2", "i4"]
    assert [hit.item.id for hit in second.hits] == ["i9", "i8", "i10"]
    first, second = search_photo(gallery, fake_model, PHOTO, top=3, same_category=True)
    assert [hit.item.id for hit in first.hits] == ["i3", "i1", "i5"]
    assert [hit.item.id for hit in second.hits] == ["i8", "i10", "i6"]
    first, _ = search_photo(gallery, fake_model, PHOTO, top=2, category="shorts")
    assert [hit.item.id for hit in first.hits] == ["i2", "i4"]


def test_the_table(gallery):
    table = results_table(search_photo(gallery, fake_model, PHOTO, top=2))
    assert "garment 1: skirt, score 0.75, box 10 10 50 40" in table
    assert [line.split()[:2] for line in table.splitlines()[3:5]] == [["1", "0"], ["2", "-1"]]
    assert "i3" in table.splitlines()[3]
    assert "5 5 25 35" in table.splitlines()[3]
    assert results_table([]) == "no garment found in the photo"
    gallery.remove(f"i{n}" for n in range(13))
    assert "nothing found" in results_table(search_photo(gallery, fake_model, PHOTO))


def test_the_picture_has_a_line_a_garment_and_a_cell_a_result(gallery, tmp_path):
    results = search_photo(gallery, fake_model, PHOTO, top=12)[:1]
    picture = draw_results(PHOTO, results, tmp_path, upright=True)
    assert picture.shape == (2 * CELL_HEIGHT, 11 * CELL_WIDTH, 3)  # 10 of 12 in the first line
    red = (picture == (0, 0, 255)).all(-1)
    cells = red.reshape(2, CELL_HEIGHT, 11, CELL_WIDTH).sum((1, 3)) > 1000
    assert cells.tolist() == [[False] + [True] * 10, [False, True, True] + [False] * 8]


def test_an_image_that_is_gone_leaves_an_empty_cell(gallery, tmp_path):
    (tmp_path / "3.png").unlink()
    (tmp_path / "2.png").write_text("broken")
    picture = draw_results(
        PHOTO, search_photo(gallery, fake_model, PHOTO, top=3)[:1], tmp_path, upright=True
    )
    red = (picture == (0, 0, 255)).all(-1).reshape(CELL_HEIGHT, 11, CELL_WIDTH).sum((0, 2))
    assert (red > 1000).tolist() == [False, False, False, True] + [False] * 7


def test_one_result_a_photo(gallery):
    near = [GalleryItem(f"near{n}", SKIRT, "3.png") for n in range(4)]
    gallery.add(near, [[3, 0]] * 4)
    first, _ = search_photo(gallery, fake_model, PHOTO, top=3)
    assert [hit.item.image for hit in first.hits] == ["3.png"] * 3
    first, _ = search_photo(gallery, fake_model, PHOTO, top=3, group_by="product")
    assert [hit.item.id for hit in first.hits] == ["i3", "i2", "i4"]
    first, _ = search_photo(gallery, fake_model, PHOTO, top=3, where="id LIKE 'near%'")
    assert [hit.item.id for hit in first.hits] == ["near0", "near1", "near2"]


@pytest.mark.parametrize("name", ["../secret.png", "/{}/secret.png", "a/../../secret.png"])
def test_an_image_outside_the_folder_is_not_read(tmp_path, name):
    """What an item calls its photo is anybody's text."""
    name = name.format(tmp_path)
    cv2.imwrite(str(tmp_path / "secret.png"), np.full((40, 30, 3), (0, 0, 255), np.uint8))
    (tmp_path / "photos" / "a").mkdir(parents=True)
    gallery = Gallery.create(tmp_path / "index", MatchScorer.euclidean(2))
    gallery.add([GalleryItem("x", SKIRT, name)], [[3, 0]])
    results = search_photo(gallery, fake_model, PHOTO, top=1)[:1]
    picture = draw_results(PHOTO, results, tmp_path / "photos", upright=True)
    assert (picture == (0, 0, 255)).all(-1).sum() < 1000


def test_a_photo_without_garment_gives_a_picture(tmp_path):
    assert draw_results(PHOTO, [], tmp_path, upright=True).shape == (CELL_HEIGHT, CELL_WIDTH, 3)
