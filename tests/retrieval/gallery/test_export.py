"""Galleries as Parquet and in databases; skipped where these are not installed."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

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
    gallery.export(path, metric="inner product")
    form = parquet_form(path)
    table = parquet.read_table(path)
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


# Databases: each is asked for the best 20 by its exact search, and once by its approximate index.


def ask_qdrant(gallery, queries, tmp_path, metric):
    client = pytest.importorskip("qdrant_client").QdrantClient(":memory:")
    form = gallery.export(client, to="qdrant", metric=metric)
    found = [
        client.query_points("match_rcnn_items", query=row.tolist(), limit=20).points
        for row in form.queries(queries)
    ]
    return form, [[(p.payload, p.score) for p in points] for points in found]


def ask_milvus(gallery, queries, tmp_path, metric):
    pytest.importorskip("milvus_lite")
    client = pytest.importorskip("pymilvus").MilvusClient(str(tmp_path / "milvus.db"))
    form = gallery.export(client, to="milvus", metric=metric)
    names = ["item", "category", "fields"]
    rows = form.queries(queries).tolist()
    found = client.search("match_rcnn_items", data=rows, limit=20, output_fields=names)
    client.close()
    return form, [
        [({**h["entity"], "id": h["entity"]["item"]}, h["distance"]) for h in hits]
        for hits in found
    ]


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    """A connection to a server of its own, where PostgreSQL and pgvector are installed."""
    psycopg = pytest.importorskip("psycopg")
    tools = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not tools or not list(Path("/usr/share/postgresql").glob("*/extension/vector.control")):
        pytest.skip("PostgreSQL with pgvector is not installed")
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # a short path: a socket's has a limit
    if os.getuid() == 0:  # the server refuses to run as root
        shutil.chown(folder, "postgres")
    owner = {"user": "postgres"} if os.getuid() == 0 else {}

    def run(*command):
        subprocess.run(command, check=True, capture_output=True, cwd=folder, **owner)

    run(tools[-1].with_name("initdb"), "-D", folder / "data", "-U", "postgres", "-A", "trust")
    options = f"-k {folder} -h ''"
    run(tools[-1], "-D", folder / "data", "-o", options, "-l", folder / "log", "-w", "start")
    try:
        with psycopg.connect(host=str(folder), user="postgres", dbname="postgres") as connection:
            yield connection
    finally:
        run(tools[-1], "-D", folder / "data", "-m", "immediate", "stop")
        shutil.rmtree(folder)


def ask_pgvector(gallery, queries, postgres, metric, index=""):
    with postgres.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS match_rcnn_items")
        form = gallery.export(postgres, to="pgvector", metric=metric)
        operator, kind = {"euclidean": ("<->", "l2"), "inner product": ("<#>", "ip")}[form.metric]
        if index:
            classes = f"vector vector_{kind}_ops"
            cursor.execute(f"CREATE INDEX ON match_rcnn_items USING {index} ({classes})")
            cursor.execute("SET enable_seqscan = off")
        else:
            cursor.execute("SET enable_seqscan = on")
        found = []
        for row in form.queries(queries):
            order = f"vector {operator} %s::vector"
            cursor.execute(
                f"SELECT id, category, fields::text, {order} FROM match_rcnn_items "
                f"ORDER BY {order} LIMIT 20",
                (str(row.tolist()), str(row.tolist())),
            )
            # <#> is the negative inner product.
            sign = -1 if operator == "<#>" else 1
            rows = cursor.fetchall()
            found.append([({"id": i, "category": c, "fields": f}, sign * s) for i, c, f, s in rows])
    return form, found


@pytest.fixture(params=["negative, euclidean", "mixed, euclidean", "mixed, inner product"])
def scored(request, tmp_path):
    rng = np.random.default_rng(3)
    signs, metric = request.param.split(", ")
    weight = -rng.uniform(0.2, 1, 8) if signs == "negative" else rng.normal(size=8)
    made = Gallery.create(tmp_path / "index", MatchScorer(weight, 0.5))
    kinds = [DEEPFASHION2.category(n % 13 + 1) for n in range(500)]
    items = [GalleryItem(f"i{n}", kinds[n], fields={"price": n}) for n in range(500)]
    made.add(items, rng.normal(5, 1, (500, 8)).astype(np.float32))
    made.remove(["i3", "i77"])
    queries = rng.normal(5, 1, (7, 8)).astype(np.float32)
    return made, queries, metric


def check_answers(gallery, queries, form, found):
    for hits, expected in zip(found, gallery.search(queries, 20), strict=True):
        assert [payload["id"] for payload, _ in hits] == [hit.item.id for hit in expected]
        for (payload, _), hit in zip(hits, expected, strict=True):
            assert payload["category"] == hit.item.category.name
            assert json.loads(payload["fields"]) == hit.item.fields
    answers = [[answer for _, answer in hits] for hits in found]
    scores = [[hit.score for hit in hits] for hits in gallery.search(queries, 20)]
    np.testing.assert_allclose(form.scores(queries, answers), scores, atol=1e-4)


@pytest.mark.parametrize("ask", [ask_qdrant, ask_milvus])
def test_an_embedded_database_gives_our_order(scored, tmp_path, ask):
    gallery, queries, metric = scored
    form, found = ask(gallery, queries, tmp_path, metric)
    assert form.metric == metric
    check_answers(gallery, queries, form, found)


def test_pgvector_gives_our_order(scored, postgres):
    gallery, queries, metric = scored
    form, found = ask_pgvector(gallery, queries, postgres, metric)
    assert form.metric == metric
    check_answers(gallery, queries, form, found)


def test_an_index_of_pgvector_finds_most(scored, postgres):
    gallery, queries, metric = scored
    _, found = ask_pgvector(gallery, queries, postgres, metric, "hnsw")
    shared = [
        len({payload["id"] for payload, _ in hits} & {hit.item.id for hit in expected})
        for hits, expected in zip(found, gallery.search(queries, 20), strict=True)
    ]
    # Graphs on the inner-product form find less: docs/gallery.md.
    assert np.mean(shared) / 20 > {"euclidean": 0.95, "inner product": 0.6}[metric]


def test_what_cannot_be_exported(gallery, tmp_path):
    with pytest.raises(ValueError, match="parquet, qdrant, milvus, pgvector; got 'sqlite'"):
        gallery.export(tmp_path, to="sqlite")
    with pytest.raises(ValueError, match="expected a metric of euclidean, inner product"):
        gallery.export(tmp_path / "x.parquet", metric="cosine")
    with pytest.raises(ValueError, match="a plain name for the table, got 'a; b'"):
        gallery.export(None, to="pgvector", table="a; b")
