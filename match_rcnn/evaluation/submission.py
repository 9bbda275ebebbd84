"""What a grader would reject of a result file, and what it would silently not count.

Nothing is scored, so a test set without annotations will do. The official formats are in
docs/deepfashion2.md; the graders are pycocotools' ``loadRes`` and the official retrieval script.
Memory: one batch of 1 MiB of text with its Python objects, and a few numbers an image.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tabulate import tabulate

from match_rcnn.data.coco import read_coco
from match_rcnn.data.folders import list_folder
from match_rcnn.data.image_size import IMAGE_SUFFIXES, read_image_size
from match_rcnn.data.image_sources import SHOP, USER, read_image_sources
from match_rcnn.data.taxonomy import DEEPFASHION2, Category, Taxonomy
from match_rcnn.evaluation.coco.rle import to_rle
from match_rcnn.evaluation.retrieval.protocol import LIST_LENGTH
from match_rcnn.utils.json_stream import stream_arrays

#: Detections of an image that count, by task.
LIMITS = {"bbox": 100, "segm": 100, "keypoints": 20}
_KEYS = {
    "bbox": ("image_id", "category_id", "bbox", "score"),
    "segm": ("image_id", "category_id", "segmentation", "score"),
    "keypoints": ("image_id", "category_id", "keypoints", "score"),
    "retrieval": (
        "query_image_id",
        "query_bbox",
        "query_cls",
        "query_score",
        "gallery_image_id",
        "gallery_bbox",
    ),
}
TASKS = tuple(_KEYS)

#: Whether it makes the file invalid, and what it is.
Problem = tuple[bool, str]


@dataclass(frozen=True)
class KnownImages:
    """Attributes:
    size: height and width by image id; only asked for masks.
    source: by image id, where it is known.
    """

    ids: frozenset[int]
    size: Callable[[int], tuple[int, int] | None]
    source: Mapping[int, str] = field(default_factory=dict)


def images_of_file(path: str | Path) -> KnownImages:
    """The images of a COCO-form file, with or without annotations.

    Raises:
        FileNotFoundError, ValueError: it is not there, or has no list ``images`` with ids.
    """
    images = read_coco(path, labels=()).images
    if not len(images.ids):
        raise ValueError(f"{path}: no list 'images'; is this a file in COCO form?")
    ids = images.ids.tolist()
    rows = zip(ids, images.sizes.tolist(), strict=True)
    sizes = {i: (height, width) for i, (height, width) in rows if height}
    sources = {i: s for i, s in zip(ids, images.sources, strict=True) if s}
    return KnownImages(frozenset(ids), sizes.get, sources)


def images_of_folder(path: str | Path) -> KnownImages:
    """The numbered images of a folder, as the test set has them, with what the official files
    beside it say about their sources.

    Raises:
        FileNotFoundError, ValueError: there is no such folder, or such a file cannot be used.
    """
    folder = list_folder(Path(path), IMAGE_SUFFIXES, str(path))

    def size(image_id: int) -> tuple[int, int]:
        width, height = read_image_size(folder.path / folder.name(image_id))
        return height, width

    sources = read_image_sources(folder.path.parent)
    return KnownImages(frozenset(folder.numbers.tolist()), size, sources)


@dataclass
class Verdict:
    """What was found.

    Attributes:
        entries: of the file.
        counts: how often, by problem; first: where it came first, entries counted from 0.
    """

    task: str
    entries: int = 0
    counts: Counter[Problem] = field(default_factory=Counter)
    first: dict[Problem, str] = field(default_factory=dict)

    def add(self, problem: Problem, place: str) -> None:
        self.counts[problem] += 1
        self.first.setdefault(problem, place)

    @property
    def accepted(self) -> bool:
        return not any(rejected for rejected, _ in self.counts)

    def to_json(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "accepted": self.accepted,
            "entries": self.entries,
            "problems": [
                {"rejected": p[0], "what": p[1], "count": n, "first": self.first[p]}
                for p, n in sorted(self.counts.items(), reverse=True)
            ],
        }

    def __str__(self) -> str:
        rows = [
            ["rejected" if p["rejected"] else "note", p["what"], p["count"], p["first"]]
            for p in self.to_json()["problems"]
        ]
        table = tabulate(rows, headers=["", "what", "how often", "first"]) + "\n" if rows else ""
        word = "accepted" if self.accepted else "REJECTED"
        return f"{table}{word}: {self.task}, {self.entries} entries"


def check_results(
    path: str | Path,
    task: str,
    images: KnownImages | None = None,
    taxonomy: Taxonomy = DEEPFASHION2,
) -> Verdict:
    """Look at every entry of a result file.

    Args:
        task: ``bbox``, ``segm``, ``keypoints`` or ``retrieval``.
        images: what there is; ``None``: ids and the sizes of masks are not checked.
        taxonomy: which categories there are, and their landmarks.

    Raises:
        FileNotFoundError: there is no such file.
    """
    verdict = Verdict(task)
    seen, is_list = _Seen(), False
    try:
        for key, items in stream_arrays(path):
            if key is not None:
                break
            is_list = True
            for entry in items:
                place = f"entry {verdict.entries}"
                for problem in (
                    *_problems(entry, task, images, taxonomy),
                    *seen.problems(entry, task),
                ):
                    verdict.add(problem, place)
                verdict.entries += 1
    except FileNotFoundError:
        raise
    except ValueError as error:
        verdict.add((True, "not valid JSON"), str(error))
    if not is_list and not verdict.counts:
        verdict.add((True, "not a list of entries but an object"), "")
    if verdict.entries == 0 and not verdict.counts:
        verdict.add((True, "no entries: graders stop on an empty list"), "")
    return verdict


def _problems(
    entry: Any, task: str, images: KnownImages | None, taxonomy: Taxonomy
) -> Iterator[Problem]:
    if not isinstance(entry, dict):
        yield True, "not an object"
        return
    missing = [key for key in _KEYS[task] if key not in entry]
    if missing:
        yield True, f"missing: {', '.join(missing)}"
        return
    extra = sorted(entry.keys() - _KEYS[task])
    if extra:
        yield _extra(task, extra)
    key = "query_cls" if task == "retrieval" else "category_id"
    category = _category(entry[key], taxonomy)
    if category is None:
        ids = sorted(c.id for c in taxonomy.categories)
        gaps = ids != list(range(ids[0], ids[-1] + 1))
        known = ", ".join(map(str, ids)) if gaps else f"{ids[0]} to {ids[-1]}"
        yield True, f"{key} is not one of {known}"
    if task == "retrieval":
        yield from _retrieval(entry, images)
    else:
        yield from _coco(entry, task, images)
    if task == "keypoints":
        yield from _keypoints(entry["keypoints"], category, taxonomy)


def _extra(task: str, keys: list[str]) -> Problem:
    if task in ("segm", "keypoints") and {"bbox", "segmentation"} & set(keys):
        return False, f"more keys: {', '.join(keys)} (areas are then taken from these)"
    return False, f"more keys: {', '.join(keys)}"


def _coco(entry: dict[str, Any], task: str, images: KnownImages | None) -> Iterator[Problem]:
    yield from _image("image_id", entry["image_id"], images, None)
    yield from _score("score", entry["score"])
    if task == "bbox":
        yield from _box(entry["bbox"], "bbox", corners=False)
    elif task == "segm":
        yield from _mask(entry, images)


def _retrieval(entry: dict[str, Any], images: KnownImages | None) -> Iterator[Problem]:
    yield from _image("query_image_id", entry["query_image_id"], images, USER)
    yield from _score("query_score", entry["query_score"])
    yield from _box(entry["query_bbox"], "query_bbox", corners=True)
    ids, boxes = entry["gallery_image_id"], entry["gallery_bbox"]
    for key, values in (("gallery_image_id", ids), ("gallery_bbox", boxes)):
        if not isinstance(values, list):
            yield True, f"{key} is not a list"
            return
        if len(values) != LIST_LENGTH:
            yield True, f"{key} has not {LIST_LENGTH} entries"
    for image_id in ids:
        yield from _image("gallery_image_id", image_id, images, SHOP)
    for box in boxes:
        yield from _box(box, "gallery_bbox", corners=True)
    pairs = [(str(i), str(b)) for i, b in zip(ids, boxes, strict=False)]
    if len(set(pairs)) < len(pairs):
        yield False, "one gallery item twice in a list"


def _image(
    key: str, value: Any, images: KnownImages | None, source: str | None
) -> Iterator[Problem]:
    if type(value) is not int:
        yield True, f"{key} is not a whole number"
    elif images is not None and value not in images.ids:
        yield True, f"{key} is not in the data set"
    elif images is not None and source and images.source.get(value, source) != source:
        yield True, f"{key} is not a {source}'s photo"


def _category(value: Any, taxonomy: Taxonomy) -> Category | None:
    try:
        return taxonomy.category(value)
    except ValueError:
        return None


def _score(key: str, value: Any) -> Iterator[Problem]:
    if not _finite(value):
        yield True, f"{key} is not a finite number"
    elif not 0 <= value <= 1:
        yield False, f"{key} is not between 0 and 1"


def _box(box: Any, key: str, corners: bool) -> Iterator[Problem]:
    if not isinstance(box, list) or len(box) != 4:
        yield True, f"{key} is not a list of 4 numbers"
    elif not all(map(_finite, box)):
        yield True, f"{key} has what is not a finite number"
    else:
        wide, tall = (box[2] - box[0], box[3] - box[1]) if corners else (box[2], box[3])
        form = "x1, y1, x2, y2" if corners else "x, y, width, height"
        if wide < 0 or tall < 0:
            yield True, f"{key} has a negative side; expected {form}"
        elif wide == 0 or tall == 0:
            yield False, f"{key} has no area"


def _keypoints(numbers: Any, category: Category | None, taxonomy: Taxonomy) -> Iterator[Problem]:
    wanted = 3 * taxonomy.num_landmarks
    if not isinstance(numbers, list) or len(numbers) != wanted:
        yield True, f"keypoints is not a list of {wanted} numbers"
        return
    if not all(map(_finite, numbers)):
        yield True, "keypoints has what is not a finite number"
        return
    if category is not None:
        own = category.slice
        if any(numbers[: 3 * own.start]) or any(numbers[3 * own.stop :]):
            yield False, "keypoints is not zero outside the category"


def _mask(entry: dict[str, Any], images: KnownImages | None) -> Iterator[Problem]:
    mask = entry["segmentation"]
    if not isinstance(mask, dict) or not {"size", "counts"} <= mask.keys():
        yield True, "segmentation is not a run-length mask with size and counts"
        return
    size = mask["size"]
    if not isinstance(size, list) or len(size) != 2 or any(type(n) is not int for n in size):
        yield True, "the mask's size is not [height, width]"
        return
    image_id = entry["image_id"]
    if images is not None and image_id in images.ids:
        known = images.size(image_id)
        if known is not None and tuple(size) != known:
            yield True, "the mask's size is not its image's"
    if not isinstance(mask["counts"], str):
        yield True, "the mask's counts is not a string (compressed runs)"
        return
    try:
        to_rle(mask, *size)
    except ValueError:
        yield True, "the mask's runs are malformed or do not fill its size"


def _finite(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


class _Seen:
    """What only several entries together tell."""

    def __init__(self) -> None:
        self.counts: Counter[Any] = Counter()
        self.lowest: dict[Any, float] = {}
        self.last: Any = None

    def problems(self, entry: Any, task: str) -> Iterator[Problem]:
        if not isinstance(entry, dict) or task == "retrieval":
            return
        image_id, score = entry.get("image_id"), entry.get("score")
        if type(image_id) is not int or not _finite(score):
            return
        assert isinstance(score, (int, float))
        self.counts[image_id] += 1
        limit = LIMITS[task]
        if self.counts[image_id] == limit + 1:
            # Official: 20 landmark results an image. Of boxes and masks only the best ones count.
            yield task == "keypoints", f"more than {limit} detections in an image"
        if image_id != self.last and self.counts[image_id] > 1:
            yield False, "an image's entries do not lie together"
        if score > self.lowest.get(image_id, math.inf):
            yield False, "an image's scores do not fall"
        self.lowest[image_id], self.last = float(score), image_id
