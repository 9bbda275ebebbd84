"""Galleries of format 1, written here as their description says."""

import json

import numpy as np
import orjson
import pytest

from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.retrieval.gallery.convert import convert
from match_rcnn.retrieval.gallery.gallery import Gallery
from match_rcnn.retrieval.gallery.items import Fingerprint, GalleryError, GalleryItem

SKIRT = DEEPFASHION2.category(9)


def write_segment(folder, name, records, vectors, removed=()):
    """One segment; returns its entry for the manifest."""
    path = folder / "segments" / name
    path.mkdir(parents=True)
    lines = [orjson.dumps(record) + b"\n" for record in records]
    (path / "records.jsonl").write_bytes(b"".join(lines))
    np.cumsum([0, *map(len, lines)]).astype("<i8").tofile(path / "offsets.i64")
    np.array(vectors, "<f4").tofile(path / "vectors.f32")
    np.array(removed, "<i8").tofile(path / "removed-2.i64")
    entry = {"name": name, "rows": len(records), "num_removed": len(removed)}
    return {**entry, "removed": "removed-2.i64" if len(removed) else None}


def record(name, category=None, box=None, score=None, image=None, **fields):
    kind = {"category": category, "image": image, "box": box, "score": score}
    return {"id": name, **kind, "fields": fields}


@pytest.fixture
def old(tmp_path):
    folder = tmp_path / "old"
    first = [
        record("a", 9, [0, 1, 2.5, 3], 0.5, "a.jpg", price=3),
        record("gone"),
        record("b", tags=["x"]),
    ]
    entries = [
        write_segment(folder, "one", first, [[1, 2], [3, 4], [5, 6]], [1]),
        write_segment(folder, "two", [record("c")], [[7, 8]]),
    ]
    (folder / "images-3.json").write_text('["a.jpg", "empty.jpg"]')
    manifest = {"format": 1, "dim": 2, "weight": [-1, 0.5], "bias": 0.25, "version": 3}
    manifest |= {"fingerprint": {"weights": "w", "config": "c", "name": "m"}, "notes": {"n": 1}}
    manifest |= {"segments": entries, "index": None, "images": "images-3.json", "adopted": []}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_what_an_old_gallery_holds(old, tmp_path):
    assert convert(old, tmp_path / "new") == 3
    # the weights are compared; of what settings "c" was the fingerprint, nobody knows any more
    gallery = Gallery.open(tmp_path / "new", Fingerprint("w", "today's"))
    with pytest.raises(GalleryError, match="other weights"):
        Gallery.open(tmp_path / "new", Fingerprint("v", "c"))
    assert list(gallery) == [
        GalleryItem("a", SKIRT, "a.jpg", (0, 1, 2.5, 3), 0.5, fields={"price": 3}),
        GalleryItem("b", fields={"tags": ["x"]}),
        GalleryItem("c"),
    ]
    assert gallery.vectors(["c", "a", "b"]).tolist() == [[7, 8], [1, 2], [5, 6]]
    assert (gallery.notes, gallery.images) == ({"n": 1}, {"a.jpg", "empty.jpg"})
    assert (gallery.scorer.weight.tolist(), gallery.scorer.bias) == ([-1, 0.5], 0.25)


@pytest.mark.parametrize("name", ["../two", "/etc", "one/two", "", ".."])
@pytest.mark.parametrize("key", ["name", "removed", "images"])
def test_names_that_lead_elsewhere_are_refused(old, tmp_path, key, name):
    manifest = json.loads((old / "manifest.json").read_text())
    if key == "images":
        manifest[key] = name or "../x"
    else:
        manifest["segments"][0][key] = name or "../x"
    (old / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(GalleryError, match="is no name of a file in it"):
        convert(old, tmp_path / "new")


def test_damaged_and_missing_ones(old, tmp_path):
    (old / "segments/two/vectors.f32").write_bytes(b"1234")
    with pytest.raises(GalleryError, match=r"vectors.f32 is damaged"):
        convert(old, tmp_path / "new")
    with pytest.raises(FileNotFoundError):
        convert(tmp_path / "nowhere", tmp_path / "other")
