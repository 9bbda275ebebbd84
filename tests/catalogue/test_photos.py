import json

import cv2
import numpy as np
import pytest

from match_rcnn.catalogue.photos import read_catalogue


def write_image(path, width=8, height=6):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((height, width, 3), np.uint8))


def coco(**changes):
    return {
        "info": {},
        "images": [
            {
                "id": 7,
                "file_name": "b.jpg",
                "width": 8,
                "height": 6,
                "source": "shop",
                "pair_id": 3,
            },
            {"id": 2, "file_name": "sub/a.jpg"},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 9, "bbox": [1, 2, 3, 4], "style": 2},
            {"id": 5, "image_id": 7, "category_id": 1, "bbox": [0, 0, 1, 1], "style": 0},
        ],
        "categories": [{"id": 9, "name": "skirt"}, {"id": 1, "name": "short_sleeved_shirt"}],
        **changes,
    }


@pytest.fixture
def write(tmp_path):
    def to_file(value, path="catalogue.json"):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(value))
        return file

    return to_file


def test_a_folder_with_its_sub_folders(tmp_path):
    for name in ("z.png", "sub/deep/b.JPG", "sub/a.jpeg"):
        write_image(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    images = read_catalogue(tmp_path)
    assert [image.key for image in images] == ["sub/a.jpeg", "sub/deep/b.JPG", "z.png"]
    assert [image.path for image in images] == [tmp_path / image.key for image in images]


def test_a_coco_file(tmp_path, write):
    first, second = read_catalogue(write(coco()))
    assert (first.key, first.path) == ("b.jpg", tmp_path / "b.jpg")
    assert (first.size, first.fields) == ((8, 6), {"source": "shop", "pair_id": 3})
    skirt, top = first.garments
    assert (skirt.name, skirt.garment.category.name, skirt.fields) == ("1", "skirt", {"style": 2})
    assert skirt.garment.box.tolist() == [1, 2, 4, 6]
    assert (top.garment.category.id, top.fields) == (1, {"style": 0})
    assert (second.key, second.size, second.garments, second.fields) == ("sub/a.jpg", None, (), {})


def test_crowds_are_no_garments(write):
    whole = coco()
    whole["annotations"][0]["iscrowd"] = 1
    first, _ = read_catalogue(write(whole))
    assert [garment.name for garment in first.garments] == ["5"]


def test_where_a_coco_files_images_are(tmp_path, write):
    file = write(coco(), "root/annotations/train.json")
    beside = tmp_path / "root" / "annotations" / "b.jpg"
    assert read_catalogue(file)[0].path == beside
    write_image(tmp_path / "root" / "train" / "image" / "b.jpg")
    assert read_catalogue(file)[0].path == tmp_path / "root" / "train" / "image" / "b.jpg"
    assert read_catalogue(file, tmp_path / "other")[0].path == tmp_path / "other" / "b.jpg"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": [], "annotations": []}, "lists no images"),
        ({"categories": [{"id": 1, "name": "person"}]}, "calls category 1 'person'.*'short sleeve"),
        (
            {"annotations": [{"id": 4, "image_id": 7, "category_id": 77, "bbox": [0, 0, 1, 1]}]},
            "annotation 4: expected a category_id from 1 to 13",
        ),
        (
            {
                "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 7, "file_name": "a.jpg"}],
            },
            r"the image a\.jpg twice",
        ),
        ({"images": [{"id": 1}], "annotations": []}, r"catalogue\.json, image 1: .*a file_name"),
        ({"annotations": [{"id": 4, "image_id": 7, "category_id": 1}]}, r"catalogue\.json.*bbox"),
    ],
)
def test_a_coco_file_that_cannot_be_used(write, changes, message):
    with pytest.raises(ValueError, match=message):
        read_catalogue(write(coco(**changes)))


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no catalogue at"):
        read_catalogue(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no images in"):
        read_catalogue(tmp_path)
