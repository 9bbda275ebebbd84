"""Building a gallery of a catalogue on a Ray cluster.

Ray Data hands batches of photos to workers, each of which holds a model and writes what it finds
as fragments of the gallery's data set, which no version names yet. Their names come back to the
driver, which makes versions of them, every minute. A run that was stopped goes on with the photos
that no version knows; what workers had written in vain lies there until Lance sweeps it.

Gallery and photos lie where every machine of the cluster reads them under the same names.
"""

import pickle
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from match_rcnn.catalogue.indexing import (
    IndexingRun,
    IndexReport,
    joined_reports,
    open_gallery,
    write_report,
)
from match_rcnn.catalogue.model import GarmentModel
from match_rcnn.catalogue.photos import CatalogueImage
from match_rcnn.retrieval.gallery.gallery import Gallery
from match_rcnn.retrieval.gallery.items import GalleryItem, optional_module

_BATCH = 64


def build_on_ray(
    folder: str | Path,
    catalogue: Sequence[CatalogueImage],
    make_model: Callable[[], GarmentModel],
    address: str | None = None,
    *,
    boxes: str = "detected",
    min_score: float = 0.0,
    notes: dict[str, Any] | None = None,
    workers: int | None = None,
    flush_seconds: float = 60,
) -> IndexReport:
    """As :func:`match_rcnn.catalogue.indexing.build_gallery`, by the workers of a cluster.

    Args:
        make_model: called once in every worker, and here.
        address: of the cluster; None: one of this machine alone.
        workers: how many; None: one a GPU of the cluster, or a CPU where there is none.

    Raises:
        MissingPackageError: without Ray.
    """
    ray, data = optional_module("ray"), optional_module("ray.data")
    if not ray.is_initialized():
        ray.init(address=address)
    open_gallery(folder, make_model(), boxes, min_score, notes)
    gallery = Gallery.open(folder)
    done = gallery.images
    left = [image for image in catalogue if image.key not in done]
    have = ray.cluster_resources()
    gpus, cpus = int(have.get("GPU", 0)), int(have.get("CPU", 1))
    reports = [IndexReport(len(catalogue), len(catalogue) - len(left))]
    if left:
        # Batches of their own: each comes back as one row.
        rows = [{"images": pickle.dumps(left[i : i + _BATCH])} for i in range(0, len(left), _BATCH)]
        found = data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            _Worker,
            batch_size=1,
            compute=data.ActorPoolStrategy(size=min(workers or gpus or cpus, len(rows))),
            num_gpus=1 if gpus else 0,
            fn_constructor_args=(folder, make_model, boxes, min_score),
        )
        reports += _commit(gallery, found.iter_rows(), flush_seconds)
    report = joined_reports(reports, len(Gallery.open(folder)))
    write_report(folder, report)
    return report


class _Apart:
    """Takes finds in as fragments that no version names. ``parts`` are for the driver."""

    images: frozenset[str] = frozenset()

    def __init__(self, gallery: Gallery) -> None:
        self._gallery = gallery
        self.parts: list[tuple[list[str], list[str], list[str]]] = []

    def take_in(
        self, items: Sequence[GalleryItem], vectors: Sequence[Any], images: Iterable[str]
    ) -> None:
        self.parts.append((*self._gallery.write_apart(items, vectors), list(images)))


class _Worker:
    """An actor of Ray Data."""

    def __init__(
        self,
        folder: str | Path,
        make_model: Callable[[], GarmentModel],
        boxes: str,
        min_score: float,
    ) -> None:
        self._folder, self._model = folder, make_model()
        self._settings = boxes, min_score

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        (images,) = (pickle.loads(row) for row in batch["images"])
        apart = _Apart(Gallery.open(self._folder))
        run = IndexingRun(apart, images, self._model, *self._settings)
        run.work(float("inf"), progress=False)
        return {"found": [pickle.dumps((apart.parts, run.report))]}


def _commit(
    gallery: Gallery, rows: Iterable[dict[str, Any]], flush_seconds: float
) -> list[IndexReport]:
    """Make versions of what the workers wrote, as it comes."""
    ids: list[str] = []
    written: list[str] = []
    images: list[str] = []
    reports, since = [], time.monotonic()

    def flush() -> None:
        gallery.adopt(ids, written, images)
        for found in (ids, written, images):
            found.clear()

    try:
        for row in rows:
            parts, report = pickle.loads(row["found"])
            reports.append(report)
            for part in parts:
                for all_of_them, own in zip((ids, written, images), part, strict=True):
                    all_of_them += own
            if time.monotonic() - since >= flush_seconds:
                flush()
                since = time.monotonic()
    finally:
        flush()
    return reports
