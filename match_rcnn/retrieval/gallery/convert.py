"""Reads a gallery of format 1 once: a folder of segments that a ``manifest.json`` names."""

import re
from collections.abc import Iterator
from itertools import tee
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


def convert(old: Path, new: str | Path) -> int:
    """A gallery of today's format with what an old one holds; returns how many items. An index is
    not taken over, nor is the fingerprint of the model's settings, as it was of others. Raises:
    FileNotFoundError; GalleryError: it is damaged, or there is a gallery at ``new``."""
    manifest = read_json(old / "manifest.json")
    if manifest.get("format") != 1:
        raise GalleryError(f"{old} is not of format 1")
    made_by = manifest["fingerprint"]
    made_by = Fingerprint(**{**made_by, "config": ""}) if made_by else None
    scorer = MatchScorer(np.array(manifest["weight"]), manifest["bias"])
    gallery = Gallery.create(new, scorer, made_by, manifest["notes"])
    read = (pair for entry in manifest["segments"] for pair in _segment(old, entry, scorer.dim))
    items, vectors = tee(read)
    gallery.add((item for item, _ in items), (vector for _, vector in vectors))
    images = read_json(_inside(old, manifest["images"])) if manifest["images"] else []
    gallery.take_in([], [], images)
    return len(gallery)


def _segment(
    old: Path, entry: dict[str, Any], dim: int
) -> Iterator[tuple[GalleryItem, Float32Array]]:
    """What is left of ``vectors.f32`` and ``records.jsonl`` with ``offsets.i64``."""
    path, number = _inside(old / "segments", entry["name"]), int(entry["rows"])
    gone: Any = np.fromfile(_inside(path, entry["removed"]), "<i8") if entry["removed"] else []
    ends = np.fromfile(path / "offsets.i64", "<i8").tolist()
    lines = (path / "records.jsonl").read_bytes()
    if len(ends) != number + 1 or ends[-1] != len(lines):
        raise GalleryError(f"{path}/records.jsonl is damaged: it has another length")
    if (path / "vectors.f32").stat().st_size != 4 * number * dim:
        raise GalleryError(f"{path}/vectors.f32 is damaged: it has another length")
    vectors = np.memmap(path / "vectors.f32", "<f4", "r", shape=(number, dim))
    for row in np.setdiff1d(np.arange(number), gone).tolist():
        record = orjson.loads(lines[ends[row] : ends[row + 1]])
        kind, box = record["category"], record["box"]
        record["category"] = None if kind is None else DEEPFASHION2.category(kind)
        record["box"] = None if box is None else tuple(box)
        yield GalleryItem(**record), vectors[row]


def _inside(folder: Path, name: str) -> Path:
    """A file of a folder. Raises: GalleryError: the name leads elsewhere."""
    if not re.fullmatch(r"[\w-][\w.-]*", name):
        raise GalleryError(f"{folder} is damaged: {name!r} is no name of a file in it")
    return folder / name
