import dataclasses
import sys
import tracemalloc

import numpy as np
import pytest

from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.retrieval.gallery.gallery import Gallery
from match_rcnn.retrieval.gallery.items import (
    Fingerprint,
    GalleryError,
    GalleryItem,
    Hit,
    MissingPackageError,
    parse_category,
    parse_filter,
)
from match_rcnn.retrieval.scoring import MatchScorer

EUCLIDEAN = MatchScorer.euclidean(2)
category = DEEPFASHION2.category
SKIRT, SHORTS = category(9), category(7)


@pytest.fixture
def gallery(tmp_path):
    return Gallery.create(tmp_path / "index", EUCLIDEAN)


@pytest.fixture
def line(gallery):
    """Twenty items on a line, every fourth a skirt, the others shorts."""
    items = [
        GalleryItem(f"i{n}", SHORTS if n % 4 else SKIRT, fields={"price": n}) for n in range(20)
    ]
    gallery.add(items, [[n, 0] for n in range(20)])
    return gallery


def ids(hits):
    return [hit.item.id for hit in hits]


def test_an_item_comes_back_whole(gallery):
    item = GalleryItem(
        "Größe 38/日本",
        category(9),
        "a/b.jpg",
        (0.5, 1, 2, 3),
        0.25,
        "product 3",
        ("floral", "midi"),
        {"sku": 7, "tags": ["x", None], "deep": {"a": 1.5}},
    )
    gallery.add([item, GalleryItem("bare")], np.array([[1, 2], [3, 4]]))
    again = Gallery.open(gallery.folder)
    assert again.get("Größe 38/日本") == item
    assert list(again) == [item, GalleryItem("bare")]
    assert "bare" in again
    assert "other" not in again
    np.testing.assert_array_equal(again.vectors(["bare", item.id]), [[3, 4], [1, 2]])


def test_scores_of_hand_worked_pairs(tmp_path):
    # w . (q - g)^2 + b with w = (-2, 0.5), b = 1
    gallery = Gallery.create(tmp_path / "index", MatchScorer(np.array([-2.0, 0.5]), 1.0))
    gallery.add([GalleryItem("near"), GalleryItem("far")], [[1, 1], [0, 4]])
    ((first, second),) = gallery.search(np.array([1, 0]))
    assert (first.item.id, first.score) == ("far", -2 * 1 + 0.5 * 16 + 1)
    assert (second.item.id, second.score) == ("near", 0.5 * 1 + 1)


def test_probability_is_the_sigmoid():
    item = GalleryItem("x")
    assert Hit(item, 0.0).probability == 0.5
    assert Hit(item, np.log(3)).probability == pytest.approx(0.75)
    assert Hit(item, -np.log(3)).probability == pytest.approx(0.25)
    assert [Hit(item, s).probability for s in (-1e4, 1e4)] == [0, 1]


def test_a_category_is_filtered_before_the_search(line):
    query = np.array([10, 0])
    assert ids(line.search(query, 3)[0]) == ["i10", "i9", "i11"]
    assert ids(line.search(query, 3, category="skirt")[0]) == ["i8", "i12", "i4"]
    assert ids(line.search(query, 3, category=[SKIRT, 7])[0]) == ["i10", "i9", "i11"]
    assert ids(line.search(query, 9, category=9)[0]) == ["i8", "i12", "i4", "i16", "i0"]
    assert line.search(query, 3, category="vest")[0] == []


def test_an_item_without_category_is_found_without_filter_only(line):
    line.add([GalleryItem("none")], [[10, 0]])
    assert ids(line.search(np.array([10, 0]), 2)[0]) == ["i10", "none"]
    everything = line.search(np.array([10, 0]), 30, category=DEEPFASHION2.categories)[0]
    assert len(everything) == 20
    assert "none" not in ids(everything)


def test_any_predicate_is_filtered_before_the_search(line):
    hits = line.search(np.array([[10, 0], [0, 0]]), 2, where=lambda item: item.fields["price"] > 17)
    assert [ids(h) for h in hits] == [["i18", "i19"], ["i18", "i19"]]
    hits = line.search(
        np.array([10, 0]), 2, category="skirt", where=lambda item: item.fields["price"] < 8
    )
    assert ids(hits[0]) == ["i4", "i0"]
    assert line.search(np.array([10, 0]), 2, where=lambda item: False) == [[]]


def test_an_empty_gallery(gallery):
    assert len(gallery) == 0
    assert list(gallery) == []
    assert gallery.search(np.zeros((3, 2)), 5) == [[], [], []]
    assert gallery.search(np.zeros((0, 2)), 5) == []
    assert gallery.add([], []) == 0
    assert gallery.remove([]) == 0
    gallery.compact()
    with pytest.raises(ValueError, match="has no item 'x'"):
        gallery.get("x")


def test_removing_all_leaves_an_empty_gallery(line):
    line.remove(f"i{n}" for n in range(20))
    assert len(line) == 0
    assert line.search(np.zeros(2)) == [[]]
    line.compact()
    assert list(Gallery.open(line.folder)) == []


@pytest.mark.parametrize(
    ("items", "vectors", "message"),
    [
        (["i3"], [[0, 0]], r"has an item 'i3' already \(1 such ids\); replace"),
        (["a", "b", "a"], [[0, 0]] * 3, "id 'a' comes twice"),
        (["a"], [[0, 0, 0]], r"item 'a': expected a vector of 2 numbers, got shape \(3,\)"),
        (["a", "b"], [[0, 0], [0, np.nan]], "item 'b': its vector is not finite"),
        (["a", "b"], [[0, 0]], "shorter"),
        (["a"], [[0, 0], [0, 0]], "longer"),
        ([""], [[0, 0]], "an id that is a text and not empty, got ''"),
    ],
)
def test_what_cannot_be_added_changes_nothing(line, items, vectors, message):
    with pytest.raises(ValueError, match=message):
        line.add([GalleryItem(i) for i in items], vectors)
    assert len(line) == 20
    assert len(Gallery.open(line.folder)) == 20


def test_fields_must_fit_into_json(line):
    with pytest.raises(ValueError, match="item 'a' does not fit into JSON"):
        line.add([GalleryItem("a", fields={"x": object()})], [[0, 0]])
    line.add([GalleryItem("b", fields={"x": np.float32(0.5)})], [[0, 0]])
    assert line.get("b").fields == {"x": 0.5}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"queries": np.zeros((1, 3))}, r"queries of shape \(Q, 2\), got \(1, 3\)"),
        ({"queries": np.full(2, np.inf)}, "not finite"),
        ({"k": 0}, "k must be at least 1"),
        ({"category": "trouser"}, "one of the categories short sleeve top, .*got 'trouser'"),
        ({"category": 14}, "got 14"),
        ({"category": []}, "empty collection"),
        ({"method": "quick"}, "expected a method of auto, exact, index"),
    ],
)
def test_a_search_names_what_is_wrong(line, arguments, message):
    with pytest.raises(ValueError, match=message):
        line.search(**{"queries": np.zeros(2), **arguments})


def test_category_filters():
    assert parse_filter(None, DEEPFASHION2) is None
    assert parse_filter("short_sleeved_shirt", DEEPFASHION2) == ("short sleeve top",)
    assert parse_filter([np.int64(9), "shorts", SKIRT], DEEPFASHION2) == ("shorts", "skirt")
    assert parse_category(9, DEEPFASHION2) == SKIRT


def test_other_weights_are_refused(tmp_path):
    own = Fingerprint("a" * 64, "c" * 64, "runs/first.pth")
    Gallery.create(tmp_path / "index", EUCLIDEAN, own)
    renamed = Fingerprint(own.weights, own.config, "elsewhere.pth")
    assert Gallery.open(tmp_path / "index", renamed).fingerprint == own
    for other in (
        Fingerprint("b" * 64, own.config, "runs/second.pth"),
        Fingerprint(own.weights, "d" * 64, "runs/second.pth"),
    ):
        with pytest.raises(GalleryError, match=r"runs/first.pth.*runs/second.pth") as raised:
            Gallery.open(tmp_path / "index", other)
        assert other.weights[:12] in str(raised.value)
        assert other.config[:12] in str(raised.value)
    Gallery.create(tmp_path / "unmarked", EUCLIDEAN)
    with pytest.raises(GalleryError, match="without a fingerprint"):
        Gallery.open(tmp_path / "unmarked", own)


def test_what_is_no_gallery_is_refused(tmp_path, gallery):
    with pytest.raises(FileNotFoundError, match="no gallery at"):
        Gallery.open(tmp_path / "nowhere")
    with pytest.raises(GalleryError, match=r"there is a gallery at .* already"):
        Gallery.create(gallery.folder, EUCLIDEAN)
    old = tmp_path / "old"
    old.mkdir()
    (old / "manifest.json").write_text('{"format": 1}')
    with pytest.raises(
        GalleryError, match=r"of format 1; match-rcnn index --convert .*old --output"
    ):
        Gallery.open(old)


def test_notes_and_scorer_are_kept(tmp_path):
    scorer = MatchScorer(np.array([-1 / 3, 1e-8]), 0.125)
    gallery = Gallery.create(tmp_path / "index", scorer, notes={"a": 1})
    gallery.note(b=[2])
    again = Gallery.open(tmp_path / "index")
    assert again.notes == {"a": 1, "b": [2]}
    assert again.scorer.weight.tolist() == [-1 / 3, 1e-8]
    assert again.scorer.bias == 0.125


def test_many_additions_make_few_fragments(gallery):
    for n in range(40):
        gallery.add([GalleryItem(str(n))], [[n, 0]])
    assert len(gallery._snapshot.dataset.get_fragments()) <= 16
    assert [item.id for item in gallery] == [str(n) for n in range(40)]
    assert ids(gallery.search(np.array([30, 0]), 3)[0]) == ["30", "29", "31"]


@pytest.mark.parametrize("queries", [1, 3, 20])
@pytest.mark.parametrize("cache_bytes", [0, 2000, 10**9])
def test_exact_search_in_and_out_of_memory(tmp_path, monkeypatch, cache_bytes, queries):
    monkeypatch.setattr("match_rcnn.retrieval.gallery.search.BLOCK", 16)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(100, 4)).astype(np.float32)
    weight = rng.normal(size=4)
    made = Gallery.create(tmp_path / "index", MatchScorer(weight, 0.5))
    kinds = rng.integers(1, 4, 100)
    items = [GalleryItem(f"{i:03}", category(int(kinds[i]))) for i in range(100)]
    made.add(items[:60], vectors[:60])
    made.add(items[60:], vectors[60:])
    gallery = Gallery.open(tmp_path / "index", cache_bytes=cache_bytes)
    queries = rng.normal(size=(queries, 4)).astype(np.float32)
    expected = ((queries[:, None].astype(float) - vectors[None]) ** 2) @ weight + 0.5
    for allowed in ([1, 2, 3], [2], [1, 3], [2], [1, 2, 3]):
        inside = np.flatnonzero(np.isin(kinds, allowed))
        for hits, scores in zip(
            gallery.search(queries, 7, category=allowed), expected[:, inside], strict=True
        ):
            order = inside[np.argsort(-scores, kind="stable")[:7]]
            assert ids(hits) == [f"{i:03}" for i in order]
            assert [h.score for h in hits] == pytest.approx(np.sort(scores)[::-1][:7])


def test_opening_reads_next_to_nothing(tmp_path):
    made = Gallery.create(tmp_path / "index", MatchScorer.euclidean(64))
    made.add((GalleryItem(str(i)) for i in range(20_000)), np.ones((20_000, 64), np.float32))
    Gallery.open(tmp_path / "index").get("1")  # modules are loaded now
    tracemalloc.start()
    gallery = Gallery.open(tmp_path / "index")
    assert len(gallery) == 20_000
    assert gallery.get("777").id == "777"
    assert tracemalloc.get_traced_memory()[1] < 500_000  # the vectors take 5,120,000 bytes
    tracemalloc.stop()


def test_where_is_sql_over_the_fields(line):
    query = np.array([10, 0])
    assert ids(line.search(query, 2, where="price > 17")[0]) == ["i18", "i19"]
    assert ids(line.search(query, 3, category="skirt", where="price < 8")[0]) == ["i4", "i0"]
    assert ids(line.search(query, 2, where="image IS NULL AND id = 'i3'")[0]) == ["i3"]
    both = ("price > 12", lambda item: item.fields["price"] % 5 == 0)
    assert ids(line.search(query, 9, where=both)[0]) == ["i15"]
    assert line.search(query, 2, where="price > 99") == [[]]
    for wrong in ("price >", "prize > 3", "price = 'a' +"):
        with pytest.raises(ValueError, match=r"no condition over id, category, .*price"):
            line.search(query, 2, where=wrong)


def test_sql_sees_what_other_writers_and_changes_left(line):
    """Indices of the columns are built for the first items only; what comes later counts too."""
    line._store.index_columns(0)
    line.add([GalleryItem("new", SKIRT, fields={"price": 3, "shop": "o'neill"})], [[50, 0]])
    line.replace([GalleryItem("i3", SKIRT, fields={"price": 70.5})], [[3, 0]])
    line.remove(["i2"])
    query = np.array([0, 0])
    assert ids(line.search(query, 9, where="price <= 4")[0]) == ["i0", "i1", "i4", "new"]
    assert ids(line.search(query, 9, where="shop = 'o''neill'")[0]) == ["new"]
    assert ids(line.search(query, 9, where="price = 70.5")[0]) == ["i3"]
    line.compact()
    assert ids(line.search(query, 9, where="price <= 4")[0]) == ["i0", "i1", "i4", "new"]
    assert ids(line.search(query, 9, category="skirt", where="price > 60")[0]) == ["i3"]


def test_a_field_has_a_column_of_its_first_values_type(gallery):
    gallery.add(
        [
            GalleryItem(
                "a", fields={"x": 1, "Color": "red", "sale": True, "tags": ["n"], "a b": 1}
            ),
            GalleryItem("b", fields={"x": "text", "category": "mine"}),
            GalleryItem("c", fields={"x": 2.5, "late": "l"}),
        ],
        np.zeros((3, 2)),
    )
    assert gallery.columns == {"x": "double", "Color": "string", "sale": "bool", "late": "string"}
    assert gallery.get("b").fields == {"x": "text", "category": "mine"}
    query = np.zeros(2)
    assert ids(gallery.search(query, where="x < 3")[0]) == ["a", "c"]
    assert ids(gallery.search(query, where="Color = 'red' AND sale")[0]) == ["a"]
    assert ids(gallery.search(query, where="category IS NULL AND late = 'l'")[0]) == ["c"]


def test_attributes_and_products_in_sql(gallery):
    gallery.add(
        [
            GalleryItem("a", product="p1", attributes=("floral", "long")),
            GalleryItem("b", product="p2", attributes=("long",)),
            GalleryItem("c"),
        ],
        np.zeros((3, 2)),
    )
    for _ in range(2):
        assert ids(gallery.search(np.zeros(2), where="product = 'p2'")[0]) == ["b"]
        found = gallery.search(np.zeros(2), where="array_has(attributes, 'long')")[0]
        assert ids(found) == ["a", "b"]
        gallery.compact()


def test_results_by_photo_and_by_product(gallery):
    items = [
        GalleryItem("a0", image="a.jpg"),
        GalleryItem("a1", image="a.jpg"),
        GalleryItem("a2", image="a.jpg", product="p"),
        GalleryItem("b0", image="b.jpg", product="p"),
        GalleryItem("c0", image="c.jpg"),
        GalleryItem("bare"),
    ]
    gallery.add(items, [[n, 0] for n in range(6)])
    query = np.zeros((2, 2))
    by_photo = ["a0", "b0", "c0", "bare"]
    by_product = ["a0", "a2", "c0", "bare"]
    for k in (1, 2, 3, 4, 9):
        for group_by, expected in (("photo", by_photo), ("product", by_product)):
            found = gallery.search(query, k, group_by=group_by)
            assert [ids(hits) for hits in found] == [expected[:k]] * 2
    assert ids(gallery.search(query[0], 3)[0]) == ["a0", "a1", "a2"]
    with pytest.raises(ValueError, match="expected to group by product or photo, got 'shop'"):
        gallery.search(query, group_by="shop")


def test_an_item_of_another_taxonomy_is_refused(gallery):
    cape = dataclasses.replace(SKIRT, name="cape")
    with pytest.raises(ValueError, match="item 'x': 'cape' is no category of the gallery's"):
        gallery.add([GalleryItem("x", cape)], [[0, 0]])


def test_photos_are_noted_with_their_items(gallery):
    gallery.add([GalleryItem("old"), GalleryItem("x#0")], [[1, 1], [2, 2]])
    gallery.take_in([GalleryItem("x#0"), GalleryItem("x#1")], [[3, 3], [4, 4]], ["x", "empty"])
    assert gallery.images == {"x", "empty"}
    assert sorted(item.id for item in gallery) == ["old", "x#0", "x#1"]
    assert gallery.vectors(["x#0", "old", "x#0"]).tolist() == [[3, 3], [1, 1], [3, 3]]


def test_without_lance(tmp_path, monkeypatch):
    """Importing works; what needs it names the extra."""
    monkeypatch.setitem(sys.modules, "lance", None)
    with pytest.raises(MissingPackageError, match=r"pip install match_rcnn\[gallery\]"):
        Gallery.create(tmp_path / "index", EUCLIDEAN)
    with pytest.raises(MissingPackageError, match=r"pip install match_rcnn\[gallery\]"):
        Gallery.open(tmp_path / "index")
    assert not list(tmp_path.iterdir())
