"""A generated DeepFashion2 on disk: ROOT/{train,validation}/{image,annos}."""

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import orjson
from tqdm import tqdm

from match_rcnn.data.image_sources import SHOP, USER
from match_rcnn.data.synthetic.conditions import Conditions, conditions
from match_rcnn.data.synthetic.products import SPLITS, Catalogue
from match_rcnn.data.synthetic.scene import draw_picture
from match_rcnn.utils.files import atomic_write, read_json, write_json

#: Changes whenever the same seed would give other bytes.
VERSION = 2
SMALLEST, LARGEST = 64, 2048
_J = TypeVar("_J")
_VARIATIONS = ("scale", "occlusion", "zoom_in", "viewpoint")


@dataclass(frozen=True)
class _Job:
    folder: Path
    catalogue: Catalogue
    index: int
    size: int

    @property
    def image(self) -> Path:
        return self.folder / "image" / f"{self.index + 1:06d}.jpg"

    @property
    def annotation(self) -> Path:
        return self.folder / "annos" / f"{self.index + 1:06d}.json"


def generate(
    output: str | Path,
    train: int,
    validation: int,
    seed: int = 0,
    size: int = 256,
    workers: int = 1,
    progress: bool = True,
) -> dict[str, Any]:
    """Write a generated DeepFashion2 and its ``summary.json``.

    An image depends on the seed, its split, its number and the split's size alone, never on
    ``workers``. A run that was interrupted goes on where it was.

    Args:
        output: ROOT. A folder that holds generated data of other settings is refused.
        train, validation: numbers of images.
        size: the longer side of the images, pixels.
        workers: processes; above 1 the calling script needs its ``if __name__ == "__main__"``.

    Returns:
        The summary: for each split the numbers of images, items, products and positive pairs,
        and counts by category, source, style and level of the four variations.

    Raises:
        ValueError: a number out of range, or ``output`` holds other data.
    """
    _check(train, validation, seed, size, workers)
    root = Path(output)
    settings = {
        "generator": "match_rcnn synthetic DeepFashion2",
        "version": VERSION,
        "train": train,
        "validation": validation,
        "seed": seed,
        "size": size,
    }
    present = [split for split in SPLITS if any((root / split).glob("*/*"))]
    claim(root, settings, present)
    jobs = [
        _Job(root / split, Catalogue(seed, split, count), index, size)
        for split, count in zip(SPLITS, (train, validation), strict=True)
        for index in range(count)
    ]
    missing = [job for job in jobs if not (job.image.is_file() and job.annotation.is_file())]
    with tqdm(
        total=len(jobs), initial=len(jobs) - len(missing), unit="image", disable=not progress
    ) as bar:
        for _ in in_processes(_write, missing, workers):
            bar.update()
    summary = {**settings, "splits": {split: summarise(root / split) for split in SPLITS}}
    write_json(root / "summary.json", summary)
    return summary


def _check(train: int, validation: int, seed: int, size: int, workers: int) -> None:
    for name, value in (("train", train), ("validation", validation), ("seed", seed)):
        if value < 0:
            raise ValueError(f"expected {name} >= 0, got {value}")
    if train + validation == 0:
        raise ValueError("expected at least one image, got train 0 and validation 0")
    check_size_and_workers(size, workers)


def check_size_and_workers(size: int, workers: int) -> None:
    if not SMALLEST <= size <= LARGEST:
        raise ValueError(f"expected a size from {SMALLEST} to {LARGEST} pixels, got {size}")
    if workers < 1:
        raise ValueError(f"expected workers >= 1, got {workers}")


def claim(root: Path, settings: dict[str, Any], present: Sequence[str]) -> None:
    """Note the settings in ROOT, or check that they are those of what lies there.

    Args:
        present: which of the folders to write hold something.
    """
    path = root / "generation.json"
    if path.is_file():
        found = read_json(path)
        if found != settings:
            raise ValueError(
                f"{root} holds data generated with {found}, asked for are {settings}; "
                "choose another folder or remove this one"
            )
        return
    if present:
        raise ValueError(
            f"{root} holds files in {', '.join(present)} that were not generated here; "
            "choose another folder"
        )
    write_json(path, settings)


def in_processes(
    work: Callable[[_J], Any], jobs: Sequence[_J], workers: int, at_a_time: int = 4
) -> Iterator[Any]:
    """What ``work`` makes of the jobs, as they get done."""
    if workers == 1 or len(jobs) < 2:
        _prepare()
        yield from map(work, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(workers, len(jobs)), _prepare) as pool:
        yield from pool.imap_unordered(work, jobs, chunksize=at_a_time)


def _prepare() -> None:
    # A picture is one process's work: OpenCV's own threads would only get in its way.
    cv2.setNumThreads(1)


def _write(job: _Job) -> None:
    """Write one image and its annotation; the annotation last, so that it vouches for both."""
    picture = draw_picture(job.catalogue, job.index, job.size)
    write_photo(
        job.image,
        picture.image,
        conditions(picture.annotation["source"]),
        job.catalogue.random(4, job.index),
    )
    with atomic_write(job.annotation) as file:
        file.write(orjson.dumps(picture.annotation))


def write_photo(
    path: Path, image: npt.NDArray[np.uint8], how: Conditions, rng: np.random.Generator
) -> None:
    """Write an RGB image as JPEG, in a quality of the conditions'."""
    low, high = how.jpeg
    quality = int(rng.integers(low, high + 1))
    bgr = np.ascontiguousarray(image[:, :, ::-1])
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    with atomic_write(path) as file:
        file.write(data.tobytes())


def summarise(split: Path) -> dict[str, Any]:
    """Counts of the annotation files of ROOT/SPLIT."""
    sources: Counter[str] = Counter()
    fields: dict[str, Counter[str]] = {
        key: Counter() for key in ("category", "style", *_VARIATIONS)
    }
    pairs: dict[str, set[tuple[int, int]]] = {USER: set(), SHOP: set()}
    products: set[int] = set()
    items: Counter[str] = Counter()
    for path in sorted((split / "annos").glob("*.json")):
        annotation = read_json(path)
        source, pair_id = annotation["source"], annotation["pair_id"]
        sources[source] += 1
        products.add(pair_id)
        for item in (value for key, value in annotation.items() if key.startswith("item")):
            items[source] += 1
            fields["category"][item["category_name"]] += 1
            for key in ("style", *_VARIATIONS):
                fields[key][str(item[key])] += 1
            if item["style"] > 0:
                pairs[source].add((pair_id, item["style"]))
    return {
        "images": dict(sorted(sources.items())),
        "items": dict(sorted(items.items())),
        "products": len(products),
        "matched styles": len(pairs[USER] & pairs[SHOP]),
        **{key: dict(sorted(counter.items())) for key, counter in fields.items()},
    }
