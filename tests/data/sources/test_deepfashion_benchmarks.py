"""DeepFashion's (2016) benchmarks, joined and checked: oddities, and high resolution."""

import numpy as np
import pytest

from match_rcnn.data.problems import Reason
from match_rcnn.data.sources.deepfashion import NO_SLOT
from match_rcnn.data.sources.deepfashion_benchmarks import read_benchmark
from match_rcnn.data.sources.deepfashion_labels import clothes_type
from tests.data.deepfashion_trees import (
    LOWER,
    category_tree,
    consumer2shop_tree,
    fine_tree,
    inshop_tree,
    write_image,
    write_list,
)

IMAGES = [f"img/Some_Thing/img_{i:08d}.jpg" for i in range(1, 5)]


def rewrite(root, name, rows):
    """Replace the rows of a list of the category benchmark."""
    write_list(root, name, "some header", [f"{i} {r}" for i, r in zip(IMAGES, rows, strict=True)])


def test_boxes_without_area_or_outside_become_the_whole_image(tmp_path):
    category_tree(tmp_path)
    rows = ("5 5 5 70", "100 10 120 20", "-5 0 30 90", "30 30 10 10")
    rewrite(tmp_path, "Anno/list_bbox.txt", rows)
    data, _ = read_benchmark(tmp_path, "category")
    whole = [0, 0, 60, 80]
    assert data.boxes.tolist() == [whole, whole, [-5, 0, 30, 90], whole]
    assert data.report.kept[Reason.BOX_REPLACED] == 3
    assert data.report.kept[Reason.BOX_PARTLY_OUTSIDE] == 1


def test_an_unlisted_category_is_unknown_and_one_of_another_type_is_counted(tmp_path):
    category_tree(tmp_path)
    rewrite(tmp_path, "Anno/list_category_img.txt", ("0", "4", "1", "3"))
    data, _ = read_benchmark(tmp_path, "category")
    assert data.category.tolist() == [-1, -1, 0, 2]
    assert data.report.kept[Reason.CATEGORY_UNLISTED] == 2
    assert data.report.kept[Reason.CLOTHES_TYPE] == 1  # a tee with eight landmarks


def test_images_without_a_row(tmp_path):
    category_tree(tmp_path)
    for name, row in (("category_img", "1"), ("attr_img", "1 1 1 1 1"), ("landmarks", LOWER)):
        write_list(tmp_path, f"Anno/list_{name}.txt", "header", [f"{IMAGES[0]} {row}"])
    data, _ = read_benchmark(tmp_path, "category")
    assert data.category.tolist() == [0, -1, -1, -1]
    assert data.attributes.tolist() == [[1] * 5, [0] * 5, [0] * 5, [0] * 5]
    assert (data.landmarks[1:, :, 2] == NO_SLOT).all()
    assert data.report.kept[Reason.LABEL_MISSING] == 9
    write_list(tmp_path, "Anno/list_bbox.txt", "header", [f"{i} 1 2 3 4" for i in IMAGES[1:]])
    data, _ = read_benchmark(tmp_path, "category")
    assert data.images.tolist() == IMAGES[1:]
    assert data.boxes.tolist() == [[1, 2, 3, 4]] * 3
    assert data.report.left_out == {Reason.NO_BOX: 1}


def test_landmarks_outside_and_of_unknown_visibility_count_as_cut_off(tmp_path):
    category_tree(tmp_path)
    rows = [LOWER.replace("0 45 70", "0 61 70"), LOWER.replace("0 11 12", "7 11 12"), LOWER, LOWER]
    rewrite(tmp_path, "Anno/list_landmarks.txt", rows)
    data, _ = read_benchmark(tmp_path, "category")
    assert data.landmarks[0, 4:, 2].tolist() == [0, 0, 0, 2]
    assert data.landmarks[1, 4:, 2].tolist() == [2, 0, 0, 0]
    assert data.report.kept[Reason.LANDMARK_OUTSIDE] == 1
    assert data.report.kept[Reason.LANDMARK_VISIBILITY] == 1


def test_unknown_splits_and_broken_images_are_left_out(tmp_path):
    category_tree(tmp_path)
    rewrite(tmp_path, "Eval/list_eval_partition.txt", ("train", "spare", "val", "test"))
    (tmp_path / "Img" / IMAGES[2]).write_bytes(b"no image")
    data, _ = read_benchmark(tmp_path, "category")
    assert data.images.tolist() == [IMAGES[0], IMAGES[3]]
    assert data.report.left_out == {Reason.SPLIT: 1, Reason.IMAGE_UNREADABLE: 1}
    assert data.report.images == 2


def test_the_coarse_folder_of_newer_releases(tmp_path):
    category_tree(tmp_path)
    (tmp_path / "Anno").rename(tmp_path / "Anno_coarse")
    (tmp_path / "Img").joinpath("img").rename(tmp_path / "img")
    data, folder = read_benchmark(tmp_path, "category")
    assert len(data) == 4
    assert folder.file(IMAGES[0]) == IMAGES[0]


def test_a_photo_of_two_items_keeps_the_first_and_domains_are_compared(tmp_path):
    consumer2shop_tree(tmp_path)
    folder = "img/TOPS/T_Shirt/id_{:08d}/{}.jpg"
    pairs = [
        (folder.format(1, "comsumer_01"), folder.format(1, "shop_01"), "id_00000001"),
        (folder.format(2, "comsumer_01"), folder.format(1, "shop_01"), "id_00000002"),
    ]
    rows = [f"{a} {b} {item} train" for a, b, item in pairs]
    write_list(tmp_path, "Eval/list_eval_partition.txt", "header", rows)
    file = tmp_path / "Anno/list_bbox_consumer2shop.txt"
    text = file.read_text()
    file.write_text(text.replace("00000001/shop_01.jpg 1 1", "00000001/shop_01.jpg 1 2"))
    data, _ = read_benchmark(tmp_path, "consumer2shop")
    assert data.items.tolist() == ["id_00000001", "id_00000001", "id_00000002"]
    assert data.domains.tolist() == ["consumer", "shop", "consumer"]
    assert data.report.kept[Reason.SEVERAL_ITEMS] == 1
    assert data.report.kept[Reason.DOMAIN] == 1


def test_high_resolution_of_one_shape_is_scaled(tmp_path):
    category_tree(tmp_path)
    for image in IMAGES:
        write_image(tmp_path, f"Img/img_highres/{image.removeprefix('img/')}", 181, 240)
    data, folder = read_benchmark(tmp_path, "category", high_resolution=True)
    assert folder.file(IMAGES[0]) == "Img/img_highres/Some_Thing/img_00000001.jpg"
    assert data.boxes[0].tolist() == pytest.approx([5 * 181 / 60, 30, 55 * 181 / 60, 225])
    assert data.landmarks[0, 0].tolist() == pytest.approx([11 * 181 / 60, 36, 0])
    assert data.sizes[0].tolist() == [181, 240]


def test_high_resolution_of_a_padded_square(tmp_path):
    inshop_tree(tmp_path, large=(80, 160))  # 80 x 80 is 160 x 160, of which x from 40 to 120
    data, _ = read_benchmark(tmp_path, "inshop", high_resolution=True)
    assert data.boxes[0].tolist() == [2 * 20 - 40, 20, 2 * 60 - 40, 140]
    assert data.landmarks[0, 4, :2].tolist() == [2 * 11 - 40, 24]


def test_high_resolution_of_another_shape_is_left_out(tmp_path):
    category_tree(tmp_path)
    for image in IMAGES:
        width = 120 if image == IMAGES[0] else 150
        write_image(tmp_path, f"Img/img_highres/{image.removeprefix('img/')}", width, 160)
    (tmp_path / "Img" / IMAGES[3]).unlink()
    data, _ = read_benchmark(tmp_path, "category", high_resolution=True)
    assert data.images.tolist() == [IMAGES[0]]
    assert data.report.left_out == {Reason.SHAPE: 2, Reason.LISTED_IMAGE_MISSING: 1}


def test_a_folder_that_high_resolution_calls_otherwise(tmp_path):
    consumer2shop_tree(tmp_path)
    for file in tmp_path.glob("*/*.txt"):
        file.write_text(file.read_text().replace("TOPS/T_Shirt", "CLOTHING/Summer_Suit"))
    (tmp_path / "Img/img/CLOTHING").mkdir()
    (tmp_path / "Img/img/TOPS/T_Shirt").rename(tmp_path / "Img/img/CLOTHING/Summer_Suit")
    for file in (tmp_path / "Img/img/CLOTHING/Summer_Suit").glob("*/*.jpg"):
        name = file.relative_to(tmp_path / "Img/img/CLOTHING/Summer_Suit")
        write_image(tmp_path, f"Img/img_highres/CLOTHING/Summer_Wear/{name}", 120, 160)
    data, folder = read_benchmark(tmp_path, "consumer2shop", high_resolution=True)
    assert len(data) == 7
    assert (tmp_path / folder.file(str(data.images[0]))).is_file()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("train_attr", "1 0 0 1 0\n1 0 0 1 0 1\n", "expected 6 numbers, got 5 in .*, line 1"),
        ("train_bbox", "1 2 3 x\n1 2 3 4\n", "invalid literal .*train_bbox.txt, line 1"),
        ("train_cate", "1\n", "expected 2 rows in .*train_cate.txt, as in .*train.txt; got 1"),
    ],
)
def test_broken_fine_lists_are_named(tmp_path, name, text, message):
    fine_tree(tmp_path)
    (tmp_path / f"Anno_fine/{name}.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_benchmark(tmp_path, "fine")


def test_clothes_types_by_their_slots():
    landmarks = np.zeros((3, 8, 3))
    landmarks[0, [4, 5], 2] = NO_SLOT
    landmarks[2, 3, 2] = NO_SLOT
    assert clothes_type(landmarks).tolist() == [1, 3, 0]


def test_types_of_attributes_without_names_are_numbered(tmp_path):
    consumer2shop_tree(tmp_path)
    (tmp_path / "Anno/list_attr_type.txt").unlink()
    data, _ = read_benchmark(tmp_path, "consumer2shop")
    assert data.attribute_type_names == ("type 1", "type 2")
