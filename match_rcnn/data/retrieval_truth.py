"""Ground truth of the retrieval task in the official form (docs/deepfashion2.md).

Two lists: ``{query_image_id, style, cls, pair_id, bbox}`` of every item in a consumer photo and
``{gallery_image_id, style, pair_id, bbox}`` of every item in a shop photo, boxes x1, y1, x2, y2.
Items of style 0, which take part in no pair, are there too: a detection may belong to one.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import orjson

from match_rcnn.data.image_sources import SHOP, USER
from match_rcnn.data.sources.deepfashion2 import ImageAnnotation, Item
from match_rcnn.utils.files import atomic_write

QUERY, GALLERY = KINDS = ("query", "gallery")
_KIND_OF_SOURCE = {USER: QUERY, SHOP: GALLERY}


def kind_of(annotation: ImageAnnotation) -> str | None:
    """``"query"`` or ``"gallery"``; None where the source is unknown."""
    return _KIND_OF_SOURCE.get(annotation.source or "")


def encode_item(kind: str, image_id: int, annotation: ImageAnnotation, item: Item) -> bytes:
    """An entry of the list of this kind."""
    x, y, w, h = item.bbox
    entry: dict[str, Any] = {f"{kind}_image_id": image_id, "style": item.style}
    if kind == QUERY:
        entry["cls"] = item.category.id
    entry |= {"pair_id": annotation.pair_id, "bbox": [x, y, x + w, y + h]}
    return orjson.dumps(entry)


def truth_paths(prefix: str | Path) -> dict[str, Path]:
    """``PREFIX_query.json`` and ``PREFIX_gallery.json`` by kind."""
    return {kind: Path(f"{prefix}_{kind}.json") for kind in KINDS}


class RetrievalTruthWriter:
    """Writes both lists entry by entry; files appear when the block ends without an error.

    Attributes:
        counts: entries written, by kind.
    """

    def __init__(self, prefix: str | Path) -> None:
        self._paths = truth_paths(prefix)
        self._stack = ExitStack()
        self._files: dict[str, BinaryIO] = {}
        self.counts = dict.fromkeys(KINDS, 0)

    def __enter__(self) -> "RetrievalTruthWriter":
        with ExitStack() as stack:
            for kind, path in self._paths.items():
                self._files[kind] = stack.enter_context(atomic_write(path))
            self._stack = stack.pop_all()
        return self

    def write(self, kind: str, entries: Sequence[bytes]) -> None:
        """Append entries."""
        for entry in entries:
            self._files[kind].write(b",\n" if self.counts[kind] else b"[\n")
            self._files[kind].write(entry)
            self.counts[kind] += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            for name, file in self._files.items():
                file.write(b"\n]\n" if self.counts[name] else b"[]\n")
        self._stack.__exit__(kind, error, traceback)
