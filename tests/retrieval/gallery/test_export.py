"""Galleries as Parquet. Skipped without pyarrow, but for what is said then."""

import json

import numpy as np
import pytest

from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.retrieval.gallery import items as gallery_items
from match_rcnn.retrieval.gallery.export import parquet_form
from match_rcnn.retrieval.gallery.gallery import Gallery
from match_rcnn.retrieval.gallery.items import Fingerprint, GalleryItem, MissingPackageError
from match_rcnn.retrieval.scoring import MatchScorer


@pytest.fixture
def parquet():
    return pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def gallery(tmp_path):
    rng = np.random.default_rng(0)
    made = Gallery.create(
        tmp_path / "index", MatchScorer(rng.normal(size=6), -0.5), Fingerprint("w", "c", "m.pth")
    )
    vectors = rng.normal(100, 1, size=(50, 6)).astype(np.float32)
    items = [
        GalleryItem(f"i{n}", DEEPFASHION2.category(n % 13 + 1), "a.jpg", (0, 1, 2, 3))
        for n in range(49)
    ]
    made.add([*items, GalleryItem("bare", fields={"sku": [1]})], vectors)
    made.remove(["i7"])
    return made


def test_inner_products_of_the_file_are_the_match_scores(parquet, gallery, tmp_path):
    path = tmp_path / "out" / "items.parquet"
    gallery.export(path, rows_per_group=20)
    form = parquet_form(path)
    table = parquet.read_table(path)
    assert parquet.ParquetFile(path).num_row_groups == 3
    vectors = np.stack(table["vector"].to_numpy())
    assert vectors.shape == (49, 7)
    assert vectors.dtype == np.float32
    queries = np.random.default_rng(1).normal(100, 1, size=(4, 6)).astype(np.float32)
    assert form.metric == "inner product"
    products = form.scores(queries, form.queries(queries).astype(float) @ vectors.T)
    ids = table["id"].to_pylist()
    for row, hits in zip(products, gallery.search(queries, 49), strict=True):
        assert [ids[i] for i in np.argsort(-row)] == [hit.item.id for hit in hits]
        assert np.sort(row)[::-1] == pytest.approx([hit.score for hit in hits], abs=1e-4)


def test_metadata_lie_beside_the_vectors(parquet, gallery, tmp_path):
    gallery.export(tmp_path / "items.parquet")
    rows = {row["id"]: row for row in parquet.read_table(tmp_path / "items.parquet").to_pylist()}
    assert "i7" not in rows
    del rows["i8"]["vector"], rows["bare"]["vector"]
    assert rows["i8"] == {
        "id": "i8",
        "category": "skirt",
        "image": "a.jpg",
        "box": [0, 1, 2, 3],
        "score": None,
        "product": None,
        "attributes": [],
        "fields": "{}",
    }
    assert json.loads(rows["bare"]["fields"]) == {"sku": [1]}
    assert rows["bare"]["category"] is rows["bare"]["box"] is None
    noted = json.loads(parquet.read_schema(tmp_path / "items.parquet").metadata[b"match_rcnn"])
    assert noted["fingerprint"] == {"weights": "w", "config": "c", "name": "m.pth"}
    assert noted["bias"] == -0.5


def test_an_empty_gallery(parquet, tmp_path):
    gallery = Gallery.create(tmp_path / "index", MatchScorer.euclidean(3))
    gallery.export(tmp_path / "items.parquet")
    assert parquet.read_table(tmp_path / "items.parquet").num_rows == 0


def test_without_pyarrow(gallery, tmp_path, monkeypatch):
    real = gallery_items.importlib.import_module

    def absent(name):
        if name == "pyarrow.parquet":
            raise ImportError(name)
        return real(name)

    monkeypatch.setattr(gallery_items.importlib, "import_module", absent)
    with pytest.raises(MissingPackageError, match=r"pip install match_rcnn\[gallery\]"):
        gallery.export(tmp_path / "items.parquet")
    assert not (tmp_path / "items.parquet").exists()
