"""Generated data in the on-disk forms of DeepFashion's (2016) benchmarks.

An image is of one article (:mod:`match_rcnn.data.synthetic.wardrobe`); whatever else somebody wears
there is not labelled. Articles of different splits are different ones.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from tqdm import tqdm

from match_rcnn.data.problems import MissingDataError
from match_rcnn.data.sources.deepfashion import (
    ATTRIBUTE_TYPES,
    OCCLUDED,
    SLOTS_OF_TYPE,
    TRUNCATED,
    VISIBLE,
)
from match_rcnn.data.synthetic.annotate import parts_of, shows, viewpoint
from match_rcnn.data.synthetic.body import WAIST_Y
from match_rcnn.data.synthetic.conditions import SHOP, USER, Conditions
from match_rcnn.data.synthetic.curves import FloatArray
from match_rcnn.data.synthetic.cuts import LOWERS
from match_rcnn.data.synthetic.dataset import LARGEST, SMALLEST, claim, in_processes, write_photo
from match_rcnn.data.synthetic.figure import Figure
from match_rcnn.data.synthetic.outfits import Outfit, complete
from match_rcnn.data.synthetic.photo import expose
from match_rcnn.data.synthetic.products import slot
from match_rcnn.data.synthetic.rigs import RIGS
from match_rcnn.data.synthetic.scene import Stage, draw_outfit
from match_rcnn.data.synthetic.shapes import Shape
from match_rcnn.data.synthetic.tailor import Garment
from match_rcnn.data.synthetic.wardrobe import (
    ATTRIBUTES,
    KINDS,
    WORN,
    Article,
    describe,
    random_article,
    recoloured,
    sister,
)
from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.utils.files import atomic_write, read_json, write_json

#: Changes whenever the same seed would give other bytes.
VERSION = 1
SPLITS = ("train", "val", "test")
#: Images of an article.
IMAGES_OF = {"category": 2, "inshop": 6, "consumer2shop": 5, "landmark": 2}
#: Articles of a family, which differ in details: what makes a search hard.
_FAMILY = {"category": 1, "inshop": 3, "consumer2shop": 3, "landmark": 1}
#: Shares of attribute labels that are unknown (0), and, in the training split, wrong.
UNKNOWN, WRONG = 0.05, 0.02
_CHUNK = 16
_TRIES = 12
#: What of an article must show, and of its silhouette, for a photo to be of it.
_LEAST_AREA, _LEAST_SHARE = 0.02, 0.4
#: In-shop's views in turn: the file's ending, and shares of flat, frontal, turned photos.
_VIEWS = (
    ("1_front", (0.0, 1.0, 0.0)),
    ("7_additional", (0.0, 0.0, 1.0)),
    ("4_full", (0.0, 1.0, 0.0)),
    ("6_flat", (1.0, 0.0, 0.0)),
)
#: The outer end of the left hem of shorts, trousers and skirts among DeepFashion2's landmarks.
_LOWER_HEMS = {7: 4, 8: 5, 9: 4}
#: In-shop's types of pose.
_FRONT, _SIDE, _BACK, _ZOOM_OUT, _ZOOM_IN, _ALONE = 1, 2, 3, 4, 5, 6


@dataclass(frozen=True)
class Settings:
    """What decides the data: numbers of images by split, and the longer side in pixels."""

    benchmark: str
    train: int
    val: int
    test: int
    seed: int
    size: int


@dataclass(frozen=True)
class Photo:
    """One image to draw.

    Attributes:
        name: as in the lists.
        split: as in the partition.
        item: number of its article, over all splits.
        how: the conditions it is taken under.
        shop: whether it is a shop's.
        recoloured: whether it shows the article's second colour.
    """

    name: str
    split: str
    item: int
    how: Conditions
    shop: bool
    recoloured: bool = False


def generate(
    output: str | Path,
    benchmark: str,
    train: int,
    val: int,
    test: int,
    seed: int = 0,
    size: int = 192,
    workers: int = 1,
    progress: bool = True,
) -> dict[str, Any]:
    """Write a generated benchmark and its ``summary.json``.

    The same arguments give the same bytes, whatever the number of workers. A run that was
    interrupted goes on where it was; the lists appear when all images are there.

    Args:
        output: the benchmark's folder. One that holds data of other settings is refused.
        benchmark: ``category``, ``inshop``, ``consumer2shop`` or ``landmark``.
        train, val, test: numbers of images; in-shop has no ``val``, and ``test`` counts its query
            and gallery images together.
        size: the longer side of the images, pixels.
        workers: processes; above 1 the calling script needs its ``if __name__ == "__main__"``.

    Raises:
        ValueError: an argument out of its range, or ``output`` holds other data.
    """
    settings = Settings(benchmark, train, val, test, seed, size)
    _check(settings, workers)
    root = Path(output)
    stated = {"generator": "match_rcnn synthetic DeepFashion", "version": VERSION}
    stated |= asdict(settings)
    claim(root, stated, [name for name in ("Anno", "Eval", "Img") if (root / name).exists()])
    if (root / "summary.json").is_file():
        return dict(read_json(root / "summary.json"))
    _draw(root, settings, workers, progress)
    drawn = [record for job in _jobs(root, settings) for record in read_json(job.record)]
    summary = {**stated, **_write_lists(root, settings, drawn)}
    write_json(root / "summary.json", summary)
    for job in _jobs(root, settings):
        job.record.unlink()
    (root / ".drawn").rmdir()
    return summary


def _check(settings: Settings, workers: int) -> None:
    if settings.benchmark not in IMAGES_OF:
        raise ValueError(
            f"expected one of {', '.join(IMAGES_OF)} as the benchmark, got {settings.benchmark!r}"
        )
    least = 2 if settings.benchmark in ("inshop", "consumer2shop") else 1
    for split in SPLITS:
        count = getattr(settings, split)
        if count < 0 or 0 < count < least:
            raise ValueError(f"expected 0 images of {split}, or {least} and more, got {count}")
    if settings.benchmark == "inshop" and settings.val:
        raise ValueError(f"in-shop has no validation split: expected val 0, got {settings.val}")
    if not settings.train + settings.val + settings.test:
        raise ValueError("expected at least one image, got none in any split")
    if settings.seed < 0:
        raise ValueError(f"expected a seed >= 0, got {settings.seed}")
    if not SMALLEST <= settings.size <= LARGEST:
        raise ValueError(
            f"expected a size from {SMALLEST} to {LARGEST} pixels, got {settings.size}"
        )
    if workers < 1:
        raise ValueError(f"expected workers >= 1, got {workers}")


# What is photographed ----------------------------------------------------------------------------


@lru_cache(maxsize=4)
def plan(settings: Settings) -> tuple[Photo, ...]:
    """All photos, split by split."""
    photos: list[Photo] = []
    first = 0
    for split in SPLITS:
        count = getattr(settings, split)
        items = max(1, count // IMAGES_OF[settings.benchmark]) if count else 0
        takes: Counter[int] = Counter()
        for i in range(count):
            item = first + i * items // count
            photos.append(_photo(settings, split, item, takes[item], len(photos)))
            takes[item] += 1
        first += items
    return tuple(photos)


def _photo(settings: Settings, split: str, item: int, take: int, index: int) -> Photo:
    article = article_of(settings, item)
    kind = article.kind.name
    shop = take % 2 == 0
    how = SHOP if shop else USER
    if settings.benchmark == "inshop":
        view, viewpoints = _VIEWS[take % len(_VIEWS)]
        colour = take // len(_VIEWS)
        name = f"img/WOMEN/{kind}/id_{item + 1:08d}/{colour + 1:02d}_{view}.jpg"
        part = split if split == "train" else ("query", "gallery")[take % 2]
        far = 0.6 if view == "4_full" else 0.0
        how = replace(SHOP, viewpoints=viewpoints, far=far, whole=far)
        return Photo(name, part, item, how, True, colour % 2 == 1)
    if settings.benchmark == "consumer2shop":
        group = {1: "TOPS", 2: "TROUSERS", 3: "DRESSES"}[article.kind.type]
        who = f"shop_{take // 2 + 1:02d}" if shop else f"comsumer_{take // 2 + 1:02d}"
        return Photo(f"img/{group}/{kind}/id_{item + 1:08d}/{who}.jpg", split, item, how, shop)
    folder = "" if settings.benchmark == "landmark" else f"{_title(article)}_{item + 1:05d}/"
    return Photo(f"img/{folder}img_{index + 1:08d}.jpg", split, item, how, shop)


def _title(article: Article) -> str:
    """What a folder of the category benchmark is called: some words of the article."""
    words = " ".join([*article.names[:2], article.kind.name])
    return "_".join(word.capitalize() for word in words.split())


@lru_cache(maxsize=4096)
def article_of(settings: Settings, item: int) -> Article:
    """Article ``item``; those of a family are sisters, the first of which all others vary."""
    split, number = _split_of(settings, item)
    family, place = divmod(number, _FAMILY[settings.benchmark])
    # Every kind as often as the others, in an order of its own for each round.
    turn, own = divmod(family, len(WORN))
    kind = KINDS[WORN[int(_random(settings, 0, split, turn).permutation(len(WORN))[own])]]
    article = random_article(_random(settings, 1, split, family), kind)
    if place == 0:
        return article
    return sister(_random(settings, 2, split, number), article)


def _split_of(settings: Settings, item: int) -> tuple[int, int]:
    """The number of the split of an article, and its own number there."""
    for index, split in enumerate(SPLITS):
        count = getattr(settings, split)
        items = max(1, count // IMAGES_OF[settings.benchmark]) if count else 0
        if item < items:
            return index, item
        item -= items
    raise AssertionError(item)


def _random(settings: Settings, *key: int) -> np.random.Generator:
    """The generator of ``key``; one for each independent decision."""
    return np.random.default_rng(np.random.SeedSequence([settings.seed, *key]))


# Drawing -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    """A few images, and the file that vouches for them."""

    root: Path
    settings: Settings
    number: int

    @property
    def record(self) -> Path:
        return self.root / ".drawn" / f"{self.number:06d}.json"

    @property
    def indices(self) -> range:
        count = len(plan(self.settings))
        return range(self.number * _CHUNK, min(count, (self.number + 1) * _CHUNK))


def _jobs(root: Path, settings: Settings) -> list[_Job]:
    return [_Job(root, settings, i) for i in range(-(-len(plan(settings)) // _CHUNK))]


def _draw(root: Path, settings: Settings, workers: int, progress: bool) -> None:
    jobs = _jobs(root, settings)
    missing = [job for job in jobs if not job.record.is_file()]
    total = len(plan(settings))
    done = total - sum(len(job.indices) for job in missing)
    with tqdm(total=total, initial=done, unit="image", disable=not progress) as bar:
        for count in in_processes(_write, missing, workers, at_a_time=1):
            bar.update(count)


def _write(job: _Job) -> int:
    """Write a few images, then what is known of them."""
    records = []
    for index in job.indices:
        photo = plan(job.settings)[index]
        image, record = draw(job.settings, photo, index)
        rng = _random(job.settings, 4, index)
        write_photo(job.root / "Img" / photo.name, image, photo.how, rng)
        records.append(record)
    with atomic_write(job.record) as file:
        file.write(orjson.dumps(records))
    return len(records)


def draw(settings: Settings, photo: Photo, index: int) -> tuple[Any, dict[str, Any]]:
    """(H, W, 3) uint8 RGB, and ``box`` [x0, y0, x1, y1], ``pose`` (in-shop's, 1 to 6),
    ``variation`` (1 to 5) and ``landmarks`` [[visibility, x, y], ...] in the list's order.

    Photos that show too little of the article are taken again.
    """
    article = article_of(settings, photo.item)
    if photo.recoloured:
        article = recoloured(_random(settings, 5, photo.item), article)
    found: tuple[float, Any, Any, np.random.Generator] | None = None
    for attempt in range(_TRIES):
        rng = _random(settings, 3, index, attempt)
        stage = draw_outfit(rng, settings.size, photo.how, photo.shop, _clothes(article, photo.how))
        visible = stage.canvas.visible(0)
        area, whole = visible.sum(), stage.canvas.silhouettes.get(0, visible).sum()
        share = float(area / max(whole, 1))
        if found is None or share * (area > 0) > found[0]:
            found = share * (area > 0), stage, visible, rng
        if area >= _LEAST_AREA * visible.size and share >= _LEAST_SHARE:
            found = share, stage, visible, rng
            break
    assert found is not None
    _, stage, visible, rng = found
    image = expose(stage.canvas.image, rng, photo.how)
    return image, _record(stage, visible, article)


def _clothes(article: Article, how: Conditions) -> Callable[[np.random.Generator], Outfit]:
    main = Garment(0, article.base, article.cut, article.look, 1)

    def clothe(rng: np.random.Generator) -> Outfit:
        outfit = Outfit(main, {slot(article.base): main})
        complete(outfit, rng, outwear=how.outwear)
        return outfit

    return clothe


def _record(stage: Stage, visible: Any, article: Article) -> dict[str, Any]:
    rows, columns = np.flatnonzero(visible.any(1)), np.flatnonzero(visible.any(0))
    box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    figure = next(f for f in stage.figures if _wears(f))
    landmarks = _landmarks(stage, figure, article)
    cut_off = float((landmarks[:, 0] == TRUNCATED).mean())
    pose = _pose(figure, cut_off, (box[2] - box[0]) * (box[3] - box[1]) / visible.size)
    # 1 normal, 2 medium, 3 large pose, 4 medium, 5 large zoom-in.
    turned = {2: 1, 1: 2, 3: 3}[viewpoint(figure.pose)]
    variation = turned if cut_off < 0.1 else 4 if cut_off < 0.4 else 5
    return {
        "box": [int(v) for v in box],
        "pose": pose,
        "variation": variation,
        "landmarks": landmarks.tolist(),
    }


def _wears(figure: Figure) -> bool:
    garments = figure.inner, figure.lower, figure.outer
    return any(g is not None and g.item == 0 and g.style == 1 for g in garments)


def _pose(figure: Figure, cut_off: float, area: float) -> int:
    if not figure.pose.worn:
        return _ALONE
    if figure.pose.back:
        return _BACK
    if viewpoint(figure.pose) > 2:
        return _SIDE
    if cut_off >= 0.4:
        return _ZOOM_IN
    return _ZOOM_OUT if area < 0.12 else _FRONT


def _landmarks(stage: Stage, figure: Figure, article: Article) -> Any:
    """(n, 3) visibility, x, y of the slots that the article's type has; x, y 0 where cut off."""
    canvas, shape = stage.canvas, figure.shapes()[0]
    places = slots(shape)
    height, width = canvas.size
    radius = max(1, round(0.006 * max(canvas.size)))
    found = []
    for number in SLOTS_OF_TYPE[article.kind.type]:
        point, of = places[number]
        pixel = np.round(figure.camera.pixels(point)[0]).astype(np.int64)
        if not (0 <= pixel[0] < width and 0 <= pixel[1] < height):
            found.append((TRUNCATED, 0, 0))
            continue
        parts = {part for landmark in of for part in parts_of(shape, landmark)}
        seen = not shape.hidden.issuperset(of) and shows(canvas, 0, parts, pixel, radius)
        found.append((VISIBLE if seen else OCCLUDED, *pixel.tolist()))
    return np.array(found, dtype=np.int64)


def slots(shape: Shape) -> dict[int, tuple[FloatArray, tuple[int, ...]]]:
    """By slot (collars, sleeves, waistlines, hems; left, right of the picture), a point (1, 2) of
    the plane and DeepFashion2's landmarks that it is, or lies between."""
    if shape.category_id in LOWERS:
        left = _LOWER_HEMS[shape.category_id]
        mirror = DEEPFASHION2.category(shape.category_id).flip_permutation
        ends = (0, int(mirror[0]), left, int(mirror[left]))
        return {number: (shape.landmarks[[i]], (i,)) for number, i in enumerate(ends, 4)}
    rig = RIGS[shape.category_id]
    found: dict[int, tuple[FloatArray, tuple[int, ...]]] = {}
    for side in (0, 1):
        cuff = rig.outer[-1] if rig.armpit is not None else rig.shoulder
        for first, left in ((0, rig.neck), (2, cuff), (6, rig.hem)):
            own = left if side == 0 else rig.mirror(left)
            found[first + side] = shape.landmarks[[own]], (own,)
        edge = [*([] if rig.armpit is None else [rig.armpit]), *rig.side, rig.hem]
        chain = [i if side == 0 else rig.mirror(i) for i in edge]
        found[4 + side] = _between(shape.landmarks, chain, WAIST_Y)
    return found


def _between(
    landmarks: FloatArray, chain: Sequence[int], height: float
) -> tuple[FloatArray, tuple[int, ...]]:
    """Where a chain of landmarks, from top to bottom, passes a height."""
    y = landmarks[chain, 1]
    below = int(np.clip(np.searchsorted(y, height), 1, len(chain) - 1))
    ends = (chain[below - 1], chain[below])
    top, bottom = landmarks[list(ends)]
    share = np.clip((height - top[1]) / max(float(bottom[1] - top[1]), 1e-9), 0, 1)
    return (top + share * (bottom - top))[None], ends


# Lists -------------------------------------------------------------------------------------------


def _write_lists(root: Path, settings: Settings, drawn: list[dict[str, Any]]) -> dict[str, Any]:
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
        split, _ = _split_of(settings, item)
        own = article_of(settings, item).attributes
        rng = _random(settings, 6, item)
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
        text = describe(_random(settings, 7, item), article)
        entries.append({"item": _id(item), "color": article.colour, "description": text})
    name = f"list_description_{settings.benchmark}.json"
    write_json(root / "Anno" / name, entries)
