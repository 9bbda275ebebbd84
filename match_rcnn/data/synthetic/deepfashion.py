"""Generated data in the on-disk forms of DeepFashion's (2016) benchmarks.

An image is of one article (:mod:`match_rcnn.data.synthetic.wardrobe`); whatever else somebody wears
there is not labelled. Articles of different splits are different ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from tqdm import tqdm

from match_rcnn.data.sources.deepfashion import (
    OCCLUDED,
    SLOTS_OF_TYPE,
    TRUNCATED,
    VISIBLE,
)
from match_rcnn.data.synthetic.annotate import parts_of, shows, viewpoint
from match_rcnn.data.synthetic.body import WAIST_Y
from match_rcnn.data.synthetic.conditions import Conditions
from match_rcnn.data.synthetic.curves import FloatArray
from match_rcnn.data.synthetic.cuts import LOWERS
from match_rcnn.data.synthetic.dataset import (
    check_size_and_workers,
    claim,
    in_processes,
    write_photo,
)
from match_rcnn.data.synthetic.deepfashion_lists import write_lists
from match_rcnn.data.synthetic.deepfashion_plan import (
    IMAGES_OF,
    SPLITS,
    Photo,
    Settings,
    article_of,
    plan,
    random_of,
)
from match_rcnn.data.synthetic.figure import Figure
from match_rcnn.data.synthetic.outfits import Outfit, complete
from match_rcnn.data.synthetic.photo import expose
from match_rcnn.data.synthetic.products import slot
from match_rcnn.data.synthetic.rigs import RIGS
from match_rcnn.data.synthetic.scene import Stage, draw_outfit
from match_rcnn.data.synthetic.shapes import Shape
from match_rcnn.data.synthetic.tailor import Garment
from match_rcnn.data.synthetic.wardrobe import Article, recoloured
from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.utils.files import atomic_write, read_json, write_json

#: Changes whenever the same seed would give other bytes.
VERSION = 4
_CHUNK = 16
_TRIES = 12
#: What of an article must show, and of its silhouette, for a photo to be of it.
_LEAST_AREA, _LEAST_SHARE = 0.02, 0.4
#: The outer end of the left hem of shorts, trousers and skirts among DeepFashion2's landmarks.
_LOWER_HEMS = {7: 4, 8: 5, 9: 4}
#: In-shop's types of pose.
_FRONT, _SIDE, _BACK, _ZOOM_OUT, _ZOOM_IN, _ALONE = 1, 2, 3, 4, 5, 6


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
    folders = "Anno", "Anno_fine", "Eval", "Img"
    claim(root, stated, [name for name in folders if (root / name).exists()])
    if (root / "summary.json").is_file():
        return dict(read_json(root / "summary.json"))
    _draw(root, settings, workers, progress)
    drawn = [record for job in _jobs(root, settings) for record in read_json(job.record)]
    summary = {**stated, **write_lists(root, settings, drawn)}
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
    check_size_and_workers(settings.size, workers)


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
        rng = random_of(job.settings, 4, index)
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
        article = recoloured(random_of(settings, 5, photo.item), article)
    found: tuple[float, Any, Any, np.random.Generator] | None = None
    for attempt in range(_TRIES):
        rng = random_of(settings, 3, index, attempt)
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
