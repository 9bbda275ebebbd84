"""Reads a gallery of format 1 once: a folder of segments that a ``manifest.json`` names."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.retrieval.gallery.gallery import Gallery
from match_rcnn.retrieval.gallery.items import Fingerprint, GalleryError, GalleryItem
from match_rcnn.retrieval.scoring import MatchScorer
from match_rcnn.utils.arrays import Float32Array
from match_rcnn.utils.files import read_json


def convert(old: Path, new: Path) -> int:
    """A gallery of today's format with what an old one holds; returns how many items.

    An index is not taken over: build it again. Nor is the fingerprint of the model's settings, as
    it was of others; that of the weights is.

    Raises:
        FileNotFoundError: there is no gallery of format 1.
        GalleryError: it is damaged, or there is a gallery at ``new``.
    """
    manifest = read_json(old / "manifest.json")
    if manifest.get("format") != 1:
        raise GalleryError(f"{old} is not of format 1")
    stated = manifest["fingerprint"]
    gallery = Gallery.create(
        new,
        MatchScorer(np.array(manifest["weight"]), manifest["bias"]),
        Fingerprint(**{**stated, "config": ""}) if stated else None,
        manifest["notes"],
    )
    parts = [_Part(old, entry, manifest["dim"]) for entry in manifest["segments"]]
    gallery.add(
        (item for part in parts for item in part.items()),
        (vector for part in parts for vector in part.vectors()),
    )
    images = read_json(_inside(old, manifest["images"])) if manifest["images"] else []
    gallery.take_in([], [], images)
    return len(gallery)


class _Part:
    """A segment: ``vectors.f32``, ``records.jsonl`` with ``offsets.i64``, and removed rows."""

    def __init__(self, old: Path, entry: dict[str, Any], dim: int) -> None:
        self.path = _inside(old / "segments", entry["name"])
        self._shape = int(entry["rows"]), dim
        gone = entry["removed"]
        removed = np.fromfile(_inside(self.path, gone), "<i8") if gone else np.zeros(0, np.int64)
        self._rows = np.setdiff1d(np.arange(self._shape[0]), removed).tolist()

    def items(self) -> Iterator[GalleryItem]:
        ends = np.fromfile(self.path / "offsets.i64", "<i8").tolist()
        lines = (self.path / "records.jsonl").read_bytes()
        if len(ends) != self._shape[0] + 1 or ends[-1] != len(lines):
            raise GalleryError(f"{self.path}/records.jsonl is damaged: it has another length")
        for row in self._rows:
            record = orjson.loads(lines[ends[row] : ends[row + 1]])
            kind, box = record.pop("category"), record.pop("box")
            yield GalleryItem(
                **record,
                category=None if kind is None else DEEPFASHION2.category(kind),
                box=None if box is None else tuple(box),
            )

    def vectors(self) -> Iterator[Float32Array]:
        file = self.path / "vectors.f32"
        if file.stat().st_size != 4 * self._shape[0] * self._shape[1]:
            raise GalleryError(f"{file} is damaged: it has another length")
        vectors = np.memmap(file, "<f4", "r", shape=self._shape)
        for row in self._rows:
            yield vectors[row]


def _inside(folder: Path, name: str) -> Path:
    """A file of a folder. Raises: GalleryError: the name leads elsewhere."""
    if not re.fullmatch(r"[\w-][\w.-]*", name):
        raise GalleryError(f"{folder} is damaged: {name!r} is no name of a file in it")
    return folder / name
