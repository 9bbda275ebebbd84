"""Building a gallery of a catalogue, in one process or several, with interruptions.

Each process finds the garments of its share of the photos and puts them into the gallery, every
minute, with the photos' names: a photo is indexed when its name is there. A run that was stopped
goes on with the others; items of photos that an end came between are replaced.
"""

import json
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from match_rcnn.catalogue.model import GarmentModel
from match_rcnn.catalogue.photos import CatalogueImage
from match_rcnn.catalogue.remote import joined
from match_rcnn.d2 import PathManager, comm
from match_rcnn.data.images import read_image
from match_rcnn.modeling.similarity import CATEGORY
from match_rcnn.retrieval.gallery.gallery import Gallery
from match_rcnn.retrieval.gallery.items import GalleryItem
from match_rcnn.structures import Garment
from match_rcnn.utils.arrays import Float32Array, Image
from match_rcnn.utils.files import write_json

logger = logging.getLogger(__name__)

BOXES = ("detected", "annotated")
#: Where the report is, in the gallery's folder.
REPORT = "report.json"

_MOST_IMAGES = 5000  # that are put in at once
#: An item, its vector.
_Found = tuple[GalleryItem, Float32Array]


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
    folder: str | Path,
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
    if comm.is_main_process():
        open_gallery(folder, model, boxes, min_score, notes)
    comm.synchronize()
    run = IndexingRun(Gallery.open(folder), catalogue, model, boxes, min_score)
    comm.synchronize()  # before any of them puts photos in
    run.work(flush_seconds, progress and comm.is_main_process())
    reports = comm.gather(run.report)
    if not comm.is_main_process():
        return None
    report = joined_reports(reports, len(Gallery.open(folder)))
    write_report(folder, report)
    return report


def write_report(folder: str | Path, report: IndexReport) -> None:
    """Beside the gallery's data."""
    file = joined(folder, REPORT)
    if isinstance(file, Path):
        write_json(file, report.to_json())
    else:
        with PathManager.open(file, "w") as out:
            json.dump(report.to_json(), out, indent=2)


def open_gallery(
    folder: str | Path,
    model: GarmentModel,
    boxes: str,
    min_score: float,
    notes: dict[str, Any] | None,
) -> None:
    """Make the gallery, or see that it was built with the same model and settings."""
    if boxes not in BOXES:
        raise ValueError(f"expected boxes to be {' or '.join(BOXES)}, got {boxes!r}")
    settings: dict[str, Any] = {"boxes": boxes}
    settings["min_score"] = min_score if boxes == "detected" else None
    if model.taxonomy.attributes:
        settings["attribute_threshold"] = model.attribute_threshold
    notes = {**(notes or {}), **settings}
    try:
        gallery = Gallery.open(folder, model.fingerprint)
    except FileNotFoundError:
        made = folder, model.scorer, model.fingerprint, notes, model.taxonomy
        features = model.similarity.features() if model.similarity else {}
        Gallery.create(*made, features=features)
        return
    before = {key: gallery.notes.get(key) for key in settings}
    if before != settings:
        raise ValueError(
            f"{folder} was built with {before}, and now {settings} is asked for; "
            "build another gallery or use the same settings"
        )


def joined_reports(reports: Sequence[IndexReport], items: int) -> IndexReport:
    """Of all processes."""
    whole = IndexReport(reports[0].images, reports[0].passed_over, items=items)
    for report in reports:
        whole.indexed += report.indexed
        whole.broken.update(report.broken)
        whole.left_out += report.left_out
    return whole


class Taker(Protocol):
    """Where finds go: a gallery."""

    @property
    def images(self) -> frozenset[str]: ...

    def take_in(
        self, items: Sequence[GalleryItem], vectors: Sequence[Any], images: Iterable[str]
    ) -> None: ...


class IndexingRun:
    """The share of one process."""

    def __init__(
        self,
        gallery: Taker,
        catalogue: Sequence[CatalogueImage],
        model: GarmentModel,
        boxes: str,
        min_score: float,
    ) -> None:
        done = gallery.images
        left = [image for image in catalogue if image.key not in done]
        self.share = left[comm.get_rank() :: comm.get_world_size()]
        self.report = IndexReport(len(catalogue), len(catalogue) - len(left))
        self._gallery = gallery
        self._model = model
        self._annotated = boxes == "annotated"
        self._min_score = min_score

    def work(self, flush_seconds: float, progress: bool) -> None:
        bar = tqdm(self.share, desc="indexing", unit="image", disable=not progress)
        with _parts(self._gallery, flush_seconds) as part:
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
        product=_product(fields),
        attributes=tuple(garment.attributes or ()),
        fields=fields,
        features={name: v for name, v in garment.features.items() if name != CATEGORY},
    )
    return item, garment.embedding


def _product(fields: dict[str, Any]) -> str | None:
    """What DeepFashion2's files call one product, a style, not 0, of one pair; DeepFashion's, an
    item."""
    pair, style = fields.get("pair_id"), fields.get("style")
    if fields.get("item"):
        return str(fields["item"])
    return f"{pair}-{style}" if pair is not None and style else None


class _Part:
    """What was found since the gallery was last written to."""

    def __init__(self, gallery: Taker, flush_seconds: float) -> None:
        self._gallery, self._flush_seconds = gallery, flush_seconds
        self._images: list[str] = []
        self._found: list[_Found] = []
        self._since = time.monotonic()

    def add(self, key: str, found: list[_Found]) -> None:
        self._images.append(key)
        self._found += found
        waited = time.monotonic() - self._since >= self._flush_seconds
        if waited or len(self._images) >= _MOST_IMAGES:
            self.flush()

    def flush(self) -> None:
        if self._images:
            items, vectors = [i for i, _ in self._found], [v for _, v in self._found]
            self._gallery.take_in(items, vectors, self._images)
        self._images, self._found = [], []
        self._since = time.monotonic()


@contextmanager
def _parts(gallery: Taker, flush_seconds: float) -> Iterator[_Part]:
    """Writes parts, the last one also when the block ends with an error."""
    part = _Part(gallery, flush_seconds)
    try:
        yield part
    finally:
        part.flush()
