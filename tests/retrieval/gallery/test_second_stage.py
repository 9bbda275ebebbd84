"""Features that galleries keep, and searches that a similarity orders."""

import dataclasses

import numpy as np
import pytest
import torch

from match_rcnn.modeling.similarity import Similarity
from match_rcnn.retrieval.gallery.gallery import Gallery
from match_rcnn.retrieval.gallery.items import GalleryError, GalleryItem, Hit
from match_rcnn.retrieval.scoring import MatchScorer
from match_rcnn.retrieval.second_stage import SecondStage

SHAPES = {"vector": (2,), "regions": (3, 2)}


class Nearest(Similarity):
    """Minus the distance of the nearest regions, and a bit of the vectors'."""

    def features(self):
        return SHAPES

    def forward(self, queries, items):
        apart = queries["regions"][:, None, :, None] - items["regions"][:, :, None]
        near = apart.square().sum(-1).amin((2, 3))
        return -near - 0.01 * (queries["vector"][:, None] - items["vector"]).square().sum(-1)


def made(number, seed=0):
    """Items, vectors and regions that float16 holds exactly."""
    generator = np.random.default_rng(seed)
    regions = generator.integers(-40, 40, (number, 3, 2)) / 8
    items = [
        GalleryItem(f"i{n}", product=f"p{n % 7}", fields={"price": n}, features={"regions": r})
        for n, r in enumerate(regions)
    ]
    return items, generator.normal(size=(number, 2)).astype(np.float32)


@pytest.fixture
def gallery(tmp_path):
    gallery = Gallery.create(tmp_path / "index", MatchScorer.euclidean(2), features=SHAPES)
    gallery.add(*made(60))
    return gallery


@pytest.fixture
def queries():
    generator = np.random.default_rng(1)
    vectors = generator.normal(size=(4, 2)).astype(np.float32)
    return vectors, {"regions": generator.normal(size=(4, 3, 2)).astype(np.float32)}


def one_by_one(gallery, items, vectors, queries, k, shortlist, passes=lambda item: True):
    """The slow reference: each pair is scored by itself."""
    found = []
    for vector, regions in zip(queries[0], queries[1]["regions"], strict=True):
        known = [n for n, item in enumerate(items) if passes(item)]
        product = {n: -float(((vectors[n].astype(float) - vector) ** 2).sum()) for n in known}
        known.sort(key=lambda n: -product[n])

        query = {"vector": vector[None], "regions": regions[None]}

        def similarity(n, query=query):
            own = {"vector": vectors[n], "regions": items[n].features["regions"]}
            asked = {name: torch.as_tensor(v) for name, v in query.items()}
            there = {name: torch.as_tensor(v).float()[None, None] for name, v in own.items()}
            return Nearest()(asked, there).item()

        said = {n: similarity(n) for n in known[:shortlist]}
        order = sorted(said, key=lambda n: -said[n]) + known[shortlist:]
        found.append([(items[n].id, said.get(n)) for n in order[:k]])
    return found


def told(hits):
    return [[(hit.item.id, hit.similarity) for hit in row] for row in hits]


def assert_told(hits, expected):
    assert [[i for i, _ in row] for row in told(hits)] == [[i for i, _ in row] for row in expected]
    for row, own in zip(told(hits), expected, strict=True):
        for (_, found), (_, wanted) in zip(row, own, strict=True):
            assert found == (None if wanted is None else pytest.approx(wanted, abs=1e-5))


@pytest.mark.parametrize(("k", "shortlist"), [(5, 20), (20, 5), (100, 60), (1, 1), (10, 1000)])
def test_the_order_is_that_of_pairs_one_by_one(gallery, queries, k, shortlist):
    second = SecondStage(Nearest(), queries[1], shortlist)
    expected = one_by_one(gallery, *made(60), queries, k, shortlist)
    assert_told(gallery.search(queries[0], k, second=second), expected)


def test_blocks_of_queries_give_the_same(gallery, queries, monkeypatch):
    held = []

    class Seen(Nearest):
        def forward(self, queries, items):
            held.append(sum(value.numel() for value in items.values()))
            return super().forward(queries, items)

    second = SecondStage(Seen(), queries[1], 20)
    whole = gallery.search(queries[0], 10, second=second)
    monkeypatch.setattr("match_rcnn.retrieval.second_stage._NUMBERS", 2 * 20 * 8)
    assert told(gallery.search(queries[0], 10, second=second)) == told(whole)
    assert held == [4 * 20 * 8, 2 * 20 * 8, 2 * 20 * 8]


def test_filters_come_before_the_shortlist(gallery, queries):
    second = SecondStage(Nearest(), queries[1], 8)
    hits = gallery.search(queries[0], 5, where="price >= 40", second=second)

    def even(item):
        return item.fields["price"] % 2 == 0

    made_items = made(60)
    assert_told(
        hits, one_by_one(gallery, *made_items, queries, 5, 8, lambda i: i.fields["price"] >= 40)
    )
    both = gallery.search(queries[0], 5, where=even, second=second)
    assert_told(both, one_by_one(gallery, *made_items, queries, 5, 8, even))
    assert gallery.search(queries[0], 5, where="price < 0", second=second) == [[]] * 4


def test_groups_are_of_the_second_order(gallery, queries):
    second = SecondStage(Nearest(), queries[1], 10)
    hits = gallery.search(queries[0], 7, group_by="product", second=second)
    whole = one_by_one(gallery, *made(60), queries, 60, 10)
    products = {item.id: item.product for item in made(60)[0]}
    for row, own in zip(hits, whole, strict=True):
        firsts = list({products[i]: i for i, _ in reversed(own)}.values())
        assert sorted(hit.item.id for hit in row) == sorted(firsts)
        places = [[i for i, _ in own].index(hit.item.id) for hit in row]
        assert places == sorted(places)


def test_without_a_similarity_nothing_changes(gallery, queries):
    for row in gallery.search(queries[0], 5):
        assert [hit.similarity for hit in row] == [None] * 5
        assert [hit.score for hit in row] == sorted((hit.score for hit in row), reverse=True)


def test_equal_similarities_stay_in_the_first_order(gallery, queries):
    class Same(Nearest):
        def forward(self, queries, items):
            return items["vector"].new_zeros(items["vector"].shape[:2])

    plain = gallery.search(queries[0], 9)
    same = gallery.search(queries[0], 9, second=SecondStage(Same(), queries[1], 5))
    assert [[h.item.id for h in r] for r in same] == [[h.item.id for h in r] for r in plain]


def test_a_hit_has_both_scores():
    hit = Hit(GalleryItem("x"), -3.0, float(np.log(3)))
    assert hit.probability == pytest.approx(0.75)
    assert Hit(GalleryItem("x"), float(np.log(3))).probability == pytest.approx(0.75)


def test_features_go_through_the_life_of_a_gallery(gallery, queries, tmp_path):
    items, vectors = made(60)
    reader = Gallery.open(gallery.folder)
    gallery.remove([f"i{n}" for n in range(0, 60, 3)])
    new = dataclasses.replace(items[1], features={"regions": np.full((3, 2), 2.5)})
    gallery.replace([new], vectors[1:2])
    gallery.add([dataclasses.replace(items[0], id="late")], vectors[:1])
    gallery.compact()
    again = Gallery.open(gallery.folder)
    np.testing.assert_array_equal(again.vectors(["i1"], "regions")[0], np.full((3, 2), 2.5))
    kept = again.vectors(["late", "i2"], "regions")
    np.testing.assert_array_equal(kept, [items[n].features["regions"] for n in (0, 2)])
    left = [(i, v) for i, v in zip(items, vectors, strict=True) if int(i.id[1:]) % 3]
    left = [(new if i.id == "i1" else i, v) for i, v in left]
    left.append((dataclasses.replace(items[0], id="late"), vectors[0]))
    second = SecondStage(Nearest(), queries[1], 12)
    now, own = [i for i, _ in left], np.array([v for _, v in left])
    assert_told(
        again.search(queries[0], 9, second=second),
        one_by_one(again, now, own, queries, 9, 12),
    )
    # A reader keeps the version that it opened.
    assert_told(
        reader.search(queries[0], 9, second=second),
        one_by_one(reader, items, vectors, queries, 9, 12),
    )
    form = again.export(tmp_path / "items.parquet")
    assert form.size == 16
    assert "regions" not in again.columns


def test_features_are_float16(gallery):
    features = {"regions": np.full((3, 2), 1 / 3)}
    gallery.add([GalleryItem("third", features=features)], [[0, 0]])
    np.testing.assert_array_equal(gallery.vectors(["third"], "regions"), np.float16(1 / 3))


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({}, r"item 'x': the gallery keeps .*'regions': \(3, 2\).*got"),
        ({"regions": np.zeros((2, 2))}, r"item 'x': .*\(2, 2\)"),
        ({"regions": np.zeros((3, 2)), "more": 1}, r"item 'x': .*'more': \(\)"),
        ({"regions": np.full((3, 2), 1e6)}, "item 'x': its regions is not finite"),
    ],
)
def test_features_that_do_not_fit(gallery, features, message):
    with pytest.raises(ValueError, match=message):
        gallery.add([GalleryItem("x", features=features)], [[0, 0]])
    assert "x" not in gallery


def test_a_feature_cannot_be_called_as_a_column_is(tmp_path):
    with pytest.raises(ValueError, match="no feature can be called 'box'"):
        Gallery.create(tmp_path / "other", MatchScorer.euclidean(2), features={"box": (4,)})


def test_a_gallery_without_the_features_says_what_to_do(tmp_path, queries):
    plain = Gallery.create(tmp_path / "plain", MatchScorer.euclidean(2))
    plain.add([GalleryItem("x")], [[0, 0]])
    with pytest.raises(GalleryError, match=r"'regions': \(3, 2\).*index the catalogue again"):
        plain.search(queries[0], second=SecondStage(Nearest(), queries[1]))
    # What a gallery always has is enough for a similarity of vectors.
    only = type("Plain", (Nearest,), {"features": lambda self: {"vector": (2,)}})()
    only.forward = lambda queries, items: items["vector"].sum(-1)
    ((hit,),) = plain.search(queries[0][:1], second=SecondStage(only, {}))
    assert (hit.item.id, hit.similarity) == ("x", 0.0)


def test_queries_that_do_not_fit(gallery, queries):
    vectors, features = queries
    wrong = [({}, 5), ({"regions": features["regions"][:2]}, 5)]
    for given, shortlist in wrong:
        with pytest.raises(ValueError, match="the similarity compares features"):
            gallery.search(vectors, second=SecondStage(Nearest(), given, shortlist))
    with pytest.raises(ValueError, match="at least 1 item, got 0"):
        gallery.search(vectors, second=SecondStage(Nearest(), features, 0))


def test_a_similarity_of_nan_is_told(gallery, queries):
    broken = type("Broken", (Nearest,), {"forward": lambda s, q, i: i["vector"].sum(-1) / 0 * 0})
    with pytest.raises(ValueError, match="not a finite number"):
        gallery.search(queries[0], second=SecondStage(broken(), queries[1]))


def test_an_index_finds_the_shortlist(tmp_path, queries):
    pytest.importorskip("faiss")
    gallery = Gallery.create(tmp_path / "index", MatchScorer.euclidean(2), features=SHAPES)
    gallery.add(*made(5000))
    gallery.build_index("flat")
    second = SecondStage(Nearest(), queries[1], 30)
    exact = gallery.search(queries[0], 10, method="exact", second=second)
    assert told(gallery.search(queries[0], 10, method="index", second=second)) == told(exact)
