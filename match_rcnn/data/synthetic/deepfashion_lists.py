"""The official text lists of a generated benchmark of DeepFashion (2016), and its summary.

Some attribute labels are unknown, and some of the training split are wrong; the summary says how
many. The fine labels, beside those of categories and attributes, are all known and right.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from match_rcnn.data.problems import MissingDataError
from match_rcnn.data.sources.deepfashion import (
    ATTRIBUTE_TYPES,
    OCCLUDED,
    SLOTS,
    SLOTS_OF_TYPE,
    TRUNCATED,
    VISIBLE,
)
from match_rcnn.data.synthetic.deepfashion_plan import (
    SPLITS,
    Photo,
    Settings,
    article_of,
    plan,
    random_of,
    split_of,
)
from match_rcnn.data.synthetic.descriptions import describe
from match_rcnn.data.synthetic.wardrobe import ATTRIBUTES, FINE, KINDS, fine_labels
from match_rcnn.utils.files import atomic_write, write_json

#: Shares of attribute labels that are unknown (0), and, in the training split, wrong.
UNKNOWN, WRONG = 0.05, 0.02


def write_lists(root: Path, settings: Settings, drawn: list[dict[str, Any]]) -> dict[str, Any]:
    """The lists, the partition last; what the summary says."""
    photos = plan(settings)
    if len(drawn) != len(photos):
        raise MissingDataError(f"expected {len(photos)} drawn images in {root}, got {len(drawn)}")
    labels, noise = _labels(settings)
    _WRITERS[settings.benchmark](root, settings, drawn, labels)
    if settings.benchmark != "landmark":
        _write_descriptions(root, settings)
    marks = Counter(m[0] for record in drawn for m in record["landmarks"])
    poses = Counter(record["pose"] for record in drawn)
    return {
        "images": dict(Counter(photo.split for photo in photos)),
        "items": len({photo.item for photo in photos}),
        "shop photos": sum(photo.shop for photo in photos),
        "categories": dict(
            Counter(article_of(settings, photo.item).kind.name for photo in photos).most_common()
        ),
        "attributes": noise if settings.benchmark != "landmark" else None,
        "landmarks": {
            "visible": marks[VISIBLE],
            "occluded": marks[OCCLUDED],
            "cut off": marks[TRUNCATED],
        },
        "poses": {str(pose): count for pose, count in sorted(poses.items())},
    }


def _labels(settings: Settings) -> tuple[dict[int, Any], dict[str, Any]]:
    """By article, its attributes as they are listed, some unknown or wrong; and how many are."""
    labels, unknown, wrong, listed, positives = {}, 0, 0, 0, 0
    for item in sorted({photo.item for photo in plan(settings)}):
        split, _ = split_of(settings, item)
        own = article_of(settings, item).attributes
        rng = random_of(settings, 6, item)
        flipped = (rng.random(len(own)) < WRONG) & (split == 0)
        hidden = rng.random(len(own)) < UNKNOWN
        own[flipped] *= -1
        own[hidden] = 0
        labels[item] = own
        listed += len(own)
        positives += int((own == 1).sum())
        unknown, wrong = unknown + int(hidden.sum()), wrong + int((flipped & ~hidden).sum())
    return labels, {
        "names": len(ATTRIBUTES),
        "of each type": {
            name: sum(a.type == i for a in ATTRIBUTES) for i, name in enumerate(ATTRIBUTE_TYPES, 1)
        },
        "positives an article": round(positives / max(1, len(labels)), 2),
        "share unknown": round(unknown / max(1, listed), 4),
        "share wrong (all in the training split)": round(wrong / max(1, listed), 4),
    }


def _list(root: Path, name: str, header: str | None, rows: Sequence[str]) -> None:
    lines = [str(len(rows)), *([header] if header else []), *rows]
    with atomic_write(root / name) as file:
        file.write(("\n".join(lines) + "\n").encode())


def _marks(record: dict[str, Any]) -> str:
    return " ".join(f"{v} {x:03d} {y:03d}" for v, x, y in record["landmarks"])


def _numbers(box: Sequence[int]) -> str:
    return " ".join(f"{value:03d}" for value in box)


def _type_of(settings: Settings, photo: Photo) -> int:
    return article_of(settings, photo.item).kind.type


def _mark_header(with_variation: bool) -> str:
    names = " ".join(
        f"landmark_visibility_{i} landmark_location_x_{i} landmark_location_y_{i}"
        for i in range(1, 9)
    )
    return f"image_name clothes_type {'variation_type ' if with_variation else ''}{names}"


def _write_category(
    root: Path, settings: Settings, drawn: list[dict[str, Any]], labels: dict[int, Any]
) -> None:
    photos = plan(settings)
    kinds = {kind.name: i for i, kind in enumerate(KINDS, 1)}
    numbers = [kinds[article_of(settings, photo.item).kind.name] for photo in photos]
    rows = [f"{kind.name:<20} {kind.type}" for kind in KINDS]
    _list(root, "Anno/list_category_cloth.txt", "category_name  category_type", rows)
    rows = [f"{p.name:<70} {n}" for p, n in zip(photos, numbers, strict=True)]
    _list(root, "Anno/list_category_img.txt", "image_name  category_label", rows)
    rows = [f"{a.name:<30} {a.type}" for a in ATTRIBUTES]
    _list(root, "Anno/list_attr_cloth.txt", "attribute_name  attribute_type", rows)
    texts = {item: " ".join(f"{v:2d}" for v in own) for item, own in labels.items()}
    rows = [f"{p.name:<70} {texts[p.item]}" for p in photos]
    _list(root, "Anno/list_attr_img.txt", "image_name  attribute_labels", rows)
    _write_boxes_and_marks(root, settings, drawn, with_variation=False)
    _write_fine(root, settings, drawn)


def _write_fine(root: Path, settings: Settings, drawn: list[dict[str, Any]]) -> None:
    """``Anno_fine``: of each split the images, and files without names beside them."""
    rows = [f"{name:<30} {type_}" for type_, group in enumerate(FINE, 1) for name in group]
    _list(root, "Anno_fine/list_attr_cloth.txt", "attribute_name  attribute_type", rows)
    kinds = {kind.name: i for i, kind in enumerate(KINDS, 1)}
    pairs = list(zip(plan(settings), drawn, strict=True))
    for split in SPLITS:
        own = [(photo, record) for photo, record in pairs if photo.split == split]
        articles = [article_of(settings, photo.item) for photo, _ in own]
        tables = {
            "": [photo.name for photo, _ in own],
            "_bbox": [_numbers(record["box"]) for _, record in own],
            "_cate": [str(kinds[article.kind.name]) for article in articles],
            "_attr": [" ".join(map(str, fine_labels(article))) for article in articles],
            "_landmarks": [
                _points(record, article.kind.type)
                for (_, record), article in zip(own, articles, strict=True)
            ],
        }
        for suffix, lines in tables.items():
            with atomic_write(root / f"Anno_fine/{split}{suffix}.txt") as file:
                file.write("".join(f"{line}\n" for line in lines).encode())


def _points(record: dict[str, Any], kind: int) -> str:
    """x and y of all slots; 0 0 of what cannot be seen."""
    points = [(0, 0)] * len(SLOTS)
    for slot, (seen, x, y) in zip(SLOTS_OF_TYPE[kind], record["landmarks"], strict=True):
        points[slot] = (x, y) if seen == VISIBLE else (0, 0)
    return " ".join(f"{x} {y}" for x, y in points)


def _write_landmark(
    root: Path, settings: Settings, drawn: list[dict[str, Any]], labels: dict[int, Any]
) -> None:
    _write_boxes_and_marks(root, settings, drawn, with_variation=True)


def _write_boxes_and_marks(
    root: Path, settings: Settings, drawn: list[dict[str, Any]], with_variation: bool
) -> None:
    """And the partition, of the benchmarks whose images stand alone."""
    pairs = list(zip(plan(settings), drawn, strict=True))
    rows = [f"{p.name:<70} {_numbers(r['box'])}" for p, r in pairs]
    _list(root, "Anno/list_bbox.txt", "image_name  x_1  y_1  x_2  y_2", rows)
    rows = []
    for photo, record in pairs:
        variation = f"{record['variation']} " if with_variation else ""
        kind = _type_of(settings, photo)
        rows.append(f"{photo.name:<70} {kind} {variation}{_marks(record)}")
    _list(root, "Anno/list_landmarks.txt", _mark_header(with_variation), rows)
    rows = [f"{photo.name:<70} {photo.split}" for photo, _ in pairs]
    _list(root, "Eval/list_eval_partition.txt", "image_name  evaluation_status", rows)


def _write_items(
    root: Path,
    settings: Settings,
    drawn: list[dict[str, Any]],
    labels: dict[int, Any],
    what: str,
    second: Callable[[Photo, dict[str, Any]], int],
) -> None:
    """Lists of in-shop and consumer-to-shop that are alike; ``second`` is the boxes' column."""
    pairs = list(zip(plan(settings), drawn, strict=True))
    boxes, marks = [], []
    for photo, record in pairs:
        kind = _type_of(settings, photo)
        numbers = _numbers(record["box"])
        boxes.append(f"{photo.name:<70} {kind} {second(photo, record)} {numbers}")
        marks.append(f"{photo.name:<70} {kind} {record['variation']} {_marks(record)}")
    column = "pose_type" if what == "inshop" else "source_type"
    header = f"image_name clothes_type {column} x_1 y_1 x_2 y_2"
    _list(root, f"Anno/list_bbox_{what}.txt", header, boxes)
    _list(root, f"Anno/list_landmarks_{what}.txt", _mark_header(True), marks)
    ids = [_id(item) for item in labels]
    _list(root, f"Anno/list_item_{what}.txt", None, ids)
    rows = [f"{_id(item)} {' '.join(f'{v:2d}' for v in own)}" for item, own in labels.items()]
    _list(root, "Anno/list_attr_items.txt", "item_id  attribute_labels", rows)


def _id(item: int) -> str:
    return f"id_{item + 1:08d}"


def _write_inshop(
    root: Path, settings: Settings, drawn: list[dict[str, Any]], labels: dict[int, Any]
) -> None:
    _write_items(root, settings, drawn, labels, "inshop", lambda _, record: int(record["pose"]))
    _list(root, "Anno/list_attr_cloth.txt", "attribute_name", [a.name for a in ATTRIBUTES])
    rows = [f"{p.name:<70} {_id(p.item)} {p.split}" for p in plan(settings)]
    _list(root, "Eval/list_eval_partition.txt", "image_name item_id evaluation_status", rows)


def _write_consumer2shop(
    root: Path, settings: Settings, drawn: list[dict[str, Any]], labels: dict[int, Any]
) -> None:
    _write_items(
        root, settings, drawn, labels, "consumer2shop", lambda photo, _: 1 if photo.shop else 2
    )
    # Of the two languages of the official list, the first is not ours: the name stands twice.
    rows = [f"{a.name.replace(' ', '_')} {a.name} {a.type}" for a in ATTRIBUTES]
    header = "attribute_name_1 attribute_name_2 attribute_type"
    _list(root, "Anno/list_attr_cloth.txt", header, rows)
    rows = [f"{name} {name}" for name in ATTRIBUTE_TYPES]
    _list(root, "Anno/list_attr_type.txt", "attribute_type_1 attribute_type_2", rows)
    photos = plan(settings)
    shops: dict[int, list[Photo]] = {}
    for photo in photos:
        if photo.shop:
            shops.setdefault(photo.item, []).append(photo)
    rows = [
        f"{photo.name} {shop.name} {_id(photo.item)} {photo.split}"
        for photo in photos
        if not photo.shop
        for shop in shops[photo.item]
    ]
    header = "image_pair_name_1 image_pair_name_2 item_id evaluation_status"
    _list(root, "Eval/list_eval_partition.txt", header, rows)


_WRITERS = {
    "category": _write_category,
    "inshop": _write_inshop,
    "consumer2shop": _write_consumer2shop,
    "landmark": _write_landmark,
}


def _write_descriptions(root: Path, settings: Settings) -> None:
    """Words for each article, in the form of in-shop's list."""
    entries = []
    for item in sorted({photo.item for photo in plan(settings)}):
        article = article_of(settings, item)
        text = describe(random_of(settings, 7, item), article)
        entries.append({"item": _id(item), "color": article.colour, "description": text})
    name = f"list_description_{settings.benchmark}.json"
    write_json(root / "Anno" / name, entries)
