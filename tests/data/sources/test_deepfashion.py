"""DeepFashion's list files, in the forms that the README files and other readers show."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from match_rcnn.data.sources import deepfashion
from match_rcnn.data.sources.deepfashion import (
    NO_SLOT,
    SLOTS,
    find_file,
    read_attributes,
    read_boxes,
    read_categories,
    read_landmarks,
    read_names,
    read_pairs,
    read_partition,
    read_rows,
    rows_of,
)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "Anno").mkdir()
    (tmp_path / "Eval").mkdir()
    return tmp_path


def write(root, name, header, *rows, folder="Anno", count=None):
    file = root / folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [str(len(rows) if count is None else count), *([header] if header else []), *rows]
    file.write_text("\n".join(lines) + "\n")
    return file


def test_names_with_blanks_and_types(root):
    write(root, "list_attr_cloth.txt", "attribute_name  attribute_type", "a-line  3", "v neck   4")
    names = read_names(root, "list_attr_cloth.txt")
    assert names.names == ["a-line", "v neck"]
    assert names.types.tolist() == [3, 4]
    assert len(names) == 2


def test_categories_start_at_1_and_pad(root):
    rows = ("img/a/img_01.jpg     3", "img/b/img_02.jpg    50")
    write(root, "list_category_img.txt", "image_name  category_label", *rows)
    images, labels = read_categories(root)
    assert images.tolist() == ["img/a/img_01.jpg", "img/b/img_02.jpg"]
    assert labels.tolist() == [3, 50]


def test_boxes_with_and_without_columns_between(root):
    write(root, "list_bbox.txt", "image_name x_1 y_1 x_2 y_2", "img/a.jpg 072 079 232 273")
    assert read_boxes(root)[1].tolist() == [[72, 79, 232, 273]]
    header = "image_name clothes_type pose_type x_1 y_1 x_2 y_2"
    write(root, "list_bbox_inshop.txt", header, "img/a.jpg 1 3 001 002 003 004")
    images, boxes = read_boxes(root, "list_bbox_inshop.txt")
    assert (images.tolist(), boxes.tolist()) == (["img/a.jpg"], [[1, 2, 3, 4]])


def test_landmarks_of_each_type_with_and_without_variation(root):
    rows = (
        "u.jpg 1 " + " ".join(f"0 {i}1 {i}2" for i in range(1, 7)),
        "l.jpg 2 4 " + " ".join(f"1 {i}1 {i}2" for i in range(1, 5)),  # with a variation
        "f.jpg 3 " + " ".join(f"2 {i}1 {i}2" for i in range(1, 9)),
    )
    write(root, "list_landmarks.txt", "image_name clothes_type ...", *rows)
    images, landmarks = read_landmarks(root)
    assert images.tolist() == ["u.jpg", "l.jpg", "f.jpg"]
    x, visibility = landmarks[..., 0], landmarks[..., 2]
    slots = dict(zip(SLOTS, x[0].tolist(), strict=True))
    assert slots == {
        "left_collar": 11,
        "right_collar": 21,
        "left_sleeve": 31,
        "right_sleeve": 41,
        "left_waistline": 0,
        "right_waistline": 0,
        "left_hem": 51,
        "right_hem": 61,
    }
    assert visibility[0].tolist() == [0, 0, 0, 0, NO_SLOT, NO_SLOT, 0, 0]
    assert x[1].tolist() == [0, 0, 0, 0, 11, 21, 31, 41]
    assert visibility[1].tolist() == [NO_SLOT] * 4 + [1] * 4
    assert landmarks[2, :, 1].tolist() == [12, 22, 32, 42, 52, 62, 72, 82]
    assert set(visibility[2]) == {2}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("x.jpg 4 0 1 2", "expected 1, 2 or 3 as the type of the clothes, got 4"),
        ("x.jpg 2 0 1 2", r"expected 4 landmarks for clothes of type 2, got 3 numbers"),
        ("x.jpg", "got 0"),
        ("x.jpg 2 " + "0 a 2 " * 4, "could not convert"),
    ],
)
def test_a_broken_landmark_row_is_named(root, row, message):
    write(root, "list_landmarks.txt", "header", "fine.jpg 2 " + "0 1 2 " * 4, row)
    with pytest.raises(ValueError, match=rf"{message}.* in .*list_landmarks.txt, line 4"):
        read_landmarks(root)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(20, 200))
def test_attributes_are_what_a_plain_reader_reads(tmp_path_factory, seed, count, block):
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, 2, (rng.integers(1, 12), count))
    blanks = rng.integers(1, 4, labels.shape)
    rows = [
        f"img/{i}0_1.jpg " + "".join(" " * b + str(v) for b, v in zip(blank, values, strict=True))
        for i, (blank, values) in enumerate(zip(blanks, labels, strict=True))
    ]
    root = tmp_path_factory.mktemp("attributes")
    write(root, "list_attr_img.txt", "image_name  attribute_labels", *rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deepfashion, "_BYTES_AT_A_TIME", block)
        images, read = read_attributes(root, count)
    assert (read == labels).all()
    assert images.tolist() == [row.split()[0] for row in rows]


@pytest.mark.parametrize("row", ["b.jpg 1 -1", "b.jpg 1 -1 0 1", "b.jpg 1 2 0", "b.jpg", "b 10 1"])
def test_a_broken_attribute_row_is_named(root, row):
    write(root, "list_attr_img.txt", "header", "a.jpg 1 0 -1", row, "c.jpg 1 0 -1")
    with pytest.raises(ValueError, match=r"3 labels of -1, 0 or 1 in .*list_attr_img.txt, line 4"):
        read_attributes(root, 3)


def test_attributes_cut_off(root):
    write(root, "list_attr_img.txt", "header", "a.jpg 1", count=2)
    with pytest.raises(ValueError, match="says 2 rows and has 1"):
        read_attributes(root, 1)
    write(root, "list_attr_img.txt", "header", "a.jpg 1", "b.jpg 1", count=1)
    with pytest.raises(ValueError, match="says 1 rows and has more"):
        read_attributes(root, 1)


def test_partitions(root):
    rows = ("img/a.jpg train", "img/b.jpg val", "img/c.jpg val")
    write(root, "list_eval_partition.txt", "image_name evaluation_status", *rows, folder="Eval")
    partition = read_partition(root)
    assert partition.images[partition.of("val")].tolist() == ["img/b.jpg", "img/c.jpg"]
    with pytest.raises(ValueError, match="no image of the split 'test'; the partition has train"):
        partition.of("test")


def test_the_in_shop_partition_names_items(root):
    row = "img/MEN/Denim/id_00000080/01_1_front.jpg id_00000080 query"
    header = "image_name item_id evaluation_status"
    write(root, "list_eval_partition.txt", header, row, folder="Eval")
    partition = read_partition(root, with_items=True)
    assert partition.items.tolist() == ["id_00000080"]
    assert partition.split.tolist() == ["query"]


def test_pairs(root):
    row = "img/x/comsumer_01.jpg img/x/shop_01.jpg id_00000218 val"
    header = "image_pair_name_1 image_pair_name_2 item_id evaluation_status"
    write(root, "list_eval_partition.txt", header, row, folder="Eval")
    pairs = read_pairs(root)
    assert pairs.consumer.tolist() == ["img/x/comsumer_01.jpg"]
    assert pairs.shop.tolist() == ["img/x/shop_01.jpg"]
    assert (pairs.items.tolist(), pairs.split.tolist()) == (["id_00000218"], ["val"])


def test_no_pairs_at_all(root):
    write(root, "list_eval_partition.txt", "header", folder="Eval")
    with pytest.raises(ValueError, match=r"list_eval_partition.txt has no rows"):
        read_pairs(root)


def test_files_are_found_in_the_folders_of_newer_releases(root):
    file = write(root, "attributes/list_attr_cloth.txt", "header", "a 1")
    assert find_file(root, "list_attr_cloth.txt") == file
    near = write(root, "list_attr_cloth.txt", "header", "a 1")
    assert find_file(root, "list_attr_cloth.txt") == near
    with pytest.raises(FileNotFoundError, match=r"no list_bbox.txt below .*Anno"):
        find_file(root, "list_bbox.txt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "an empty file"),
        ("image_name\nx", "'image_name'"),
        ("3\nheader\na 1\nb 1\n", "says 3 rows and has 2; it may be cut off"),
        ("1\nheader\na 1\nb 1\n", "says 1 rows and has 2"),
    ],
)
def test_what_is_no_list_is_said(root, text, message):
    file = root / "Anno" / "list.txt"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_rows(file)


def test_a_list_of_ids_has_no_header(root):
    file = write(root, "list_item_inshop.txt", None, "id_1", "id_2")
    assert read_rows(file, header=False).lines == ["id_1", "id_2"]


def test_what_is_no_text_and_who_stands_twice(root):
    file = root / "Anno" / "list_bbox.txt"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="no text in UTF-8"):
        read_rows(file)
    write(root, "list_bbox.txt", "header", "a.jpg 0 0 1 1", "a.jpg 0 0 1 1")
    with pytest.raises(ValueError, match=r"1 images stand more than once in .*, such as a.jpg"):
        read_boxes(root)
    write(root, "list_bbox.txt", "header", "a.jpg 0 0 1 1", "b.jpg 0 0 x 1")
    with pytest.raises(ValueError, match="four numbers at the end"):
        read_boxes(root)
    write(root, "list_category_img.txt", "header", "a.jpg one")
    with pytest.raises(ValueError, match="line 3"):
        read_categories(root)


def test_rows_of():
    images = np.array(["c", "a", "b"])
    assert rows_of(images, np.array(["b", "c", "b"]), "x.npz").tolist() == [2, 0, 2]
    with pytest.raises(ValueError, match=r"2 of 3 images are not in x.npz, such as aa"):
        rows_of(images, np.array(["a", "aa", "z"]), "x.npz")
    with pytest.raises(ValueError, match="1 of 1 images"):
        rows_of(np.array([], dtype=str), np.array(["a"]), "x.npz")
