"""Building a gallery of a catalogue, in one process or several, with interruptions.

Each process finds the garments of its share of the photos and writes them, every minute, as a
finished segment (a *part*) below the gallery's ``incoming`` folder. The main process takes the
parts in: those that an interrupted run has left at the beginning, its own and the others' at the
end. A photo is indexed when a part that names it is there; so a part is lost with its photos or
not at all, and a run that was stopped goes on with those that no part names.
"""

import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from match_rcnn.d2 import comm
from match_rcnn.data.images import read_image
from match_rcnn.retrieval.gallery.catalogue import CatalogueImage
from match_rcnn.retrieval.gallery.gallery import Gallery
from match_rcnn.retrieval.gallery.items import FloatArray, GalleryItem
from match_rcnn.retrieval.gallery.model import GarmentModel, Image
from match_rcnn.retrieval.gallery.segments import Segment, SegmentWriter
from match_rcnn.structures import Garment
from match_rcnn.utils.files import write_json

logger = logging.getLogger(__name__)

BOXES = ("detected", "annotated")
#: Where the report is, in the gallery's folder.
REPORT = "report.json"

_PARTS_AT_ONCE = 64
_MOST_IMAGES = 5000  # of a part
#: An item, its vector.
_Found = tuple[GalleryItem, FloatArray]


@dataclass
class IndexReport:
    """What a run did.

    Attributes:
        images: of the catalogue.
        passed_over: had been indexed before.
        indexed: in this run.
        items: in the gallery now.
        broken: image and what is wrong with it; tried again by the next run.
        left_out: annotated garments that could not be used, and why.
    """

    images: int
    passed_over: int
    indexed: int = 0
    items: int = 0
    broken: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {"num_broken": len(self.broken), "num_left_out": len(self.left_out), **vars(self)}

    def __str__(self) -> str:
        lines = [
            f"{self.items} items of {self.images - len(self.broken)} images; "
            f"{self.indexed} images indexed now, {self.passed_over} before"
        ]
        problems = {"broken images": [*self.broken.values()], "garments left out": self.left_out}
        for what, texts in problems.items():
            if texts:
                lines.append(f"{len(texts)} {what}, such as {texts[0]}")
        return "\n".join(lines)


def build_gallery(
    folder: Path,
    catalogue: Sequence[CatalogueImage],
    model: GarmentModel,
    *,
    boxes: str = "detected",
    min_score: float = 0.0,
    notes: dict[str, Any] | None = None,
    progress: bool = False,
    flush_seconds: float = 60,
) -> IndexReport | None:
    """Index the photos that are not in the gallery yet; to be called by every process.

    Args:
        folder: of the gallery; made if missing.
        boxes: "detected": what the model finds; "annotated": what the catalogue says.
        min_score: detections below it are left out.
        notes: for the gallery's :attr:`notes`.
        flush_seconds: how much of the work an interruption may cost.

    Returns:
        The report, also in ``folder/report.json``; None in other processes than the main one.

    Raises:
        ValueError: ``boxes`` has no meaning, or the gallery was built with other settings.
        GalleryError: it was made by other weights, or is being written.
    """
    if boxes not in BOXES:
        raise ValueError(f"expected boxes to be {' or '.join(BOXES)}, got {boxes!r}")
    settings = {"boxes": boxes, "min_score": min_score if boxes == "detected" else None}
    with ExitStack() as stack:
        gallery = None
        if comm.is_main_process():
            gallery = _open(folder, model, {**(notes or {}), **settings}, settings)
            stack.enter_context(gallery.writing())
            _take_in(gallery)
        comm.synchronize()
        run = _Run(folder, catalogue, model, boxes, min_score)
        run.work(flush_seconds, progress and comm.is_main_process())
        comm.synchronize()
        reports = comm.gather(run.report)
        if gallery is None:
            return None
        _take_in(gallery)
        report = _joined(reports, len(gallery))
        write_json(folder / REPORT, report.to_json())
    return report


def _open(
    folder: Path, model: GarmentModel, notes: dict[str, Any], settings: dict[str, Any]
) -> Gallery:
    if not (folder / "manifest.json").exists():
        return Gallery.create(folder, model.scorer, model.fingerprint, notes)
    gallery = Gallery.open(folder, model.fingerprint)
    before = {key: gallery.notes.get(key) for key in settings}
    if before != settings:
        raise ValueError(
            f"{folder} was built with {before}, and now {settings} is asked for; "
            "build another gallery or use the same settings"
        )
    return gallery


def _take_in(gallery: Gallery) -> None:
    """Adopt finished parts, and delete them and what is left of unfinished ones."""
    incoming = gallery.folder / "incoming"
    found = sorted(p for p in incoming.iterdir()) if incoming.is_dir() else []
    for path in found:
        # Adopted: a run ended between the commit and the deletion.
        if path.name.startswith(".") or path.name in gallery.adopted:
            shutil.rmtree(path)
    waiting = [path for path in found if path.exists()]
    for start in range(0, len(waiting), _PARTS_AT_ONCE):
        paths = waiting[start : start + _PARTS_AT_ONCE]
        parts = [Segment(path) for path in paths]
        gallery.adopt(parts, gallery.images.union(*(part.info["images"] for part in parts)))
        for path in paths:
            shutil.rmtree(path)


def _joined(reports: Sequence[IndexReport], items: int) -> IndexReport:
    whole = IndexReport(reports[0].images, reports[0].passed_over, items=items)
    for report in reports:
        whole.indexed += report.indexed
        whole.broken.update(report.broken)
        whole.left_out += report.left_out
    return whole


class _Run:
    """The share of one process."""

    def __init__(
        self,
        folder: Path,
        catalogue: Sequence[CatalogueImage],
        model: GarmentModel,
        boxes: str,
        min_score: float,
    ) -> None:
        done = Gallery.open(folder).images
        left = [image for image in catalogue if image.key not in done]
        self.share = left[comm.get_rank() :: comm.get_world_size()]
        self.report = IndexReport(len(catalogue), len(catalogue) - len(left))
        self._incoming = folder / "incoming"
        self._model = model
        self._annotated = boxes == "annotated"
        self._min_score = min_score

    def work(self, flush_seconds: float, progress: bool) -> None:
        bar = tqdm(self.share, desc="indexing", unit="image", disable=not progress)
        with _parts(self._incoming, self._model.scorer.dim, flush_seconds) as part:
            for image in bar:
                try:
                    photo = _read(image, self._annotated)
                except (ValueError, OSError) as error:
                    name = image.key.encode(errors="replace").decode()
                    self.report.broken[name] = str(error).encode(errors="replace").decode()
                    logger.warning("%s is left out: %s", name, error)
                    continue
                part.add(image.key, self._garments(image, photo))
                self.report.indexed += 1

    def _garments(self, image: CatalogueImage, photo: Image) -> list[_Found]:
        if not self._annotated:
            garments = [g for g in self._model(photo) if (g.score or 0) >= self._min_score]
            named = [(str(n), g, image.fields) for n, g in enumerate(garments)]
        else:
            usable = self._usable(image, (photo.shape[1], photo.shape[0]))
            garments = self._model.describe(photo, [a.garment for a in usable])
            named = [
                (a.name, g, {**image.fields, **a.fields})
                for a, g in zip(usable, garments, strict=True)
            ]
        return [_item(image, *parts) for parts in named]

    def _usable(self, image: CatalogueImage, size: tuple[int, int]) -> list[Any]:
        usable = []
        for annotated in image.garments:
            x1, y1, x2, y2 = annotated.garment.box.tolist()
            if min(x2, size[0]) > max(x1, 0) and min(y2, size[1]) > max(y1, 0):
                usable.append(annotated)
            else:
                self.report.left_out.append(
                    f"{image.key}, annotation {annotated.name}: no part of the box is in the image"
                )
        return usable


def _read(image: CatalogueImage, annotated: bool) -> Image:
    """The photo, (H, W, 3) in BGR: upright, or as it is stored where boxes are annotated.

    Raises:
        ValueError, OSError: it cannot be used.
    """
    image.key.encode()  # a name that is no text cannot be part of an id
    photo = read_image(image.path, upright=not annotated)
    size = photo.shape[1], photo.shape[0]
    if annotated and image.size is not None and image.size != size:
        raise ValueError(
            f"{image.path} has {size[0]} x {size[1]} pixels, the catalogue says "
            f"{image.size[0]} x {image.size[1]}: its boxes would be wrong"
        )
    return photo


def _item(image: CatalogueImage, name: str, garment: Garment, fields: dict[str, Any]) -> _Found:
    assert garment.embedding is not None, "a gallery's model gives embeddings"
    x1, y1, x2, y2 = garment.box.tolist()
    item = GalleryItem(
        id=f"{image.key}#{name}",
        category=garment.category,
        image=image.key,
        box=(x1, y1, x2, y2),
        score=garment.score,
        fields=fields,
    )
    return item, garment.embedding


class _Part:
    """What was found since the last part was written."""

    def __init__(self, incoming: Path, dim: int) -> None:
        self._incoming, self._dim = incoming, dim
        self.images: list[str] = []
        self._found: list[_Found] = []
        self.since = time.monotonic()
        self.flush_seconds = 0.0

    def add(self, key: str, found: list[_Found]) -> None:
        self.images.append(key)
        self._found += found
        waited = time.monotonic() - self.since >= self.flush_seconds
        if waited or len(self.images) >= _MOST_IMAGES:
            self.flush()

    def flush(self) -> None:
        if self.images:
            with SegmentWriter(self._incoming, self._dim) as writer:
                writer.info = {"images": self.images}
                writer.add((item for item, _ in self._found), (v for _, v in self._found))
        self.images, self._found = [], []
        self.since = time.monotonic()


@contextmanager
def _parts(incoming: Path, dim: int, flush_seconds: float) -> Iterator[_Part]:
    """Writes parts, the last one also when the block ends with an error."""
    part = _Part(incoming, dim)
    part.flush_seconds = flush_seconds
    try:
        yield part
    finally:
        part.flush()
