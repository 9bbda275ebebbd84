"""Small data sets in the official forms of DeepFashion (2016), written by hand."""

from pathlib import Path

import cv2
import numpy as np


def write_list(root: Path, name: str, header: str | None, rows: list[str]) -> None:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [str(len(rows)), *([header] if header else []), *rows]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_image(root: Path, name: str, width: int = 60, height: int = 80) -> None:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(file), np.full((height, width, 3), 128, np.uint8))


UPPER = "1 0 11 12 0 21 22 1 31 32 0 41 42 0 11 72 2 0 0"
LOWER = "2 0 11 12 0 21 22 0 15 70 0 45 70"
FULL = "3 0 11 12 0 21 22 0 31 32 0 41 42 0 15 45 0 45 45 0 11 72 0 51 72"


def category_tree(root: Path) -> Path:
    """Four images: one of each type of clothes, and a second dress in the test split."""
    images = [f"img/Some_Thing/img_{i:08d}.jpg" for i in range(1, 5)]
    for image in images:
        write_image(root, f"Img/{image}")
    write_list(
        root,
        "Anno/list_category_cloth.txt",
        "category_name  category_type",
        ["Tee 1", "Jeans 2", "Dress 3"],
    )
    write_list(
        root,
        "Anno/list_category_img.txt",
        "image_name  category_label",
        [f"{image}   {label}" for image, label in zip(images, (1, 2, 3, 3), strict=True)],
    )
    write_list(
        root,
        "Anno/list_attr_cloth.txt",
        "attribute_name  attribute_type",
        ["striped 1", "soft denim  2", "maxi 3", "v neck 4", "boho 5"],
    )
    rows = ("1 -1 -1 1 0", "-1 1 -1 -1 0", "0 -1 1 -1 1", "-1 -1 -1 -1 -1")
    write_list(
        root,
        "Anno/list_attr_img.txt",
        "image_name  attribute_labels",
        [f"{image} {row}" for image, row in zip(images, rows, strict=True)],
    )
    write_list(
        root,
        "Anno/list_bbox.txt",
        "image_name  x_1  y_1  x_2  y_2",
        [f"{image} 005 010 055 075" for image in images],
    )
    landmarks = (UPPER, LOWER, FULL, FULL)
    write_list(
        root,
        "Anno/list_landmarks.txt",
        "image_name clothes_type landmarks",
        [f"{image} {row}" for image, row in zip(images, landmarks, strict=True)],
    )
    splits = ("train", "train", "val", "test")
    write_list(
        root,
        "Eval/list_eval_partition.txt",
        "image_name  evaluation_status",
        [f"{image} {split}" for image, split in zip(images, splits, strict=True)],
    )
    return root


def fine_tree(root: Path) -> Path:
    """Two images of training, one of each other split; six attributes, one a group."""
    names = ("floral 1", "sleeveless 2", "maxi length 3", "v neckline 4", "denim 5", "tight 6")
    write_list(root, "Anno_fine/list_attr_cloth.txt", "attribute_name  attribute_type", [*names])
    header = "category_name  category_type"
    write_list(root, "Anno_fine/list_category_cloth.txt", header, ["Tee 1", "Dress 3"])
    number = 0
    for split, count in (("train", 2), ("val", 1), ("test", 1)):
        images = [f"img/Thing/img_{number + i:08d}.jpg" for i in range(count)]
        number += count
        for image in images:
            write_image(root, f"Img/{image}")
        tables = {
            "": images,
            "_bbox": ["5 10 55 75"] * count,
            "_cate": ["2"] * count,
            "_attr": ["1 0 0 1 0 1"] * count,
            "_landmarks": ["11 12 21 22 0 0 0 0 15 45 45 45 11 72 51 72"] * count,
        }
        for suffix, rows in tables.items():
            (root / f"Anno_fine/{split}{suffix}.txt").write_text("\n".join(rows) + "\n")
    return root


def inshop_tree(root: Path, large: tuple[int, int] = (75, 110)) -> Path:
    """Two items, the second in query and gallery; images of both resolutions."""
    rows = [
        ("img/MEN/Denim/id_00000001/01_1_front.jpg", "id_00000001", "train", LOWER),
        ("img/WOMEN/Dresses/id_00000002/02_1_front.jpg", "id_00000002", "query", FULL),
        ("img/WOMEN/Dresses/id_00000002/02_2_side.jpg", "id_00000002", "gallery", FULL),
    ]
    for image, *_ in rows:
        write_image(root, f"Img/{image}", 80, 80)
        write_image(root, f"Img/img_highres/{image.removeprefix('img/')}", *large)
    boxes = [f"{image} {marks[0]} 1 020 010 060 070" for image, _, _, marks in rows]
    header = "image_name clothes_type pose_type x_1 y_1 x_2 y_2"
    write_list(root, "Anno/list_bbox_inshop.txt", header, boxes)
    marks = [f"{image} {marks[0]} 1 {marks[2:]}" for image, _, _, marks in rows]
    write_list(root, "Anno/list_landmarks_inshop.txt", "image_name clothes_type ...", marks)
    names = ["acid wash", "3/4"]
    write_list(root, "Anno/attributes/list_attr_cloth.txt", "attribute_name", names)
    labels = ["id_00000002 -1 1", "id_00000001 1 0"]
    write_list(root, "Anno/attributes/list_attr_items.txt", "item_id attribute_labels", labels)
    write_list(root, "Anno/list_item_inshop.txt", None, ["id_00000001", "id_00000002"])
    partition = [f"{image} {item} {split}" for image, item, split, _ in rows]
    header = "image_name item_id evaluation_status"
    write_list(root, "Eval/list_eval_partition.txt", header, partition)
    return root


def consumer2shop_tree(root: Path) -> Path:
    """An item a split; the test item has two consumer photos and one of the shop."""
    rows = [
        (1, "comsumer_01", "shop_01", "train"),
        (2, "comsumer_01", "shop_01", "val"),
        (3, "comsumer_01", "shop_01", "test"),
        (3, "comsumer_02", "shop_01", "test"),
    ]
    folder = "img/TOPS/T_Shirt/id_{:08d}/{}.jpg"
    pairs = [
        (folder.format(i, one), folder.format(i, two), f"id_{i:08d}", split)
        for i, one, two, split in rows
    ]
    images = dict.fromkeys(image for pair in pairs for image in pair[:2])
    for image in images:
        write_image(root, f"Img/{image}")
    sources = {image: 2 if "comsumer" in image else 1 for image in images}
    header = "image_name clothes_type source_type x_1 y_1 x_2 y_2"
    boxes = [f"{image} 1 {source} 5 10 55 75" for image, source in sources.items()]
    write_list(root, "Anno/list_bbox_consumer2shop.txt", header, boxes)
    marks = [f"{image} 1 3 {UPPER[2:]}" for image in images]
    write_list(root, "Anno/list_landmarks_consumer2shop.txt", "image_name clothes_type ...", marks)
    header = "attribute_name_cn attribute_name_en attribute_type"
    write_list(root, "Anno/list_attr_cloth.txt", header, ["圆领 round neck 1", "雪纺 chiffon 2"])
    header = "type_cn type_en"
    write_list(root, "Anno/list_attr_type.txt", header, ["领型 collar shape", "面料 fabric"])
    labels = [f"id_{i:08d} 1 -1" for i in (1, 2, 3)]
    write_list(root, "Anno/list_attr_items.txt", "item_id attribute_labels", labels)
    header = "image_pair_name_1 image_pair_name_2 item_id evaluation_status"
    write_list(root, "Eval/list_eval_partition.txt", header, [" ".join(pair) for pair in pairs])
    return root


def landmark_tree(root: Path) -> Path:
    """An image a split, with a variation behind the type of the clothes."""
    images = [f"img/img_{i:08d}.jpg" for i in range(1, 4)]
    for image in images:
        write_image(root, f"Img/{image}")
    marks = [f"{m[0]} 5 {m[2:]}" for m in (UPPER, LOWER, FULL)]
    rows = [f"{image} {row}" for image, row in zip(images, marks, strict=True)]
    write_list(root, "Anno/list_landmarks.txt", "image_name clothes_type variation_type ...", rows)
    boxes = [f"{image} 005 010 055 075" for image in images]
    write_list(root, "Anno/list_bbox.txt", "image_name x_1 y_1 x_2 y_2", boxes)
    rows = [f"{i} {split}" for i, split in zip(images, ("train", "val", "test"), strict=True)]
    write_list(root, "Eval/list_eval_partition.txt", "image_name evaluation_status", rows)
    return root


TREES = {
    "category": category_tree,
    "fine": fine_tree,
    "inshop": inshop_tree,
    "consumer2shop": consumer2shop_tree,
    "landmark": landmark_tree,
}
