"""Search through FAISS. Skipped where it is not installed, but for what is said then."""

import numpy as np
import pytest

from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.retrieval.gallery import index as gallery_index
from match_rcnn.retrieval.gallery import items as gallery_items
from match_rcnn.retrieval.gallery import search as gallery_search
from match_rcnn.retrieval.gallery.export import ScoreForm
from match_rcnn.retrieval.gallery.gallery import Gallery
from match_rcnn.retrieval.gallery.items import GalleryError, GalleryItem, MissingPackageError
from match_rcnn.retrieval.scoring import MatchScorer

DIM = 8
category = DEEPFASHION2.category


@pytest.fixture
def faiss(monkeypatch):
    """FAISS, which searches are to go through however few items pass."""
    monkeypatch.setattr(gallery_search, "FEW", 0)
    return pytest.importorskip("faiss")


@pytest.fixture(params=["negative", "mixed", "positive"])
def weight(request):
    values = np.random.default_rng(5).uniform(0.2, 2, DIM)
    signs = {"negative": -1, "mixed": np.where(np.arange(DIM) % 3, -1, 1), "positive": 1}
    return values * signs[request.param]


def clustered(rng, number, groups=12):
    centers = np.random.default_rng(7).normal(size=(groups, DIM)) * 2
    which = rng.integers(0, groups, number)
    return (centers[which] + rng.normal(size=(number, DIM)) + 5).astype(np.float32), which


def make(folder, weight, number=1500):
    rng = np.random.default_rng(0)
    vectors, which = clustered(rng, number)
    gallery = Gallery.create(folder, MatchScorer(weight, 0.5))
    items = [GalleryItem(f"{i:05}", category(int(which[i]) + 1)) for i in range(number)]
    gallery.add(items, vectors)
    return gallery, vectors, which


def mean_shared(left, right):
    """How many items two results of the same queries share, in the mean."""
    pairs = zip(left, right, strict=True)
    return np.mean([len({h.item.id for h in a} & {h.item.id for h in b}) for a, b in pairs])


def test_the_euclidean_form_is_the_match_score(weight):
    rng = np.random.default_rng(1)
    queries, items = rng.normal(3, 1, (4, DIM)), rng.normal(3, 1, (30, DIM))
    form = ScoreForm.of(MatchScorer(weight, 0.5), items, [items[:9], items[9:]], "euclidean")
    assert form.size == 16
    assert form.items(items)[:, DIM].any() == (weight > 0).any()
    assert not form.items(items)[:, DIM + 1 :].any()
    distance = np.square(form.queries(queries)[:, None] - form.items(items)[None]).sum(-1)
    scores = ((queries[:, None] - items[None]) ** 2) @ weight
    constant = distance + scores
    np.testing.assert_allclose(constant, constant[:, :1].repeat(30, 1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", gallery_index.KINDS)
def test_every_kind_finds_what_the_exact_search_finds(faiss, tmp_path, weight, kind):
    gallery, _, _ = make(tmp_path / "index", weight)
    info = gallery.build_index(kind, target_recall=0.99, k=10, num_queries=50)
    assert (info["kind"], info["k"], info["queries"], info["items"]) == (kind, 10, 50, 1500)
    assert info["recall"] >= 0.99
    queries, _ = clustered(np.random.default_rng(2), 40)
    exact = gallery.search(queries, 10, method="exact")
    found = Gallery.open(gallery.folder).search(queries, 10, method="index")
    assert mean_shared(exact, found) >= 9.5
    if kind == "flat":
        assert found == exact
    by_id = gallery.search(queries[:1], 1500, method="exact")[0]
    exact_scores = {hit.item.id: hit.score for hit in by_id}
    assert all(hit.score == pytest.approx(exact_scores[hit.item.id]) for hit in found[0])


@pytest.mark.parametrize("kind", gallery_index.KINDS)
def test_filters_come_before_the_index(faiss, tmp_path, kind):
    gallery, vectors, which = make(tmp_path / "index", np.full(DIM, -1.0))
    gallery.build_index(kind, target_recall=0.5, k=5, num_queries=20)
    query = vectors[which == 0][:3]  # far from the group that is asked for
    inside = int((which == 4).sum())
    for k in (20, inside, inside + 5):
        hits = gallery.search(query, k, category=5, method="index")
        assert [len(h) for h in hits] == [min(k, inside)] * 3
        assert {hit.item.category.id for h in hits for hit in h} == {5}
    few = gallery.search(query, 9, where=lambda item: item.id in ("00007", "00042"), method="index")
    assert [sorted(hit.item.id for hit in h) for h in few] == [["00007", "00042"]] * 3
    assert gallery.search(query, 9, where=lambda item: False, method="index") == [[], [], []]


def test_a_filter_that_the_querys_surroundings_do_not_pass(faiss, tmp_path):
    gallery, vectors, which = make(tmp_path / "index", np.full(DIM, -1.0), 4000)
    gallery.build_index("ivf", target_recall=0.95, k=5, num_queries=20)
    far = vectors[which == 0][:40]
    for kind in (3, 5, 11):
        exact = gallery.search(far, 5, category=kind, method="exact")
        found = gallery.search(far, 5, category=kind, method="index")
        assert mean_shared(exact, found) >= 4.5
        assert gallery.measure_recall(far, 5, kind) >= 0.9


@pytest.mark.parametrize("kind", ["ivf", "flat"])
def test_what_comes_and_goes_after_the_index_was_built(faiss, tmp_path, kind):
    gallery, vectors, _ = make(tmp_path / "index", np.full(DIM, -1.0))
    gallery.build_index(kind, target_recall=1.0, k=5, num_queries=20)
    query = vectors[3]
    assert gallery.search(query, 1, method="index")[0][0].item.id == "00003"
    gallery.remove(["00003"])
    gallery.add([GalleryItem("new", category(2))], [query + 0.001])
    gallery.replace([GalleryItem("00009", category(3))], [query + 0.01])
    assert [h.item.id for h in gallery.search(query, 2, method="index")[0]] == ["new", "00009"]
    hits = gallery.search(query, 9, category=[2, 3], method="index")[0]
    assert [h.item.id for h in hits[:2]] == ["new", "00009"]
    assert hits == gallery.search(query, 9, category=[2, 3], method="exact")[0]
    assert gallery.index_info["items"] == 1498
    gallery.compact()
    assert gallery.index_info["items"] == 1500
    assert [h.item.id for h in gallery.search(query, 2, method="index")[0]] == ["new", "00009"]
    assert len(list(gallery.folder.glob("index-*"))) == 1


def test_removing_all_that_is_indexed_drops_the_index(faiss, tmp_path):
    gallery, vectors, _ = make(tmp_path / "index", np.full(DIM, -1.0), 60)
    gallery.build_index("ivf", k=5)
    gallery.add([GalleryItem("new")], vectors[:1])
    gallery.remove(f"{i:05}" for i in range(60))
    assert gallery.index_info is None
    gallery.compact()
    assert not list(gallery.folder.glob("index-*"))
    assert gallery.search(vectors[0], 5)[0][0].item.id == "new"


@pytest.mark.parametrize("number", [1, 2, 39])
@pytest.mark.parametrize("kind", gallery_index.KINDS)
def test_small_galleries(faiss, tmp_path, kind, number):
    gallery, vectors, _ = make(tmp_path / "index", np.full(DIM, -1.0), number)
    assert gallery.build_index(kind, num_queries=10)["recall"] == 1
    assert len(gallery.search(vectors[0], 50, method="index")[0]) == number


def test_auto_takes_the_index_for_many_items_only(faiss, tmp_path, monkeypatch):
    gallery, vectors, _ = make(tmp_path / "index", np.full(DIM, -1.0))
    gallery.build_index("flat", num_queries=10)
    asked = []
    real = gallery_search.SnapshotSearch.through
    monkeypatch.setattr(
        gallery_search.SnapshotSearch,
        "through",
        lambda *arguments: asked.append(1) or real(*arguments),
    )
    gallery.search(vectors[0])
    assert not asked
    monkeypatch.setattr(gallery_search, "EXACT_BELOW", 1000)
    gallery.search(vectors[0], category=1)
    assert not asked
    gallery.search(vectors[0])
    assert asked


def test_recall_is_measured_against_the_exact_search(faiss, tmp_path):
    gallery, _, _ = make(tmp_path / "index", np.full(DIM, -1.0), 3000)
    gallery.build_index("ivf", target_recall=0.0, k=10, num_queries=20)
    queries, _ = clustered(np.random.default_rng(3), 60)
    exact = gallery.search(queries, 10, method="exact")
    found = gallery.search(queries, 10, method="index")
    expected = mean_shared(exact, found) / 10
    assert gallery.measure_recall(queries, 10) == pytest.approx(expected)
    assert 0.1 < expected < 1  # one cluster of 76 misses some


def test_recall_counts_ties_and_short_results():
    exact = (np.array([[3.0, 2.0]]), np.array([[0, 1]]))
    assert gallery_search.recall((np.array([[3.0, 2.0]]), np.array([[0, 7]])), exact) == 1
    assert gallery_search.recall((np.array([[3.0, 1.0]]), np.array([[0, 7]])), exact) == 0.5
    nothing = (np.zeros((3, 0)), np.zeros((3, 0), int))
    assert gallery_search.recall(nothing, nothing) == 1


def test_a_query_of_the_gallery_is_not_its_own_result():
    found = (np.array([[9.0, 5, 4], [9, 8, 7]]), np.array([[3, 1, 2], [4, 5, 6]]))
    scores, rows = gallery_search.without(found, np.array([3, 0]), 2)
    assert scores.tolist() == [[5, 4], [9, 8]]
    assert rows.tolist() == [[1, 2], [4, 5]]


def test_an_index_of_an_empty_gallery_and_an_unknown_kind(faiss, tmp_path):
    gallery = Gallery.create(tmp_path / "index", MatchScorer.euclidean(2))
    with pytest.raises(GalleryError, match="is empty"):
        gallery.build_index()
    gallery.add([GalleryItem("a")], [[0, 0]])
    with pytest.raises(ValueError, match="of kind flat, ivf, hnsw; got 'tree'"):
        gallery.build_index("tree")
    with pytest.raises(GalleryError, match="no index to search through; build_index"):
        gallery.search(np.zeros(2), method="index")


def test_without_faiss(tmp_path, monkeypatch, caplog):
    real = gallery_items.importlib.import_module

    def absent(name):
        if name == "faiss":
            raise ImportError(f"No module named {name!r}")
        return real(name)

    gallery, vectors, _ = make(tmp_path / "index", np.full(DIM, -1.0), 50)
    monkeypatch.setattr(gallery_items.importlib, "import_module", absent)
    with pytest.raises(MissingPackageError, match=r"pip install match_rcnn\[index\]"):
        gallery.build_index()
    assert gallery.index_info is None
    assert gallery.search(vectors[0])[0][0].item.id == "00000"


def test_a_gallery_with_an_index_is_searched_without_faiss(faiss, tmp_path, monkeypatch, caplog):
    gallery, vectors, _ = make(tmp_path / "index", np.full(DIM, -1.0), 50)
    gallery.build_index("ivf")

    real = gallery_items.importlib.import_module

    def absent(name):
        if name == "faiss":
            raise ImportError(name)
        return real(name)

    monkeypatch.setattr(gallery_items.importlib, "import_module", absent)
    monkeypatch.setattr(gallery_search, "EXACT_BELOW", 0)
    again = Gallery.open(gallery.folder)
    assert again.search(vectors[0])[0][0].item.id == "00000"
    assert "without the index" in caplog.text
    with pytest.raises(MissingPackageError, match=r"pip install match_rcnn\[index\]"):
        again.search(vectors[0], method="index")


def test_few_that_pass_are_all_looked_at(monkeypatch, tmp_path):
    """However little the index looks at: what one in 300 has is found by exact scores."""
    pytest.importorskip("faiss")
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(6000, DIM)).astype(np.float32)
    gallery = Gallery.create(tmp_path / "index", MatchScorer.euclidean(DIM))
    gallery.add((GalleryItem(str(n), fields={"rare": n % 300}) for n in range(6000)), vectors)
    gallery.build_index("ivf", target_recall=0.0, num_queries=10)
    gallery.remove(["7"])
    gallery.add([GalleryItem("late", fields={"rare": 7})], [vectors[0]])
    for method in ("index", "auto", "exact"):
        (hits,) = gallery.search(vectors[0], 30, where="rare = 7", method=method)
        assert hits[0].item.id == "late"
        others = np.arange(307, 6000, 300)
        order = others[np.argsort(((vectors[others] - vectors[0]) ** 2).sum(1), kind="stable")]
        assert [hit.item.id for hit in hits[1:]] == [str(n) for n in order]
    for method in ("index", "auto"):
        found = gallery.search(vectors[:3], 20, where="rare < 150", method=method)
        assert [len(hits) for hits in found] == [20, 20, 20]


@pytest.mark.parametrize("kind", ["ivf", None])
def test_ten_thousand_that_were_removed_are_never_found(tmp_path, kind):
    pytest.importorskip("faiss")
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(30_000, DIM)).astype(np.float32)
    gallery = Gallery.create(tmp_path / "index", MatchScorer.euclidean(DIM))
    gallery.add((GalleryItem(str(n), fields={"n": n}) for n in range(30_000)), vectors)
    if kind:
        gallery.build_index(kind, num_queries=10)
    gone = {str(n) for n in range(0, 30_000, 3)}
    assert gallery.remove(gone) == 10_000
    for reader in (gallery, Gallery.open(gallery.folder, cache_bytes=0)):
        for where in (None, "n < 15000", "n < 30"):
            for hits in reader.search(vectors[:300:3], 50, where=where):
                assert len(hits) == (20 if where == "n < 30" else 50)
                assert not gone & {hit.item.id for hit in hits}


def test_a_name_that_leads_out_of_the_gallery_is_refused(faiss, tmp_path):
    gallery, vectors, _ = make(tmp_path / "index", np.full(DIM, -1.0), 60)
    gallery.build_index("flat", num_queries=10)
    noted = gallery._snapshot.state["index"]
    gallery._store.note(index={**noted, "name": "../elsewhere"})
    with pytest.raises(GalleryError, match=r"its index is called '\.\./elsewhere'"):
        Gallery.open(gallery.folder).search(vectors[0], method="index")
